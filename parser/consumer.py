"""The one task that commits what the producers found, each range once.

Guarantees:

* Ranges wait in a bounded queue; when the sink is slow the queue is full, the readers of the
  producers' sockets stop, and the producers wait. Nothing grows.
* Every range is offered until the sink has said what became of it. One that the sink has in part
  (another run cut the source otherwise) is planned again: only what is missing is read again.
* What is cancelled is either counted or not, never half: the sink takes a range as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from parser.fingerprint import SourceInfo
from parser.plan import Task
from parser.ranges import add, missing
from parser.report import Report
from parser.sink import COUNTED, OVERLAP, Commit, Outcome, Refused, Sink
from parser.source import Problem

__all__ = ["Consumer", "Found"]

BATCH: Final = 4
"""Ranges that are under way to the sink together."""

_MAX_REPLANS: Final = 20


@dataclass(slots=True)
class Found:
    """A piece that came from a producer."""

    task: Task
    message: dict[str, Any]
    payload: bytes

    @property
    def range(self) -> tuple[int, int]:
        """The bytes it covers."""
        start, end = self.message["range"]
        return start, end


OnCommit = Callable[[Found], None]


@dataclass
class Consumer:
    """Commits pieces in the order in which they come."""

    sink: Sink
    report: Report
    now_ms: Callable[[], int]
    replan: Callable[[list[Task]], None]
    """Takes tasks for what is still missing."""
    settled: Callable[[int], None]
    """Is told how many pieces are over, after what follows from them was planned."""
    pending: Callable[[], int] = lambda: 0
    """How many ranges are not committed, as far as anyone knows."""
    on_commit: OnCommit | None = None
    stopping: bool = False
    _under_way: int = 0
    _described: set[int] = field(default_factory=set)

    def describe_again(self, source: int) -> None:
        """Send all that is known of the source with its next range: something was learnt."""
        self._described.discard(source)

    async def run(self, pieces: trio.MemoryReceiveChannel[Found]) -> None:
        """Commit until the channel ends. Raises SinkGone."""
        async for piece in pieces:
            batch = [piece]
            while len(batch) < BATCH:
                try:
                    batch.append(pieces.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            if self.stopping:
                return
            await self.commit(batch)

    async def commit(self, batch: list[Found]) -> None:
        """Commit a batch and note what became of it."""
        before = self.sink.retries
        self._under_way = len(batch)
        outcomes = await self.sink.commit([self._commit_of(found) for found in batch])
        resent = self.sink.retries > before
        self.report.retries = self.sink.retries
        overlapping: list[Found] = []
        for found, outcome in zip(batch, outcomes, strict=True):
            if outcome is OVERLAP:
                overlapping.append(found)
            else:
                self._note(found, outcome, resent=resent)
        if overlapping:
            await self._plan_again(overlapping)
        self.settled(len(batch))

    def _note(self, found: Found, outcome: Outcome, *, resent: bool) -> None:
        start, end = found.range
        self.report.ranges += 1
        if isinstance(outcome, Refused):
            reason = f"bytes {start} to {end} were refused: {outcome.reason}"
            self.report.problems.append(Problem(found.task.planned.input.path, reason))
            return
        self._progress(found)
        info = found.task.planned.info
        info.ranges = add(info.ranges, [(start, end)])
        if outcome is COUNTED and not resent:
            self.report.counted_before_bytes += end - start
            return
        # after a resend, counted before means counted by us: the first reply was lost
        self.report.counted_bytes += end - start
        self.report.add_books(found.message["books"])
        if isinstance(outcome, int):
            self.report.new_keys += outcome
        if self.on_commit is not None:
            self.on_commit(found)

    def _progress(self, found: Found) -> None:
        if not found.task.is_stream:
            self.report.read_bytes += found.range[1] - found.range[0]
        elif "read" in found.message:
            planned = found.task.planned
            self.report.read_bytes += max(found.message["read"] - planned.read_bytes, 0)
            planned.read_bytes = max(found.message["read"], planned.read_bytes)

    def _commit_of(self, found: Found) -> Commit:
        start, end = found.range
        info = found.task.planned.info
        return Commit(
            info.id,
            start,
            end,
            found.message["books"],
            found.message["patterns"],
            found.payload,
            self._about(found, info),
        )

    def _about(self, found: Found, info: SourceInfo) -> dict[str, Any]:
        """Return what the store shall keep: all of it once a run, then what changes."""
        now = self.now_ms()
        changed = info.id not in self._described
        for offset, mark in found.message.get("marks", ()):
            changed |= info.marks.setdefault(offset, mark) is mark
        info.size = max(info.size, found.message.get("size", 0), found.range[1])
        about: dict[str, Any] = {
            "seen_ms": now,
            "lag_ms": max(now - found.task.planned.seen_ms, 0),
            "pending": max(self.pending() - self._under_way, 0),
            "retries": info.retries + self.sink.retries,
        }
        if changed:
            self._described.add(info.id)
            about |= info.about()
        else:
            about["size"] = info.size
        return about

    async def _plan_again(self, overlapping: list[Found]) -> None:
        known = {info.id: info for info in await self.sink.sources()}
        tasks: list[Task] = []
        for found in overlapping:
            task, (start, end) = found.task, found.range
            info = known.get(task.planned.info.id)
            gaps = missing(info.ranges if info else [], start, end)
            self.report.counted_before_bytes += (end - start) - sum(b - a for a, b in gaps)
            if task.attempts >= _MAX_REPLANS or task.planned.input.kind == "stdin":
                reason = f"bytes {start} to {end} were partly counted by another run meanwhile"
                self.report.problems.append(Problem(task.planned.input.path, reason))
            elif task.is_stream:
                if gaps:
                    tasks.append(Task(0, task.planned, 0, 0, (0, 0), gaps, task.attempts + 1))
            else:
                tasks += [
                    Task(0, task.planned, low, high, (low, high), [], task.attempts + 1)
                    for low, high in gaps
                ]
        self.replan(tasks)
