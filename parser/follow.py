"""Logs that grow: new lines into the sink soon after they are written, every line once.

Guarantees:

* What is missing is asked of the ledger of the source, not of a position kept here: a follower that
  was killed, or another one beside it, changes nothing. Nothing is written on this side.
* A file that is renamed or deleted is read to its end first (see ``followed``). One that no longer
  is its source, because it was truncated, overwritten, or copied and grown apart, is looked at as
  a new file, by its content.
* A last line without its end waits until it has one; only when nobody writes to the file any more
  (its name went to another file, or is gone) it is counted as it is.
* A compressed file is read when it rests (see ``discovery``): what it repeats is known by its
  content, what it has beyond that (the follower was away) is counted. If reading it fails, or the
  sink is gone before it was read, it is read later.
* Memory is bounded: by the number of files that are there, and by one piece.

Where a rotator loses lines (copytruncate, between the copy and the truncation) nothing can help,
unless the copy is followed too: then they are read from the copy.

``Follower.poll`` is one look at everything; the clock is passed in. ``follow`` calls it for ever.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import trio

from parser.consumer import BATCH, Consumer, Found, OnCommit
from parser.discovery import Discovery, Inode, Seen
from parser.errors import UnreadableError, reason_of
from parser.followed import FollowedFile
from parser.groups import unwrapped
from parser.messages import Message, count_piece
from parser.pieces import Piece
from parser.pipeline import Pipeline, now_ms
from parser.plan import Planned, RecipeOf, Task, identify
from parser.ranges import MAX_LINE_BYTES, missing
from parser.recipe import Recipe
from parser.report import Report
from parser.sink import Sink, SinkGone
from parser.source import Input, Problem
from parser.tails import Tails
from parser.work import Work

if TYPE_CHECKING:
    from parser.extract import Engine

__all__ = ["POLL_S", "Follower", "follow"]

POLL_S: Final = 0.2

READ_BYTES: Final = MAX_LINE_BYTES + (64 << 10)
"""Read at once; what waits beyond is read in the next turn."""

FAST_BYTES: Final = 1 << 20
"""From here on it is worth loading the faster engine."""

BACKLOG_BYTES: Final = 16 << 20
"""More than this is read by producers, as in a run that does not follow."""

GRACE_S: Final = 5.0
"""How long a follower that is told to stop waits for what it sent."""

_MAX_PROBLEMS: Final = 1000


@dataclass
class Follower:
    """Follows everything that ``patterns`` name."""

    patterns: Sequence[str]
    sink: Sink
    recipe_of: RecipeOf
    report: Report = field(default_factory=Report)
    clock_s: Callable[[], float] = trio.current_time
    clock_ms: Callable[[], int] = now_ms
    on_commit: OnCommit | None = None
    workers: int | None = None
    engine_of: Callable[[Recipe], Engine] = Recipe.engine

    def __post_init__(self) -> None:
        self._tails = Tails()
        self._discovery = Discovery(self.patterns, self._tell)
        self._told: set[Problem] = set()
        self._pending = 0
        self._pipeline: Pipeline | None = None
        self._stopping = False
        self._work = Work(self.engine_of)
        self._consumer = Consumer(
            self.sink,
            self.report,
            self.clock_ms,
            replan=self._forget_ranges,
            settled=lambda _: None,
            pending=lambda: self._pending,
            on_commit=self.on_commit,
        )
        self._stale = False
        self._retries = self.sink.retries

    # ---------------------------------------------------------------------------------- one look

    async def poll(self) -> bool:
        """Look at everything once; return whether there is more to read at once.

        Raises SinkGone.
        """
        now = self.clock_s()
        seen = self._discovery.look_around()
        self._tails.notice_names(seen, now)
        # Those first that are known: what is learnt of them tells what the others are.
        more = await self._read_on(list(self._tails.files.items()), now)
        if self._stopping:
            return False
        met = await self._meet(seen, now)
        more |= await self._read_on([(inode, self._tails.files[inode]) for inode in met], now)
        if self.sink.retries != self._retries:
            # the sink was away: it may have come back without what it had not on disk yet
            self._retries, self._stale = self.sink.retries, True
        if self._stale:
            await self._refresh()
        del self.report.problems[:-_MAX_PROBLEMS]
        return more

    async def _read_on(self, tails: Sequence[tuple[Inode, FollowedFile]], now: float) -> bool:
        """Read what files have beyond what is counted; return whether more is waiting."""
        more = False
        self._pending = self._tails.held
        for inode, tail in tails:
            if self._stopping:
                return False
            try:
                more |= await self._advance(inode, tail, now)
            except UnreadableError as error:  # the others go on; it is met again
                self._tell(Problem(tail.planned.input.path, reason_of(error)))
                self._tails.drop(inode)
        return more

    def stop(self) -> None:
        """Let ``poll`` return soon; what was sent is answered for."""
        self._stopping = True
        if self._pipeline is not None:
            self._pipeline.stop()

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopping

    def close(self) -> None:
        """Close every file."""
        self._tails.close()

    def _tell(self, problem: Problem) -> None:
        if problem not in self._told and len(self._told) < 10_000:
            self._told.add(problem)
            self.report.problems.append(problem)

    # -------------------------------------------------------------------------------- new files

    async def _meet(self, seen: Seen, now: float) -> list[Inode]:
        """Find out what the files are that were not there before; return those to follow."""
        inputs, files = self._discovery.new_files(seen, self._tails.files, now, self._make_room)
        if not inputs:
            return []
        met: list[Inode] = []
        try:
            planned, problems = await identify(inputs, self.sink, self.recipe_of)
            for problem in problems:
                self._tell(problem)
            for one in planned:
                one.live = True
                one.seen_ms = self.clock_ms()
                self._tails.share(one)
                inode = one.input.inode or (0, 0)
                if one.input.kind == "plain" and tuple(one.content.inode or ()) == inode:
                    tail = FollowedFile(files.pop(inode), one, grown_s=now, begin=one.content.begin)
                    tail.detected_bytes = one.content.size or 0
                    self._tails.files[inode] = tail
                    met.append(inode)
        finally:
            for file in files.values():
                file.close()
        big = [one for one in planned if self._is_big(one)]
        if big:
            await self._run_pipeline(big)
        self._note_read(inputs, planned)
        return met

    def _note_read(self, inputs: Sequence[Input], planned: Sequence[Planned]) -> None:
        """Pass compressed files over from now on, except for those that could not be read."""
        read = {one.input.inode for one in planned if not one.try_again}
        for found in inputs:
            if found.kind == "plain" or found.inode is None:
                continue
            if found.inode in read:
                self._discovery.was_read(found.inode)
            else:
                self._discovery.put_off(found.inode, self.clock_s())

    def _is_big(self, one: Planned) -> bool:
        if one.input.kind != "plain":
            return True
        gaps = missing(one.info.ranges, 0, one.content.size or 0)
        return sum(end - start for start, end in gaps) > BACKLOG_BYTES

    def _make_room(self, opened: int) -> bool:
        """Tell whether one more file may be open; closes an idle one if it must."""
        if self._tails.has_room(opened):
            return True
        idlest = self._tails.drop_idlest()
        if idlest is None:
            return False
        self._discovery.put_to_sleep(*idlest)  # it is met again when it is written to
        return True

    async def _run_pipeline(self, planned: Sequence[Planned]) -> None:
        """Read much, as a run that does not follow does."""
        before = len(self.report.problems)
        for one in planned:
            one.recipe = replace(one.recipe, expected_bytes=one.input.size)
        self._pipeline = Pipeline(
            planned,
            self.sink,
            workers=self.workers,
            report=self.report,
            on_commit=self.on_commit,
            clock_ms=self.clock_ms,
        )
        try:
            await self._pipeline.run()
        finally:
            self._pipeline = None
        found = self.report.problems[before:]
        del self.report.problems[before:]
        for problem in found:
            self._tell(problem)
        await self._refresh()

    # ---------------------------------------------------------------------------- known files

    async def _advance(self, inode: Inode, tail: FollowedFile, now: float) -> bool:
        """Read what a file has beyond what is counted; return whether more is waiting."""
        state = tail.file.state_now()
        size = state.size
        if size != tail.size:
            tail.grown_s = now
            tail.planned.seen_ms = self.clock_ms()
        quiet, final = tail.is_quiet(now), tail.is_final(now)
        if tail.tried == (state, quiet, final):
            return False
        tail.tried = (state, quiet, final)
        if not tail.is_still(size, self._consumer.describe_again):
            self._tails.drop(inode)
            return True
        tail.state = state
        tail.detect_again(self.recipe_of)
        for start, end in missing(tail.info.ranges, 0, size):
            stop = min(end, start + READ_BYTES)
            # a gap within the file ends where a line ends; the end of the file need not
            whole = stop == end and (end < size or final)
            counted = await self._read(tail, start, stop, size, quiet=quiet, to_the_end=whole)
            if counted is None:
                self._tails.drop(inode)
                return True
            tail.held = counted < end
            if stop < end and counted > start:  # more is waiting behind it
                tail.tried = None
                return True
        if final:
            tail.lost_s = None
            if not tail.here:
                self._tails.drop(inode)
        return False

    async def _read(
        self, tail: FollowedFile, start: int, stop: int, size: int, *, quiet: bool, to_the_end: bool
    ) -> int | None:
        """Count ``[start, stop)`` as far as there are whole lines; return how far that is.

        None: the file was replaced meanwhile, and nothing was counted.
        """
        pieces = tail.pieces(start, stop, size, quiet=quiet, to_the_end=to_the_end)
        if not pieces:
            return start
        recipe = replace(
            tail.planned.recipe, expected_bytes=1 << 40 if stop - start > FAST_BYTES else 0
        )
        messages = await trio.to_thread.run_sync(self._count, tail.info.id, pieces, recipe)
        if not tail.holds(pieces[-1].end):
            return None
        task = Task(0, tail.planned, start, stop, (start, stop))
        found = [Found(task, message, payload) for message, payload in messages]
        for at in range(0, len(found), BATCH):
            await self._consumer.commit(found[at : at + BATCH])
        return pieces[-1].end

    def _count(self, source: int, pieces: list[Piece], recipe: Recipe) -> list[Message]:
        """Runs in a thread."""
        engine = self._work.engine(recipe)
        task: dict[str, Any] = {"task": 0, "source": source}
        return [message for piece in pieces for message in count_piece(task, piece, recipe, engine)]

    # ----------------------------------------------------------------------------- what is known

    def _forget_ranges(self, _: list[Task]) -> None:
        """Somebody else counts here too: ask what is missing before reading on."""
        self._stale = True

    async def _refresh(self) -> None:
        self._stale = False
        known = {info.id: info.ranges for info in await self.sink.sources()}
        lost = False
        for info in self._tails.sources:
            ranges = known.get(info.id, [])
            lost |= any(missing(ranges, start, end) for start, end in info.ranges)
            info.ranges = ranges
            self._consumer.describe_again(info.id)
        if lost:  # nobody knows from which file it came
            self._discovery.read_again()
        for tail in self._tails.files.values():
            tail.tried = None


async def follow(follower: Follower, *, poll_s: float = POLL_S) -> bool:
    """Follow until SIGTERM or Ctrl-C; True for Ctrl-C. Raises SinkGone.

    What was sent by then is answered for; the rest is counted by the next run.
    """
    interrupted = False
    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        closing(follower),
        unwrapped(SinkGone),
    ):
        async with trio.open_nursery() as nursery:
            stopped = trio.Event()

            async def stop() -> None:
                nonlocal interrupted
                async for number in signals:
                    interrupted = number == signal.SIGINT
                    follower.stop()
                    # a sink that does not answer must not keep anyone from leaving, and a
                    # second signal is obeyed at once
                    patience_s = 0.0 if stopped.is_set() else GRACE_S
                    nursery.cancel_scope.deadline = trio.current_time() + patience_s
                    stopped.set()

            nursery.start_soon(stop)
            while not follower.stopping:
                if not await follower.poll():
                    with trio.move_on_after(poll_s):
                        await stopped.wait()
            nursery.cancel_scope.cancel()
    return interrupted
