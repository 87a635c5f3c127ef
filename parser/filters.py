"""Which events count: by field, time, level and error code.

A filter is plain data (it crosses a pipe to the producers as a map), and ``matches`` is the one
definition of what it means. All conditions must hold; several values for one field, several levels
or several codes are alternatives. An event without a time is outside of every span of time.

The compiled kernel does not filter: a filtered run reads with the interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from parser.errors import FilterError
from parser.extract import Event
from parser.interpreter import Interpreter

__all__ = [
    "ERROR_CODES",
    "LEVEL_NAMES",
    "FilteredInterpreter",
    "Filters",
    "level_names",
    "parse_codes",
    "parse_where",
]

ERROR_CODES: Final = (400, 401, 403, 404, 405, 500, 501, 502, 503, 504, 505)
"""What counts as an error code when none are named."""

STATUS_FIELDS: Final = ("status", "status_code", "code", "http_status", "http.status_code")
"""Where an event says how it ended; one that has none of these is searched for the number."""

LEVEL_NAMES: Final = (
    ("WARN", "WARNING"),
    ("ERR", "ERROR"),
    ("CRIT", "CRITICAL"),
    ("EMERG", "EMERGENCY"),
    ("INFO", "INFORMATION"),
)
"""Spellings of one level; asking for either finds both."""


_NOT_WORD: Final = re.compile(rb"[^0-9A-Za-z]+")


def level_names(text: str) -> frozenset[str]:
    """Read ``WARN,ERROR`` as level names in capital letters, other spellings included."""
    asked = {name.strip().upper() for name in text.split(",")}
    if "" in asked:
        raise FilterError(f"{text!r}: a level is missing between the commas")
    for spellings in LEVEL_NAMES:
        if asked.intersection(spellings):
            asked.update(spellings)
    return frozenset(asked)


def parse_where(text: str) -> tuple[str, str]:
    """Read ``field=value``. Raises FilterError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise FilterError(f"{text!r}: expected field=value")
    return name.strip(), value


def parse_codes(text: str) -> tuple[int, ...]:
    """Read ``400,401,500``; nothing means the usual ones. Raises FilterError."""
    if not text.strip():
        return ERROR_CODES
    codes = []
    for part in text.split(","):
        code = part.strip()
        if not (code.isascii() and code.isdecimal() and len(code) <= 9):
            raise FilterError(f"{text!r}: error codes are numbers, as in 400,404,500")
        codes.append(int(code))
    return tuple(codes)


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions on events."""

    where: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    since_ms: int | None = None
    """At this time or later."""
    until_ms: int | None = None
    """At this time or earlier."""
    levels: frozenset[str] = frozenset()
    """In capital letters."""
    codes: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        """Whether there is any condition."""
        return bool(
            self.where
            or self.levels
            or self.codes
            or self.since_ms is not None
            or self.until_ms is not None
        )

    @classmethod
    def of(
        cls,
        *,
        where: Iterable[tuple[str, str]] = (),
        since_ms: int | None = None,
        until_ms: int | None = None,
        levels: Iterable[str] = (),
        codes: Iterable[int] = (),
    ) -> Filters:
        """Make filters from what options say."""
        fields: dict[str, frozenset[bytes]] = {}
        for name, value in where:
            raw = value.encode("utf-8", "surrogateescape")
            fields[name] = fields.get(name, frozenset()) | {raw}
        return cls(
            fields,
            since_ms,
            until_ms,
            frozenset(levels),
            frozenset(str(code).encode() for code in codes),
        )

    def message(self) -> dict[str, Any]:
        """Return the filters as plain values; empty when there is no condition."""
        if not self:
            return {}
        return {
            "where": {name: sorted(values) for name, values in self.where.items()},
            "since_ms": self.since_ms,
            "until_ms": self.until_ms,
            "levels": sorted(self.levels),
            "codes": sorted(self.codes),
        }

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> Filters:
        """Return what ``message`` gave."""
        return cls(
            {name: frozenset(values) for name, values in message.get("where", {}).items()},
            message.get("since_ms"),
            message.get("until_ms"),
            frozenset(message.get("levels", ())),
            frozenset(message.get("codes", ())),
        )

    def matches(self, event: Event) -> bool:
        """Whether every condition holds for an event."""
        if self.since_ms is not None and (event.time_ms is None or event.time_ms < self.since_ms):
            return False
        if self.until_ms is not None and (event.time_ms is None or event.time_ms > self.until_ms):
            return False
        if self.levels and (
            event.level is None or event.level.decode("latin-1").upper() not in self.levels
        ):
            return False
        if self.where and not all(_has(event, name, values) for name, values in self.where.items()):
            return False
        return not self.codes or _has_code(event, self.codes)


def _has(event: Event, name: str, values: frozenset[bytes]) -> bool:
    value = event.fields.get(name)
    if value is not None:
        return value in values
    if name == "level":
        return event.level in values
    return name == "key" and not values.isdisjoint(event.keys)


def _has_code(event: Event, codes: frozenset[bytes]) -> bool:
    for name in STATUS_FIELDS:
        status = event.fields.get(name)
        if status is not None:
            return status in codes
    return not codes.isdisjoint(_NOT_WORD.sub(b" ", event.content).split())


class FilteredInterpreter(Interpreter):
    """Takes the keys from events that do not match, so that they count as skipped."""

    def __init__(self, filters: Filters, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.filters = filters
        self._dropped: Event | None = None

    def parse_line(self, line: bytes, offset: int = 0) -> Event | None:
        """Read one line; see Interpreter."""
        event = super().parse_line(line, offset)
        if event is not None and not self.filters.matches(event):
            event.keys.clear()
            self._dropped = event
        return event

    def join(self, event: Event, line: bytes) -> None:
        """Add a continuation line; those of a dropped event bring no keys either."""
        super().join(event, line)
        if event is self._dropped:
            event.keys.clear()
