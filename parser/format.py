"""What a format is: the form of a log's lines, and what is taken from them.

A format that was made can be used: its fields, keys, times and its regular expression fit together.
Whatever does not is refused here, with a sentence that names the mistake.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from parser.errors import FormatError, LayoutError
from parser.layout import KeyRule, Layout, parse_key_rule, parse_layout
from parser.times import compile_time

__all__ = ["CONTINUATION", "Format", "make_format"]


@dataclass(frozen=True)
class Format:
    """What a log's lines look like and what is taken from them; made by make_format."""

    name: str
    title: str
    kind: str
    """How a line is read: "layout", "regex", "json" or "logfmt"."""
    example: bytes
    layouts: tuple[Layout, ...] = ()
    regex: re.Pattern[bytes] | None = None
    time_format: str = ""
    """Of a --regex: the %strptime text of its time; without it the usual ones are tried."""
    keys: tuple[KeyRule, ...] = ()
    tags: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    level: str = "level"

    @cached_property
    def joins(self) -> bool:
        """Whether lines of this format can be told from continuation lines."""
        return self.kind == "layout" and all(layout.anchored for layout in self.layouts)

    def starts_event(self, line: bytes) -> bool:
        """Whether a line is an event of its own, not the continuation of the one before.

        A continuation is an indented line, or a line as stack traces have them; a line that is
        merely malformed is not, so that it is counted as unparsed.
        """
        return not (self.joins and CONTINUATION.match(line) is not None)


CONTINUATION: Final = re.compile(
    rb"[ \t]+[^ \t\r\n]"
    rb"|Caused by: |Suppressed: |Traceback \(|\.\.\. [0-9]"
    rb"|[A-Za-z_$][0-9A-Za-z_$.]*(?:Exception|Error|Throwable)(?:[:\r\n ]|$)"
)
"""How a continuation line begins."""


def make_format(
    name: str,
    *,
    layouts: Sequence[str] = (),
    regex: str = "",
    kind: str = "",
    time_format: str = "",
    keys: Sequence[str] = (),
    tags: Sequence[str] = (),
    numbers: Sequence[str] = (),
    level: str = "level",
    title: str = "",
    example: str = "",
) -> Format:
    """Build a format from texts. Raises LayoutError or FormatError."""
    if bool(layouts) + bool(regex) + bool(kind) != 1:
        raise FormatError(f"format {name!r}: give a layout, or a regex, or a kind")
    if kind and kind not in {"json", "logfmt"}:
        raise FormatError(f"format {name!r}: the kinds are json and logfmt, not {kind!r}")
    if time_format:
        compile_time(time_format)
    compiled = None
    if regex:
        try:
            compiled = re.compile(regex.encode("utf-8", "surrogateescape"))
        except re.error as error:
            raise FormatError(f"not a regular expression: {error} (in {regex!r})") from error
        if not compiled.groupindex:
            raise FormatError(f"the regular expression has no named group (?P<name>…): {regex!r}")
    parsed = tuple(parse_layout(text) for text in layouts)
    rules = tuple(parse_key_rule(text) for text in keys)
    fields = {known for layout in parsed for known in layout.names}
    if compiled is not None:
        fields = {*compiled.groupindex, "content"}
    if not kind:
        for used in [*(f for rule in rules for f in rule.fields), *tags, *numbers]:
            if used not in fields:
                have = ", ".join(sorted(fields))
                raise LayoutError(f"format {name!r} has no field {used!r}; it has {have}")
    return Format(
        name,
        title or name,
        kind or ("regex" if regex else "layout"),
        example.encode("utf-8", "surrogateescape"),
        parsed,
        compiled,
        time_format,
        rules,
        tuple(tags),
        tuple(numbers),
        level,
    )
