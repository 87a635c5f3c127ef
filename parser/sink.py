"""Where counted ranges go.

A sink takes a range once: it answers ``COUNTED`` for what it has, ``OVERLAP`` for what it has in
part, and changes nothing in both cases. So a pipeline may offer a range again whenever it does not
know what became of it.

``MemorySink`` keeps everything in memory, for summaries without a store and for tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

import msgpack

from parser.fingerprint import SourceInfo, info_of
from parser.ranges import add, covered
from parser.summary import Summary, fold

__all__ = [
    "COUNTED",
    "OVERLAP",
    "Commit",
    "MemorySink",
    "Outcome",
    "Refused",
    "Sink",
    "SinkGone",
]


@dataclass(slots=True)
class Commit:
    """One range of one source with everything that was found in it."""

    source: int
    start: int
    end: int
    books: dict[str, int]
    patterns: dict[int, list[Any]]
    packed: bytes
    """A msgpack array: key, packed summary, key, packed summary, …."""
    about: dict[str, Any] = field(default_factory=dict)


class _Answer(Enum):
    COUNTED = "counted before"
    OVERLAP = "counted in part"


COUNTED: Final = _Answer.COUNTED
OVERLAP: Final = _Answer.OVERLAP


@dataclass(frozen=True, slots=True)
class Refused:
    """The sink will not take this range, now or later."""

    reason: str


Outcome: TypeAlias = int | _Answer | Refused
"""How many keys were new, or why nothing changed."""


class SinkGone(Exception):
    """The sink cannot be reached any more; what was not answered may or may not be counted."""


class Sink(Protocol):
    """Takes counted ranges. One task uses it at a time."""

    @property
    def retries(self) -> int:
        """How often something had to be sent again."""
        ...

    async def sources(self) -> list[SourceInfo]:
        """Return what has been counted, the source heard of first first. Raises SinkGone."""
        ...

    async def claim(self, new: Sequence[SourceInfo]) -> list[bool]:
        """Make sources known whose id is free; False where somebody was faster.

        Raises SinkGone.
        """
        ...

    async def moved(self, known: Sequence[SourceInfo]) -> None:
        """Note that known sources lie elsewhere now. Raises SinkGone."""
        ...

    async def commit(self, commits: Sequence[Commit]) -> list[Outcome]:
        """Take ranges, each wholly or not at all, and say what became of each.

        Raises SinkGone when that cannot be said. When cancelled, each may be counted or not.
        """
        ...

    async def aclose(self) -> None:
        """Let go of whatever is held."""
        ...


class MemorySink:
    """Keeps deltas by key and the ledger in memory."""

    def __init__(self) -> None:
        self.retries = 0
        self.deltas: dict[bytes, bytearray] = {}
        self.patterns: dict[int, list[Any]] = {}
        self._sources: dict[int, SourceInfo] = {}

    async def sources(self) -> list[SourceInfo]:
        """Return what has been counted."""
        return [
            info_of(info.id, info.ranges, info.books, info.about())
            for info in self._sources.values()
        ]

    async def claim(self, new: Sequence[SourceInfo]) -> list[bool]:
        """Make sources known whose id is free."""
        answers = []
        for info in new:
            answers.append(info.id not in self._sources)
            if info.id not in self._sources:
                self._sources[info.id] = info_of(info.id, [], {}, info.about())
        return answers

    async def moved(self, known: Sequence[SourceInfo]) -> None:
        """Note that known sources lie elsewhere now."""
        for info in known:
            if info.id in self._sources:
                self._sources[info.id].path = info.path
                self._sources[info.id].inode = info.inode

    async def commit(self, commits: Sequence[Commit]) -> list[Outcome]:
        """Take ranges."""
        return [self.take(commit) for commit in commits]

    def take(self, commit: Commit) -> Outcome:
        """Take one range."""
        info = self._sources.setdefault(commit.source, SourceInfo(commit.source))
        counted = covered(info.ranges, commit.start, commit.end)
        if counted:
            return COUNTED if counted == commit.end - commit.start else OVERLAP
        info.ranges = add(info.ranges, [(commit.start, commit.end)])
        for name, n in commit.books.items():
            info.books[name] = info.books.get(name, 0) + n
        updated = info_of(info.id, info.ranges, info.books, {**info.about(), **commit.about})
        self._sources[commit.source] = updated
        before = len(self.deltas)
        parts = iter(msgpack.unpackb(commit.packed, max_array_len=len(commit.packed)))
        for key, delta in zip(parts, parts, strict=True):
            self.deltas.setdefault(key, bytearray()).extend(delta)
        for pattern, (text, count, first, last, example) in commit.patterns.items():
            self._see(pattern, [text, count, first, last, example])
        return len(self.deltas) - before

    def _see(self, pattern: int, seen: list[Any]) -> None:
        held = self.patterns.get(pattern)
        if held is None:
            self.patterns[pattern] = seen
        else:
            held[1] += seen[1]

    def summaries(self) -> Mapping[bytes, Summary]:
        """Return the summary of every key."""
        return {key: fold(log) for key, log in self.deltas.items()}

    async def aclose(self) -> None:
        """Nothing is held outside memory."""
