"""What the events of a range add up to: a delta for each key, and the patterns.

An event counts once for each different key it has, and once for its pattern; one without a key
counts for neither. First and last go by time, then by where the event stands, not by the order in
which events are added.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import msgpack

from parser.extract import MAX_WORD_BYTES, Event, PatternSeen
from parser.format import Format
from parser.patterns import mask, pattern_id
from parser.summary import Position, Summary, pack

__all__ = ["Aggregate"]

_NUMBER: Final = re.compile(rb"(-?[0-9]{1,18})(?:\.[0-9]+)?")
"""A fraction is cut, as it is from times."""


@dataclass(slots=True)
class _Seen:
    text: bytes
    example: bytes
    first: Position
    last: Position
    count: int = 0


@dataclass(slots=True)
class Aggregate:
    """Adds up events by key and by pattern."""

    source: int
    matched: int = 0
    keys: dict[bytes, Summary] = field(default_factory=dict)
    patterns: dict[int, _Seen] = field(default_factory=dict)

    def add(self, event: Event, fmt: Format) -> None:
        """Count an event of a format."""
        if not event.keys:
            return
        self.matched += 1
        position = (event.time_ms, self.source, event.offset)
        masked = mask(event.content)
        event_id = pattern_id(masked)
        seen = self.patterns.get(event_id)
        if seen is None:
            seen = _Seen(masked, event.content, position, position)
            self.patterns[event_id] = seen
        seen.count += 1
        seen.first = min(seen.first, position, key=_earlier)
        seen.last = max(seen.last, position, key=_later)
        level = _word(event.level)
        tags = [(name, word) for name in fmt.tags if (word := _word(event.fields.get(name)))]
        numbers = [
            (name, int(found[1]))
            for name in fmt.numbers
            if (found := _NUMBER.fullmatch(event.fields.get(name, b"")))
        ]
        for key in event.keys:
            held = self.keys.get(key)
            if held is None:
                held = self.keys[key] = Summary(0, position, position)
            assert held.first is not None
            assert held.last is not None
            held.count += 1
            held.first = min(held.first, position, key=_earlier)
            held.last = max(held.last, position, key=_later)
            held.events[event_id] = held.events.get(event_id, 0) + 1
            if level:
                held.levels[level] = held.levels.get(level, 0) + 1
            for name, word in tags:
                words = held.tags.setdefault(name, {})
                words[word] = words.get(word, 0) + 1
            for name, value in numbers:
                _add_number(held, name, value)

    def packed(self) -> bytes:
        """Return the keys and their deltas, see RangeSummary."""
        packer = msgpack.Packer()
        parts = [packer.pack_array_header(2 * len(self.keys))]
        for key, summary in self.keys.items():
            parts += packer.pack(key), packer.pack(pack(summary))
        return b"".join(parts)

    def seen(self) -> dict[int, PatternSeen]:
        """Return the patterns by their id."""
        return {
            event_id: PatternSeen(seen.text, seen.count, seen.first, seen.last, seen.example)
            for event_id, seen in self.patterns.items()
        }


def _earlier(position: Position) -> tuple[bool, int, int, int]:
    return position[0] is None, position[0] or 0, position[1], position[2]


def _later(position: Position) -> tuple[bool, int, int, int]:
    return position[0] is not None, position[0] or 0, position[1], position[2]


def _word(text: bytes | None) -> str:
    if text is None or len(text) > MAX_WORD_BYTES:
        return ""
    return text.decode("utf-8", "surrogateescape")


_MIN: Final = -(2**63)
_MAX: Final = 2**63 - 1


def _add_number(summary: Summary, name: str, value: int) -> None:
    n, total, low, high = summary.numbers.get(name, (0, 0, value, value))
    total = max(_MIN, min(total + value, _MAX))
    summary.numbers[name] = (n + 1, total, min(low, value), max(high, value))
