"""Byte ranges that tile a source, and the arithmetic of what is still missing.

Guarantees:

* ``boundary`` moves a cut to after the next newline (with ``starts_event``: on to the next line
  that starts an event). The rule depends on the bytes and the cut alone, and both ends of a range
  obey it, so neighbours agree on their common end without talking: the ranges of any plan tile
  the source, every line is in exactly one of them, and nobody has to read a file to plan it.
* Reading is bounded: a newline that does not come is looked for in blocks that are thrown away.

A range is ``(start, end)``, end not included. Pure functions; reading is passed in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

__all__ = [
    "MAX_LINE_BYTES",
    "Range",
    "ReadAt",
    "add",
    "boundary",
    "covered",
    "cuts",
    "missing",
]

Range: TypeAlias = tuple[int, int]

ReadAt: TypeAlias = Callable[[int, int], bytes]
"""``read_at(offset, size)``: up to ``size`` bytes from ``offset``; fewer only at the end."""

MAX_LINE_BYTES: Final = 1 << 20
"""A longer line is counted as unparsed; its bytes are never held together."""

_BLOCK_BYTES: Final = 1 << 16
_MAX_EVENT_BYTES: Final = 4 << 20  # an event longer than this is cut at a line: ranges stay bounded


def cuts(start: int, end: int, range_bytes: int) -> Iterator[Range]:
    """Cut ``[start, end)`` into nominal ranges of about equal size, none above ``range_bytes``."""
    if range_bytes < 1:
        raise ValueError("a range has at least one byte")
    size = end - start
    if size <= 0:
        return
    count = -(-size // range_bytes)
    for n in range(count):
        yield start + size * n // count, start + size * (n + 1) // count


def boundary(
    read_at: ReadAt,
    cut: int,
    start: int,
    end: int,
    starts_event: Callable[[bytes], bool] | None = None,
) -> int:
    """Return where a range that is cut at ``cut`` really begins or ends within ``[start, end)``.

    The ends themselves do not move: they are the ends of the file or of what was counted before.
    """
    if cut <= start:
        return start
    if cut >= end:
        return end
    position = _after_newline(read_at, cut - 1, end)
    if starts_event is None:
        return position
    limit = min(end, cut + _MAX_EVENT_BYTES)
    while position < limit:
        line = _line(read_at, position, end)
        if starts_event(line):
            break
        position = _after_newline(read_at, position, end)
    return position


def _after_newline(read_at: ReadAt, position: int, end: int) -> int:
    """Return the position after the first newline at or after ``position``, at most ``end``."""
    block_bytes = 1024  # most lines are short
    while position < end:
        block = read_at(position, min(block_bytes, end - position))
        if not block:  # the file became shorter
            return end
        found = block.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(block)
        block_bytes = _BLOCK_BYTES
    return end


def _line(read_at: ReadAt, position: int, end: int) -> bytes:
    """Return the start of the line at ``position``: enough to see whether it starts an event."""
    block = read_at(position, min(1024, end - position))
    return block[: block.find(b"\n") + 1] or block


def missing(counted: Sequence[Range], start: int, end: int) -> list[Range]:
    """Return what of ``[start, end)`` is not in ``counted`` (sorted, apart from each other).

    >>> missing([(0, 10), (20, 30)], 0, 40)
    [(10, 20), (30, 40)]
    """
    gaps: list[Range] = []
    position = start
    for held_start, held_end in counted[max(bisect_right(counted, (start,)) - 1, 0) :]:
        if held_start >= end:
            break
        if held_start > position:
            gaps.append((position, held_start))
        position = max(position, held_end)
    if position < end:
        gaps.append((position, end))
    return gaps


def covered(counted: Sequence[Range], start: int, end: int) -> int:
    """Return how many bytes of ``[start, end)`` are in ``counted``."""
    return max(end - start, 0) - sum(high - low for low, high in missing(counted, start, end))


def add(counted: Iterable[Range], more: Iterable[Range]) -> list[Range]:
    """Return both together, sorted, with ranges that meet or touch joined.

    >>> add([(0, 10), (20, 30)], [(10, 20)])
    [(0, 30)]
    """
    joined: list[Range] = []
    for start, end in sorted([*counted, *more]):
        if start >= end:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
