"""How a line of each kind of format is read: into its time, level, message and fields.

Layouts become regular expressions that match in one way only, so the compiled kernel can follow the
same rules without a step back. What a reader returns has no keys yet; a line that does not have the
form is None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from parser.extract import Event
from parser.format import Format
from parser.layout import TYPES, Field, Layout, Literal, Mark
from parser.times import Clock, TimeFormat, compile_time, guess_time

__all__ = ["Reader", "layout_expression", "reader_of"]

_MEMORY: Final = 65_536

Reader: TypeAlias = Callable[[bytes], Event | None]


def reader_of(fmt: Format, clock: Clock) -> Reader:
    """Return the function that reads a line of the format."""
    match fmt.kind:
        case "json":
            return lambda line: _read_json(line, fmt, clock)
        case "logfmt":
            return lambda line: _read_logfmt(line, fmt, clock)
        case "regex":
            return _regex_reader(fmt, clock)
    readers = [_layout_reader(layout, fmt, clock) for layout in fmt.layouts]
    if len(readers) == 1:
        return readers[0]

    def read(line: bytes) -> Event | None:
        for reader in readers:
            event = reader(line)
            if event is not None:
                return event
        return None

    return read


def _layout_reader(layout: Layout, fmt: Format, clock: Clock) -> Reader:
    match = re.compile(layout_expression(layout), re.DOTALL).fullmatch
    names = [_group_name(part) for part in layout.parts]
    kept = [name for name in names if name is not None]
    times = [
        (at, part.time)
        for at, part in enumerate(part for part in layout.parts if _group_name(part) is not None)
        if isinstance(part, Field) and part.time is not None
    ]
    known: dict[tuple[bytes, ...], tuple[int | None, bool]] = {}

    def read(line: bytes) -> Event | None:
        found = match(line)
        if found is None:
            return None
        values = found.groups()
        moment = None
        if times:
            texts = tuple(values[at] for at, _ in times)
            told = known.get(texts)
            if told is None:
                if len(known) >= _MEMORY:
                    known.clear()
                told = known[texts] = _moment([form for _, form in times], texts, clock)
            moment, valid = told
            if not valid:
                return None
        fields = dict(zip(kept, values, strict=True))
        fields.pop("_", None)
        return Event(moment, fields.get(fmt.level), [], fields["content"], fields)

    return read


def _group_name(part: Field | Literal | Mark) -> str | None:
    """The name under which a part's text is kept, if it is."""
    if isinstance(part, Field) and (part.name != "_" or part.time is not None):
        return part.name
    return "content" if isinstance(part, Mark) and part.begins else None


def _moment(
    forms: list[TimeFormat], texts: tuple[bytes, ...], clock: Clock
) -> tuple[int | None, bool]:
    parts: dict[str, int] = {}
    for form, text in zip(forms, texts, strict=True):
        if not form.read(text, parts):
            return None, False
    return clock.moment(parts)


def layout_expression(layout: Layout) -> bytes:
    """Return the layout as a regular expression with a group for every field that is kept."""
    out = ""
    for at, part in enumerate(layout.parts):
        if isinstance(part, Literal):
            out += _literal(part.text)
        elif isinstance(part, Mark):
            out += "(" if part.begins else ")"
        else:
            grouped = _group_name(part) is not None
            out += _field(part, _next_literal(layout, at), grouped=grouped)
    return out.encode("latin-1")


def _next_literal(layout: Layout, at: int) -> bytes | None:
    for part in layout.parts[at + 1 :]:
        if isinstance(part, Literal):
            return part.text
    return None


def _literal(text: bytes) -> str:
    stripped = text.rstrip(b" ")
    out = re.sub(r"\\ ", " ++", re.escape(stripped.decode("latin-1")))
    return out + (r"(?: ++|\Z)" if len(stripped) < len(text) else "")


def _field(part: Field, until: bytes | None, *, grouped: bool) -> str:
    begin, end = ("(", ")") if grouped else ("(?:", ")")
    if part.time is not None:
        return begin + part.time.pattern + end
    if part.type == "quoted":
        return f'"{begin}{TYPES["quoted"][1:-1]}{end}"'
    if not part.open:
        return begin + TYPES[part.type] + end
    allowed = "[^ ]" if part.type == "word" else "."
    if until is None:
        return f"{begin}{allowed}*+{end}"
    times = "+" if until.startswith(b" ") else "*"
    if until == b" ":
        return f"{begin}[^ ]++{end}"
    return f"{begin}(?:(?!{_literal(until)}){allowed}){times}{end}"


