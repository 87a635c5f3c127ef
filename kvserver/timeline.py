"""Events over time by level, estimated from summaries. Pure.

A summary knows how many events of each level its key had, and when the first and the last were, not
when each was. So each key's events are spread evenly from its first to its last one. For keys that
live shortly (a request, a block that is written) that is close to the truth; for one that lives as
long as the log it is an average. Totals are exact: every event is in exactly one bucket.

Events without a level are shown by the class of their status (``5xx``), or as ``-``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from kvserver.index import SummaryIndex
from kvserver.indexstate import NO_FIRST, NO_LAST, read_summary
from kvserver.values import SummaryValue

__all__ = ["MAX_BUCKETS", "timeline"]

MAX_BUCKETS: Final = 10_000
_MAX_LEVELS: Final = 64
_OTHER: Final = "…"
_STEP: Final = 64
_MIN_WIDTH_MS: Final = 1000


def timeline(
    index: SummaryIndex, keys: Sequence[bytes], buckets: int
) -> Generator[None, None, dict[str, Any]]:
    """Return the events of some keys in at most so many buckets, yielding between steps."""
    begin, end, untimed = yield from _span(index, keys)
    if begin > end:
        return {"begin_ms": None, "width_ms": 0, "untimed_keys": untimed, "levels": {}}
    seconds = -(-(end + 1 - begin) // (_MIN_WIDTH_MS * buckets))
    width = max(1, seconds) * _MIN_WIDTH_MS
    size = (end - begin) // width + 1
    slopes: dict[str, list[float]] = {}
    data = index.keyspace.data
    for at, key in enumerate(keys):
        if at % _STEP == _STEP - 1:
            yield
        value = data.get(key)
        slot = index.state.slots.shard(key).get(key)
        if type(value) is not SummaryValue or slot is None:
            continue
        count, first, last, levels, _, tags = read_summary(value)
        if first == NO_FIRST or last == NO_LAST:
            continue
        # What changed since the span was measured is put at its ends.
        low = min(max(first - begin, 0) // width, size - 1)
        high = min(max(last - begin, 0) // width, size - 1)
        for level, n in _by_level(count, levels, tags):
            name = level if level in slopes or len(slopes) < _MAX_LEVELS else _OTHER
            slope = slopes.get(name)
            if slope is None:
                slope = slopes[name] = [0.0] * (size + 1)
            share = n / (high - low + 1)
            slope[low] += share
            slope[high + 1] -= share
    return {
        "begin_ms": begin,
        "width_ms": width,
        "untimed_keys": untimed,
        "levels": {name: _rounded(slope) for name, slope in sorted(slopes.items())},
    }


def _span(
    index: SummaryIndex, keys: Sequence[bytes]
) -> Generator[None, None, tuple[int, int, int]]:
    """Return the first and the last time of all, and how many keys have none."""
    state = index.state
    firsts, lasts = state.columns["first"], state.columns["last"]
    begin, end, untimed = NO_FIRST, NO_LAST, 0
    for at, key in enumerate(keys):
        if at % (16 * _STEP) == 16 * _STEP - 1:
            yield
        slot = state.slots.shard(key).get(key)
        if slot is None:
            continue
        if firsts[slot] == NO_FIRST or lasts[slot] == NO_LAST:
            untimed += 1
            continue
        begin = min(begin, firsts[slot])
        end = max(end, lasts[slot])
    return begin, end, untimed


def _by_level(
    count: int, levels: dict[str, int], tags: dict[str, dict[str, int]]
) -> list[tuple[str, int]]:
    if levels:
        parts = list(levels.items())
    else:
        parts = [
            (f"{status[0]}xx", n)
            for status, n in tags.get("status", {}).items()
            if len(status) == 3 and status.isdigit()
        ]
    rest = count - sum(n for _, n in parts)
    return [*parts, ("-", rest)] if rest > 0 else parts


def _rounded(slope: list[float]) -> list[int]:
    """Add the slope up to whole numbers whose sum is the whole."""
    rows: list[int] = []
    height = total = 0.0
    told = 0
    for rise in slope[:-1]:
        height += rise
        total += height
        rows.append(max(0, round(total) - told))
        told += rows[-1]
    return rows
