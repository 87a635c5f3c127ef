"""What has been counted: for each source its byte ranges, its books and what is known about it.

Guarantees:

* A byte of a source is counted at most once: ``verdict`` says whether ranges are new, were counted
  before, or are partly counted, and ``record`` is called for new ones only.
* Ranges that touch become one, so a log counted from end to end is one pair of numbers, however
  long it was followed.
* ``dump`` gives effects that ``restore`` turns back into an equal ledger, in the same order.
* Sources keep the order in which they were first heard of. Two writers that name one log
  differently at the same moment agree afterwards, because both see the same one first.

Pure data: no clock, no file, no socket. A range is ``(start, end)``, end not included, in bytes of
the uncompressed source. An empty list of ranges is a claim: new for a source never heard of,
counted for any other.

Finding a range costs O(log n) in the number of gaps of a source, which is small: gaps exist only
while several workers count one log, or where a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sortedcontainers import SortedDict

__all__ = ["Ledger", "RangeSet", "SourceState", "Verdict"]

Verdict = Literal["new", "counted", "overlap"]
Range = tuple[int, int]

MAX_OFFSET: Final = 2**63 - 1
MAX_SOURCE: Final = 2**64 - 1
MOVED: Final = "moved"
"""The name in ``about`` that says: this is a source you know, and here is what changed."""


class RangeSet:
    """Disjoint half-open ranges of integers; ranges that touch are joined.

    >>> ranges = RangeSet([(0, 10), (20, 30)])
    >>> ranges.add(10, 20)
    >>> list(ranges)
    [(0, 30)]
    """

    __slots__ = ("_ends", "_total")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ends: SortedDict = SortedDict()  # start -> end
        self._total = 0
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[Range]:
        return iter(self._ends.items())

    def __len__(self) -> int:
        return len(self._ends)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # a set that changes is no key

    @property
    def total(self) -> int:
        """How many integers are in the set."""
        return self._total

    def covered(self, start: int, end: int) -> int:
        """Return how many integers of ``[start, end)`` are in the set. O(log n + ranges met)."""
        covered = 0
        for held_start, held_end in self._near(start, end):
            covered += max(0, min(held_end, end) - max(held_start, start))
        return covered

    def add(self, start: int, end: int) -> None:
        """Add ``[start, end)``, joining it with what it touches. O(log n + ranges met)."""
        if start >= end:
            return
        for held_start, held_end in list(self._near(start, end)):
            del self._ends[held_start]
            self._total -= held_end - held_start
            start, end = min(start, held_start), max(end, held_end)
        self._ends[start] = end
        self._total += end - start

    def _near(self, start: int, end: int) -> Iterator[Range]:
        """Yield the ranges that meet or touch ``[start, end]``."""
        first = max(self._ends.bisect_right(start) - 1, 0)
        for held_start in self._ends.islice(first):
            if held_start > end:
                return
            held_end = self._ends[held_start]
            if held_end >= start:
                yield held_start, held_end

    def check(self) -> None:
        """Assert the invariants: ordered, apart from each other, none empty, the total right."""
        before = -1
        total = 0
        for start, end in self:
            assert before < start < end, (before, start, end)
            before = end
            total += end - start
        assert total == self._total, (total, self._total)


@dataclass(slots=True)
class SourceState:
    """What is known of one source."""

    id: int
    ranges: RangeSet
    books: dict[str, int]
    about: dict[str, Any]

    @property
    def counted_bytes(self) -> int:
        """How many bytes of the source have been counted."""
        return self.ranges.total


class Ledger:
    """All sources ever counted, in the order they were first heard of."""

    __slots__ = ("_sources",)

    def __init__(self) -> None:
        self._sources: dict[int, SourceState] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def get(self, source: int) -> SourceState | None:
        """Return the state of one source, or None."""
        return self._sources.get(source)

    def verdict(self, source: int, ranges: Sequence[Sequence[int]]) -> Verdict:
        """Say what recording these ranges would do; changes nothing.

        Raises ValueError when the source or a range is none, or when the ranges meet each other.
        """
        _check(source, ranges)
        state = self._sources.get(source)
        if state is None:
            return "new"
        if not ranges:
            return "counted"
        covered = sum(state.ranges.covered(start, end) for start, end in ranges)
        if covered == 0:
            return "new"
        return "counted" if covered == sum(end - start for start, end in ranges) else "overlap"

    def record(
        self,
        source: int,
        ranges: Sequence[Sequence[int]],
        books: Mapping[str, int],
        about: Mapping[str, Any],
    ) -> None:
        """Note that the ranges are counted. Books are added up; about replaces what has its name.

        The caller has asked ``verdict`` before.
        """
        state = self._sources.get(source)
        if state is None:
            state = self._sources[source] = SourceState(source, RangeSet(), {}, {})
        for start, end in ranges:
            state.ranges.add(start, end)
        for name, n in books.items():
            state.books[name] = state.books.get(name, 0) + n
        state.about.update((name, value) for name, value in about.items() if name != MOVED)

    def learn(self, source: int, about: Mapping[str, Any]) -> bool:
        """Note where a known source lies now; return whether that changed anything.

        Only an ``about`` that says ``moved`` is believed: a claim that came second may be of
        another log.
        """
        state = self._sources.get(source)
        if state is None or not about.get(MOVED):
            return False
        news = {name: value for name, value in about.items() if name != MOVED}
        if all(state.about.get(name) == value for name, value in news.items()):
            return False
        state.about.update(news)
        return True

    def sources(self) -> Iterator[SourceState]:
        """Yield every source, the one heard of first first."""
        return iter(self._sources.values())

    def statistics(self) -> dict[str, int]:
        """Return figures of all sources: what was counted, and how the latest ingest goes.

        The lag is how long the latest range was under way, from when its bytes were noticed to
        its commit; pending ranges are those its run had not committed then.
        """
        latest: Mapping[str, Any] = {}
        counted = retries = 0
        for state in self._sources.values():
            counted += state.counted_bytes
            retries += _figure(state.about, "retries")
            if _figure(state.about, "seen_ms") > _figure(latest, "seen_ms"):
                latest = state.about
        return {
            "ingested_bytes": counted,
            "ingest_lag_ms": _figure(latest, "lag_ms"),
            "ingest_ranges_pending": _figure(latest, "pending"),
            "ingest_retries": retries,
            "last_ingest_ms": _figure(latest, "seen_ms"),
        }

    def dump(self) -> Iterator[list[Any]]:
        """Yield the shortest effects that stand for this ledger."""
        for state in self._sources.values():
            yield ["src", state.id, [list(pair) for pair in state.ranges], state.books, state.about]

    def restore(self, effect: Sequence[Any]) -> None:
        """Take back what ``dump`` gave. Raises ValueError for anything else."""
        if len(effect) != 5 or effect[0] not in {"src", b"src"}:
            raise ValueError("not an effect of the ledger")
        _, source, ranges, books, about = effect
        if (
            not isinstance(ranges, list | tuple)
            or type(books) is not dict
            or type(about) is not dict
        ):
            raise ValueError("a source is an id, ranges, books and what is known about it")
        _check(source, ranges)
        self._sources[source] = SourceState(
            source, RangeSet((start, end) for start, end in ranges), books, about
        )

    def clear(self) -> None:
        """Forget everything, so that every log counts as new."""
        self._sources.clear()

    def check(self) -> None:
        """Assert the invariants of every source."""
        for source, state in self._sources.items():
            assert source == state.id
            assert 0 <= source <= MAX_SOURCE
            assert all(n >= 0 for n in state.books.values()), state.books
            state.ranges.check()


def _figure(about: Mapping[str, Any], name: str) -> int:
    """Read a figure from what a client said; anything else than a count is none."""
    value = about.get(name)
    return value if type(value) is int and value >= 0 else 0


def _check(source: Any, ranges: Sequence[Any]) -> None:
    if type(source) is not int or not 0 <= source <= MAX_SOURCE:
        raise ValueError("a source is an unsigned 64-bit integer")
    before = 0
    for pair in ranges if len(ranges) < 2 else sorted(map(tuple, ranges)):
        if len(pair) != 2 or type(pair[0]) is not int or type(pair[1]) is not int:
            raise ValueError("a range is a pair of integers")
        if not before <= pair[0] < pair[1] <= MAX_OFFSET:
            raise ValueError("ranges are [start, end), not empty, apart from each other")
        before = pair[1]