_TIME_NAMES: Final = ("time", "timestamp", "ts", "@timestamp", "datetime", "date", "t")
_LEVEL_NAMES: Final = ("level", "severity", "lvl", "log.level", "levelname", "loglevel", "priority")
_CONTENT_NAMES: Final = ("message", "msg", "content", "log", "event", "text")


def _regex_reader(fmt: Format, clock: Clock) -> Reader:
    regex = fmt.regex
    assert regex is not None
    form = compile_time(fmt.time_format) if fmt.time_format else None

    def read(line: bytes) -> Event | None:
        found = regex.search(line)
        if found is None:
            return None
        fields = {name: text for name, text in found.groupdict().items() if text is not None}
        stamp = b" ".join(fields[name] for name in ("date", "time") if name in fields)
        stamp = stamp or fields.get("timestamp", b"")
        moment: int | None = None
        if form is not None and stamp:
            moment, valid = _moment([form], (stamp,), clock)
            if not valid:
                return None
        elif stamp:
            moment = guess_time(stamp, clock)
        content = next((fields[name] for name in _CONTENT_NAMES if name in fields), line)
        fields["content"] = content
        return Event(moment, fields.get(fmt.level), [], content, fields)

    return read


def _read_json(line: bytes, fmt: Format, clock: Clock) -> Event | None:
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        shown = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    fields: dict[str, bytes] = {}
    _flatten(shown, "", fields, 0)
    return _structured(line, fields, fmt, clock)


def _flatten(value: dict[str, Any], prefix: str, into: dict[str, bytes], depth: int) -> None:
    for name, item in value.items():
        path = prefix + name
        if isinstance(item, dict) and depth < 8:
            _flatten(item, path + ".", into, depth + 1)
        elif isinstance(item, str):
            into[path] = item.encode("utf-8", "surrogateescape" if _escaped(item) else "replace")
        elif item is not None:
            try:
                into[path] = json.dumps(item, ensure_ascii=False).encode("utf-8", "replace")
            except (ValueError, RecursionError):
                into[path] = b"?"


def _escaped(text: str) -> bool:
    """Whether every surrogate in the text stands for a byte that was not UTF-8."""
    return not any("\ud800" <= char <= "\udc7f" or "\udd00" <= char <= "\udfff" for char in text)


_PAIR: Final = re.compile(
    rb"[ \t]*([A-Za-z_@][0-9A-Za-z_.@/-]*)"
    rb'(?:=("(?:[^"\\]|\\.)*"(?=[ \t]|\Z)|[^ \t"]*))?(?=[ \t]|\Z)'
)
_FIRST_PAIR: Final = re.compile(rb"[ \t]*[A-Za-z_@][0-9A-Za-z_.@/-]*=")
_UNESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


def _read_logfmt(line: bytes, fmt: Format, clock: Clock) -> Event | None:
    if _FIRST_PAIR.match(line) is None:
        return None
    fields: dict[str, bytes] = {}
    at = 0
    while at < len(line):
        pair = _PAIR.match(line, at)
        if pair is None:
            return None
        value = b"true" if pair[2] is None else pair[2]
        if value.startswith(b'"'):
            value = _UNESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]), value[1:-1])
        fields[pair[1].decode("ascii")] = value
        at = pair.end()
    return _structured(line, fields, fmt, clock)


def _structured(line: bytes, fields: dict[str, bytes], fmt: Format, clock: Clock) -> Event:
    moment = None
    for name in _TIME_NAMES:
        if name in fields:
            moment = guess_time(fields[name], clock)
            if moment is not None:
                break
    names = (fmt.level, *_LEVEL_NAMES)
    level = next((fields[name] for name in names if name in fields), None)
    content = next((fields[name] for name in _CONTENT_NAMES if name in fields), line)
    fields["content"] = content
    return Event(moment, level, [], content, fields)
