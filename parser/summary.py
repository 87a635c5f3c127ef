"""One key's summary: what is known of an entity, and the algebra that combines such knowledge.

Guarantees, property-tested:

* ``merge`` is associative and commutative and ``Summary()`` is neutral, so summaries may be built
  in any number of pieces, anywhere, in any order. (The one exception: the sum of a number saturates
  at the ends of a signed 64-bit integer, and past that point order could show.)
* ``unpack(pack(s)) == s``.
* Every map is bounded. What is over goes to an entry named ``…`` and stays counted.

Packed form, a msgpack array of seven::

    [count, first, last, levels, events, tags, numbers]

    first, last   nil | [epoch ms | nil, source id u64, byte offset]
    levels        {name: n}
    events        {pattern id u64: n}
    tags          {field: {value: n}}
    numbers       {field: [n, sum, min, max]}, integers

A summary is also a log of its own deltas: packed summaries written one after the other are one
value, and ``fold`` reads it. Trailing empty parts may be left out: ``[1]`` is a delta too.

This module is of the ground floor, which is all that the server imports of this package: it imports
nothing of the project. As JSON it is in ``summaryjson``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgpack

__all__ = [
    "MAX_ENTRIES",
    "OTHER",
    "OTHER_EVENT",
    "Position",
    "Summary",
    "SummaryError",
    "checked",
    "fold",
    "mapping",
    "merge",
    "pack",
    "unpack",
]

MAX_ENTRIES: Final = 256
"""Entries a map keeps unless the caller says otherwise; the server makes it a setting."""

OTHER: Final = "…"
"""The name under which everything over the bound is counted."""

OTHER_EVENT: Final = 0
"""The same for pattern ids; no pattern has the id 0."""

NO_LINE: Final = (0, 0)
"""Source and offset of a time that came without a line; no log has the id 0."""

MAX_COUNT: Final = 2**64 - 1
_MIN_INT: Final = -(2**63)
_MAX_INT: Final = 2**63 - 1
_MIN_MS: Final = -62_135_596_800_000  # 0001-01-01T00:00:00Z
_MAX_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

Position: TypeAlias = tuple[int | None, int, int]
"""When and where a line is: epoch ms (None without a time), source id, byte offset."""


class SummaryError(ValueError):
    """The bytes or the text are not a summary; the message says what is wrong with them."""


@dataclass(slots=True)
class Summary:
    """What is known of one key. Mutable; ``merge`` never changes its arguments."""

    count: int = 0
    first: Position | None = None
    last: Position | None = None
    levels: dict[str, int] = field(default_factory=dict)
    events: dict[int, int] = field(default_factory=dict)
    tags: dict[str, dict[str, int]] = field(default_factory=dict)
    numbers: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)


# --------------------------------------------------------------------------------------- algebra


def merge(a: Summary, b: Summary, *, max_entries: int = MAX_ENTRIES) -> Summary:
    """Return what is known from both; neither argument changes."""
    total = Summary()
    _add(total, a)
    _add(total, b)
    _bound(total, max_entries)
    return total


def fold(data: bytes | bytearray | memoryview, *, max_entries: int = MAX_ENTRIES) -> Summary:
    """Read a log of packed deltas as the one summary it stands for.

    Costs about two microseconds a delta. Raises SummaryError when any part is not a summary.
    """
    total = Summary()
    for part in _parts(data):
        _add(total, part)
    _bound(total, max_entries)
    return total


def _add(into: Summary, other: Summary) -> None:
    into.count = min(into.count + other.count, MAX_COUNT)
    if other.first is not None and (into.first is None or _before(other.first, into.first)):
        into.first = other.first
    if other.last is not None and (into.last is None or _after(other.last, into.last)):
        into.last = other.last
    _add_counts(into.levels, other.levels)
    _add_counts(into.events, other.events)
    for name, values in other.tags.items():
        _add_counts(into.tags.setdefault(name, {}), values)
    for name, numbers in other.numbers.items():
        _add_number(into.numbers, name, numbers)


def _before(a: Position, b: Position) -> bool:
    """Order for ``first``: a line with a time counts before one without."""
    return (a[0] is None, a[0] or 0, a[1], a[2]) < (b[0] is None, b[0] or 0, b[1], b[2])


def _after(a: Position, b: Position) -> bool:
    """Order for ``last``: a line with a time counts after one without."""
    return (a[0] is not None, a[0] or 0, a[1], a[2]) > (b[0] is not None, b[0] or 0, b[1], b[2])


def _add_counts(into: dict[Any, int], other: Mapping[Any, int]) -> None:
    for name, n in other.items():
        into[name] = min(into.get(name, 0) + n, MAX_COUNT)


def _add_number(
    into: dict[str, tuple[int, int, int, int]], name: str, numbers: tuple[int, int, int, int]
) -> None:
    held = into.get(name)
    if held is None:
        into[name] = numbers
        return
    n, total, low, high = held
    n2, total2, low2, high2 = numbers
    into[name] = (
        min(n + n2, MAX_COUNT),
        max(_MIN_INT, min(total + total2, _MAX_INT)),
        min(low, low2),
        max(high, high2),
    )


def _bound(summary: Summary, max_entries: int) -> None:
    """Keep the smallest names of each map and count the rest under ``…``.

    Smallest, not most frequent: a name among the smallest of all is among the smallest of every
    part it occurs in, so it was never folded away before and its count is whole. A choice by
    frequency would depend on the order of merging.
    """
    _bound_counts(summary.levels, OTHER, max_entries)
    _bound_counts(summary.events, OTHER_EVENT, max_entries)
    for name in _over(summary.tags, OTHER, max_entries):
        rest = summary.tags.setdefault(OTHER, {})
        _add_counts(rest, {OTHER: sum(summary.tags.pop(name).values())})
    for name, values in summary.tags.items():
        _bound_counts(values, OTHER, 0 if name == OTHER else max_entries)
    for name in _over(summary.numbers, OTHER, max_entries):
        _add_number(summary.numbers, OTHER, summary.numbers.pop(name))


def _bound_counts(counts: dict[Any, int], other: Any, max_entries: int) -> None:
    for name in _over(counts, other, max_entries):
        counts[other] = min(counts.get(other, 0) + counts.pop(name), MAX_COUNT)


def _over(entries: Mapping[Any, Any], other: Any, max_entries: int) -> list[Any]:
    if len(entries) <= max_entries:
        return []
    return sorted(name for name in entries if name != other)[max_entries:]


# ----------------------------------------------------------------------------------- packed form


def pack(summary: Summary) -> bytes:
    """Return the summary as one packed delta. Equal summaries give equal bytes."""
    parts: list[Any] = [
        summary.count,
        summary.first,
        summary.last,
        dict(sorted(summary.levels.items())),
        dict(sorted(summary.events.items())),
        {name: dict(sorted(values.items())) for name, values in sorted(summary.tags.items())},
        dict(sorted(summary.numbers.items())),
    ]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    packed: bytes = msgpack.packb(parts, unicode_errors="surrogateescape")
    return packed


def unpack(data: bytes | bytearray | memoryview) -> Summary:
    """Read exactly one packed delta. Raises SummaryError for anything else."""
    parts = list(_parts(data))
    if len(parts) != 1:
        raise SummaryError(f"expected one packed summary, found {len(parts)}")
    return parts[0]


def _parts(data: bytes | bytearray | memoryview) -> Iterable[Summary]:
    size = len(data)
    unpacker = msgpack.Unpacker(
        use_list=False,
        strict_map_key=False,
        unicode_errors="surrogateescape",
        max_buffer_size=max(size, 1),
        max_ext_len=0,
    )
    unpacker.feed(data)
    try:
        while unpacker.tell() < size:
            yield checked(unpacker.unpack())
    except SummaryError:
        raise
    except (msgpack.UnpackException, ValueError, RecursionError, TypeError) as error:
        raise SummaryError(f"not a packed summary: {error or type(error).__name__}") from error


def checked(parts: Any) -> Summary:
    """Turn what msgpack or JSON gave into a Summary, believing nothing. Raises SummaryError."""
    if type(parts) is not tuple or not 1 <= len(parts) <= 7:
        raise SummaryError("a packed summary is an array of one to seven parts")
    count, first, last, levels, events, tags, numbers = parts + (None,) * (7 - len(parts))
    return Summary(
        _count(count),
        _position(first),
        _position(last),
        _counts(levels, "levels"),
        _events(events),
        {_name(name): _counts(values, "a tag") for name, values in mapping(tags, "tags").items()},
        {_name(name): _number(value) for name, value in mapping(numbers, "numbers").items()},
    )


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise SummaryError("a count is an integer from 0 to 2^64-1")
    return value


def _position(value: Any) -> Position | None:
    if value is None:
        return None
    if type(value) is not tuple or len(value) != 3:
        raise SummaryError("a position is [epoch ms or nil, source id, offset]")
    ms, source, offset = value
    if ms is not None and (type(ms) is not int or not _MIN_MS <= ms <= _MAX_MS):
        raise SummaryError("a time is in milliseconds within the years 1 to 9999")
    return ms, _count(source), _count(offset)


def mapping(value: Any, what: str) -> dict[Any, Any]:
    """Return a part that has to be a map, an empty one where it was left out."""
    if value is None:
        return {}
    if type(value) is not dict:
        raise SummaryError(f"{what} must be a map")
    return value


def _name(value: Any) -> str:
    if type(value) is not str:
        raise SummaryError("a name must be text")
    return value


def _counts(value: Any, what: str) -> dict[str, int]:
    return {_name(name): _count(n) for name, n in mapping(value, what).items()}


def _events(value: Any) -> dict[int, int]:
    return {_count(event): _count(n) for event, n in mapping(value, "events").items()}


def _number(value: Any) -> tuple[int, int, int, int]:
    if (
        type(value) is not tuple
        or len(value) != 4
        or any(type(part) is not int or not _MIN_INT <= part <= _MAX_INT for part in value[1:])
    ):
        raise SummaryError("a number is [n, sum, min, max], signed 64-bit integers")
    return _count(value[0]), value[1], value[2], value[3]
