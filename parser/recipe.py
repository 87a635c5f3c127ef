"""How a source is to be read: what a producer needs to build its engine, as a message.

A recipe is plain data and crosses a pipe; the engine is built on the other side, once for equal
recipes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from parser.errors import ParserError

if TYPE_CHECKING:
    from parser.extract import Engine
    from parser.format import Format

__all__ = ["Recipe", "message_of_format", "read_format"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A format, and how to read with it."""

    format: Format
    multiline: bool = False
    tz: str = "UTC"
    year_hint_ms: int | None = None
    """The file's modification time: year-less times do not lie after it."""
    expected_bytes: int = 0
    """How much will be read by one process; decides which engine is done first."""
    filters: dict[str, Any] = field(default_factory=dict)

    def message(self) -> dict[str, Any]:
        """Return the recipe as a map of plain values."""
        return {
            "format": message_of_format(self.format),
            "multiline": self.multiline,
            "tz": self.tz,
            "year_hint_ms": self.year_hint_ms,
            "expected_bytes": self.expected_bytes,
            "filters": self.filters,
        }

    @classmethod
    def read(cls, message: dict[str, Any]) -> Recipe:
        """Return what ``message`` gave. Raises FormatError or LayoutError."""
        return cls(**{**message, "format": read_format(message["format"])})

    @property
    def joins(self) -> bool:
        """Whether continuation lines are joined to their event."""
        return self.multiline and self.format.joins

    def starts_event(self) -> Callable[[bytes], bool] | None:
        """Return the rule for where a range may begin; None when every line will do."""
        if not self.joins:
            return None
        fmt = self.format
        # an empty line belongs to nobody: what continues an event may follow it
        return lambda line: bool(line.strip(b" \t\r\n\0")) and fmt.starts_event(line.rstrip(b"\n"))

    def engine(self) -> Engine:
        """Build the engine that is done first with so much to read."""
        from parser.extract import engine_for
        from parser.times import zone_named

        if self.filters:
            from parser.filters import FilteredInterpreter, Filters

            return FilteredInterpreter(
                Filters.read(self.filters),
                self.format,
                multiline=self.multiline,
                tz=zone_named(self.tz),
                year_hint_ms=self.year_hint_ms,
            )
        make = partial(
            engine_for,
            self.format,
            multiline=self.multiline,
            tz=zone_named(self.tz),
            year_hint_ms=self.year_hint_ms,
        )
        try:
            return make(expected_bytes=self.expected_bytes)
        except ParserError:
            raise
        except Exception as error:
            if not self.expected_bytes:
                raise
            import logging  # here and nowhere else: every producer would pay for it

            # a compiler that does not work here costs speed, not the log
            logging.getLogger(__name__).warning(
                "reading %s slowly, no kernel: %s: %s",
                self.format.name,
                type(error).__name__,
                str(error).partition("\n")[0],
            )
            return make(expected_bytes=0)


def message_of_format(fmt: Format) -> dict[str, Any]:
    """Return a format as the texts it was made from."""
    return {
        "name": fmt.name,
        "layouts": [layout.text for layout in fmt.layouts],
        "regex": "" if fmt.regex is None else fmt.regex.pattern,
        "kind": fmt.kind if fmt.kind in {"json", "logfmt"} else "",
        "time_format": fmt.time_format,
        "keys": [rule.text for rule in fmt.keys],
        "tags": list(fmt.tags),
        "numbers": list(fmt.numbers),
        "level": fmt.level,
    }


def read_format(message: dict[str, Any]) -> Format:
    """Return what ``message_of_format`` gave."""
    from parser.format import make_format

    regex = message["regex"]
    if isinstance(regex, bytes):
        regex = regex.decode("utf-8", "surrogateescape")
    return make_format(**{**message, "regex": regex})
