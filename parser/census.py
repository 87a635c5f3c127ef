"""Figures of a log: levels, time span, rates, frequent templates and keys, events over time.

Guarantees constant memory whatever the log: what cannot be bounded otherwise (keys, patterns,
seconds) is pruned of its rarest entries when it has grown too large, and ``exact`` says whether
that has happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any, ClassVar, Final, Generic, TypeVar

from parser.extract import Event
from parser.patterns import mask, pattern_id

__all__ = ["NO_LEVEL", "Bounded", "Census", "Timeline", "nice_step_ms"]

T = TypeVar("T", bound=Hashable)

NO_LEVEL: Final = "-"
"""Stands for the level of an event that has none."""

MAX_ENTRIES: Final = 200_000


class Bounded(Generic[T]):
    """Counts that are exact while there are few different things, and right for frequent ones."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self.counts: dict[T, int] = {}
        self.max_entries = max_entries
        self.exact = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bounded) and (self.counts, self.exact) == (
            other.counts,
            other.exact,
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, thing: T) -> None:
        """Count one."""
        counts = self.counts
        counts[thing] = counts.get(thing, 0) + 1
        if len(counts) > self.max_entries:
            self._prune()

    def merge(self, counts: dict[T, int], exact: bool) -> None:
        """Add other counts."""
        held = self.counts
        for thing, n in counts.items():
            held[thing] = held.get(thing, 0) + n
        self.exact = self.exact and exact
        if len(held) > self.max_entries:
            self._prune()

    def _prune(self) -> None:
        kept = nlargest(self.max_entries // 2, self.counts.items(), key=lambda item: item[1])
        self.counts = dict(kept)
        self.exact = False

    def top(self, n: int) -> list[tuple[T, int]]:
        """Return the most frequent ones; of equals, the smallest first."""
        ranked = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return ranked[:n]


class Timeline:
    """Events over time by level, in buckets that double in width as the span of time grows."""

    def __init__(self, max_buckets: int = 4096) -> None:
        self.width_ms = 1000
        self.max_buckets = max_buckets
        self.buckets: dict[int, Counter[str]] = {}
        """Beginning of a bucket divided by ``width_ms`` -> events by level."""

    def add(self, time_ms: int, level: str, n: int = 1) -> None:
        """Count events of one moment."""
        bucket = self.buckets.get(time_ms // self.width_ms)
        if bucket is None:
            bucket = self.buckets[time_ms // self.width_ms] = Counter()
            while len(self.buckets) > self.max_buckets:
                self._widen(self.width_ms * 2)
            bucket = self.buckets[time_ms // self.width_ms]
        bucket[level] += n

    def _widen(self, width_ms: int) -> None:
        self.buckets = _gathered(self.buckets, self.width_ms, width_ms)
        self.width_ms = width_ms

    def rows(self, most: int) -> tuple[int, list[tuple[int, Counter[str]]]]:
        """Return a round width and at most about ``most`` buckets (begin in ms, by level).

        Buckets between the first and the last in which nothing happened are there too.
        """
        if not self.buckets:
            return 1000, []
        begin = min(self.buckets) * self.width_ms
        end = (max(self.buckets) + 1) * self.width_ms
        width = nice_step_ms((end - begin) / max(most, 1), at_least=self.width_ms)
        gathered = _gathered(self.buckets, self.width_ms, width)
        first, last = min(gathered), max(gathered)
        return width, [(at * width, gathered.get(at, Counter())) for at in range(first, last + 1)]


def _gathered(
    buckets: dict[int, Counter[str]], width_ms: int, into_ms: int
) -> dict[int, Counter[str]]:
    gathered: dict[int, Counter[str]] = {}
    for at, counts in buckets.items():
        gathered.setdefault(at * width_ms // into_ms, Counter()).update(counts)
    return gathered


_STEPS_S: Final = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    2 * 86_400, 7 * 86_400, 14 * 86_400, 28 * 86_400, 91 * 86_400, 364 * 86_400,
)  # fmt: skip


def nice_step_ms(least_ms: float, *, at_least: int = 1000) -> int:
    """Return the smallest round span of time that is not shorter."""
    least = max(least_ms, at_least)
    for step in _STEPS_S:
        if step * 1000 >= least:
            return step * 1000
    step = _STEPS_S[-1]
    return 1000 * step * int(-(-least // (1000 * step)))


@dataclass(slots=True)
class Census:
    """What a log is like; feed it events."""

    events: int = 0
    timed: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    levels: Counter[str] = field(default_factory=Counter)
    seconds: Bounded[int] = field(default_factory=Bounded)
    keys: Bounded[bytes] = field(default_factory=Bounded)
    keyless: int = 0
    patterns: dict[int, list[Any]] = field(default_factory=dict)
    """As templates are computed from them: id -> [text, count, first, last, example]."""
    other_patterns: int = 0
    """Events whose pattern came when there were too many already."""

    MAX_PATTERNS: ClassVar[int] = 20_000
    MAX_LEVELS: ClassVar[int] = 256

    def add(self, event: Event) -> None:
        """Count one event."""
        self.events += 1
        level = NO_LEVEL if event.level is None else event.level.decode("utf-8", "replace")
        if level not in self.levels and len(self.levels) >= self.MAX_LEVELS:
            level = "…"
        self.levels[level] += 1
        time_ms = event.time_ms
        if time_ms is not None:
            self.timed += 1
            self.seconds.add(time_ms // 1000)
            if self.first_ms is None or time_ms < self.first_ms:
                self.first_ms = time_ms
            if self.last_ms is None or time_ms > self.last_ms:
                self.last_ms = time_ms
        for key in event.keys:
            self.keys.add(key)
        self.keyless += not event.keys
        text = mask(event.content)
        id_ = pattern_id(text)
        seen = self.patterns.get(id_)
        if seen is not None:
            seen[1] += 1
            seen[4] = min(seen[4], event.content)  # the smallest, so that the order does not matter
        elif len(self.patterns) < self.MAX_PATTERNS:
            self.patterns[id_] = [text, 1, None, None, event.content]
        else:
            self.other_patterns += 1

    def message(self) -> list[Any]:
        """Return the census as plain values."""
        return [
            self.events,
            self.timed,
            self.first_ms,
            self.last_ms,
            dict(self.levels),
            [self.seconds.counts, self.seconds.exact],
            [self.keys.counts, self.keys.exact],
            self.keyless,
            self.patterns,
            self.other_patterns,
        ]

    def merge(self, message: list[Any]) -> None:
        """Add what another census gave as its message."""
        events, timed, first, last, levels, seconds, keys, keyless, patterns, others = message
        self.events += events
        self.timed += timed
        if first is not None and (self.first_ms is None or first < self.first_ms):
            self.first_ms = first
        if last is not None and (self.last_ms is None or last > self.last_ms):
            self.last_ms = last
        self.levels.update(levels)
        self.seconds.merge(*seconds)
        self.keys.merge(*keys)
        self.keyless += keyless
        self.other_patterns += others
        for id_, row in patterns.items():
            seen = self.patterns.get(id_)
            if seen is not None:
                seen[1] += row[1]
                seen[4] = min(seen[4], row[4])
            elif len(self.patterns) < self.MAX_PATTERNS:
                self.patterns[id_] = list(row)
            else:
                self.other_patterns += row[1]

    @property
    def span_s(self) -> float:
        """From the first to the last event."""
        if self.first_ms is None or self.last_ms is None:
            return 0.0
        return (self.last_ms - self.first_ms) / 1000

    @property
    def mean_per_second(self) -> float:
        """Events a second over the whole span, both ends included."""
        return self.timed / (self.span_s + 1) if self.timed else 0.0

    def peak(self) -> tuple[int, int] | None:
        """Return the second with most events (epoch seconds) and how many; the first of equals."""
        if not self.seconds.counts:
            return None
        return max(self.seconds.counts.items(), key=lambda item: (item[1], -item[0]))

    def level_shares(self) -> Iterator[tuple[str, int, float]]:
        """Yield level, count, percent; the most frequent first."""
        for level, n in sorted(self.levels.items(), key=lambda item: (-item[1], item[0])):
            yield level, n, 100 * n / self.events
