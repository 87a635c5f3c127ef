"""Sources in, counted ranges out: producers, the queue between, and the consumer.

Guarantees:

* A producer that dies, or is stopped for longer than the lease, loses its task to another one once;
  then what is left of it is reported as failed. Its later words are not heard: it is killed first,
  and it has a socket of its own. The other producers notice nothing.
* Memory is bounded: a producer has at most two tasks, and its results wait in its socket while the
  queue to the consumer is full.
* ``stop`` ends a run cleanly: what was sent to the sink is answered for, the rest is not sent.

A small input is read in this process, in a thread: starting producers would take longer.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from parser import frames, spawn
from parser.consumer import Consumer, Found, OnCommit
from parser.groups import unwrapped
from parser.messages import Message
from parser.plan import Planned, Task, tasks_of
from parser.ranges import covered
from parser.report import Report
from parser.sink import Sink, SinkGone
from parser.source import Problem
from parser.spawn import SMALL_BYTES, Started, processors
from parser.work import Work

__all__ = ["RANGE_BYTES", "Pipeline", "now_ms", "processors"]

RANGE_BYTES: Final = 8 << 20
"""Nominal size of a range, at most: a larger one holds fewer deltas a line. What the store takes at
once is bounded by ``work.PIECE_KEYS``; see ``benchmarks/results/ingest.md``."""

_LEAST_RANGE_BYTES: Final = 1 << 20
_RANGES_A_WORKER: Final = 8
"""A small input is cut finer, so that all workers end at about the same time."""

LEASE_S: Final = 120.0
"""A producer of file ranges that is silent for so long is taken for dead."""

_MAX_ATTEMPTS: Final = 2
_QUEUE: Final = 4
_RECEIVE_BYTES: Final = 1 << 20
_GRACE_S: Final = 5.0


def now_ms() -> int:
    """Return the wall clock."""
    return time.time_ns() // 1_000_000


class _Died(Exception):
    """A producer is gone."""


@dataclass(eq=False)
class _Producer:
    """A producer process and this end of its socket."""

    started: Started
    stream: trio.SocketStream
    decoder: frames.Decoder = field(default_factory=frames.Decoder)

    @classmethod
    def start(cls, spare: list[Started]) -> _Producer:
        """Take one that was started already, or start one."""
        started = spare.pop() if spare else spawn.start()
        return cls(started, trio.SocketStream(trio.socket.from_stdlib_socket(started.socket)))

    @property
    def pid(self) -> int:
        return self.started.process.pid

    async def send(self, message: dict[str, Any], payload: bytes = b"") -> None:
        try:
            await self.stream.send_all(b"".join(frames.encode(message, payload)))
        except trio.BrokenResourceError as error:
            raise _Died from error

    async def receive(self) -> Message:
        while True:
            frame = self.decoder.next()
            if frame is not None:
                return frame
            try:
                data = await self.stream.receive_some(_RECEIVE_BYTES)
            except trio.BrokenResourceError as error:
                raise _Died from error
            if not data:
                raise _Died
            self.decoder.feed(data)

    def kill(self) -> None:
        """End the process at once and forget it."""
        self.stream.socket.close()
        self.started.kill()


class Pipeline:
    """One run over planned inputs."""

    def __init__(
        self,
        planned: Sequence[Planned],
        sink: Sink,
        *,
        workers: int | None = None,
        range_bytes: int = RANGE_BYTES,
        small_bytes: int = SMALL_BYTES,
        lease_s: float = LEASE_S,
        report: Report | None = None,
        on_commit: OnCommit | None = None,
        clock_ms: Callable[[], int] = now_ms,
        stdin_prefix: bytes = b"",
        spare: list[Started] | None = None,
    ) -> None:
        """``spare`` are producers that were started already; those that are taken are removed."""
        self._spare = spare if spare is not None else []
        self.report = report if report is not None else Report()
        self._slots: dict[int, deque[Task]] = {}
        self._lease_s = lease_s
        self._stdin_prefix = stdin_prefix
        self._tasks: deque[Task] = deque()
        self._next_id = 1
        self._open = 0  # tasks that are not over
        self._queued = 0  # pieces on their way to the sink
        self._changed = trio.Event()
        self._stop = trio.Event()
        self._consumer = Consumer(
            sink,
            self.report,
            clock_ms,
            replan=self._add_tasks,
            settled=self._settled,
            pending=self._pending,
            on_commit=on_commit,
        )
        for one in planned:
            one.seen_ms = clock_ms()
            if one.input.kind == "plain":
                counted = covered(one.info.ranges, 0, one.content.size or 0)
                self.report.counted_before_bytes += counted
        wanted = sum(one.input.size for one in planned) // (_RANGES_A_WORKER * processors())
        tasks = tasks_of(planned, min(range_bytes, max(wanted, _LEAST_RANGE_BYTES)))
        self.report.total_bytes += sum(task.bytes for task in tasks)
        work = _work_bytes(tasks)
        self.workers = min(workers if workers is not None else processors(), max(len(tasks), 1))
        self._in_process = workers is None and work < small_bytes
        self._add_tasks(tasks)

    @property
    def producers(self) -> dict[int, list[Task]]:
        """Process id of each producer that runs -> the tasks it has, the first one in work."""
        return {pid: list(tasks) for pid, tasks in self._slots.items()}

    # ------------------------------------------------------------------------------------ running

    async def run(self) -> Report:
        """Read and commit everything. Raises SinkGone; the report says how far it got."""
        started = time.monotonic()
        self.report.workers = 0 if self._in_process else self.workers
        send, receive = trio.open_memory_channel[Found](_QUEUE)
        try:
            with unwrapped(SinkGone):
                async with receive, trio.open_nursery() as nursery:  # closed behind its reader
                    nursery.start_soon(self._consumer.run, receive)
                    async with send:
                        await self._produce(send)
                    if self._stop.is_set():  # a sink that does not answer must keep nobody here
                        nursery.cancel_scope.deadline = trio.current_time() + _GRACE_S
        finally:
            self.report.seconds = time.monotonic() - started
            self.report.pending = self._open + self._queued
        return self.report

    def stop(self) -> None:
        """End the run: nothing more is sent, what was sent is answered for."""
        self.report.interrupted = True
        self._consumer.stopping = True
        self._stop.set()
        self._wake()

    async def _produce(self, send: trio.MemorySendChannel[Found]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_on_stop, nursery.cancel_scope)
            async with trio.open_nursery() as slots:
                if self._in_process:
                    slots.start_soon(self._slot_in_process, send)
                else:
                    for _ in range(self.workers):
                        slots.start_soon(self._slot, send)
            nursery.cancel_scope.cancel()

    async def _cancel_on_stop(self, scope: trio.CancelScope) -> None:
        await self._stop.wait()
        scope.cancel()

    # -------------------------------------------------------------------------------------- tasks

    def _add_tasks(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.id = self._next_id
            self._next_id += 1
            self._tasks.append(task)
        self._open += len(tasks)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _take(self, held: int) -> Task | None:
        """Take a task; a second one only while there are enough for everyone."""
        if not self._tasks or (held and len(self._tasks) < self.workers):
            return None
        return self._tasks.popleft()

    def _pending(self) -> int:
        """Count the ranges that are waiting, being read, or waiting to be committed."""
        held = sum(not task.sent for tasks in self._slots.values() for task in tasks)
        return len(self._tasks) + held + self._queued

    def _settled(self, pieces: int) -> None:
        self._queued -= pieces
        self._wake()

    @property
    def over(self) -> bool:
        """Whether nothing is left to read or to commit."""
        return not self._open and not self._queued

    def _finish(self, task: Task, problem: str | None) -> None:
        if problem is not None:
            self.report.problems.append(Problem(task.planned.input.path, problem))
        self._open -= 1
        self._wake()

    async def _piece(
        self,
        send: trio.MemorySendChannel[Found],
        task: Task,
        message: dict[str, Any],
        payload: bytes,
    ) -> None:
        self._queued += 1
        start, end = message["range"]
        await send.send(Found(task, message, payload))
        task.sent.append((start, end))

    # ------------------------------------------------------------------------------- in processes

    async def _slot(self, send: trio.MemorySendChannel[Found]) -> None:
        producer: _Producer | None = None
        held: deque[Task] = deque()
        try:
            while not self.over:
                try:
                    while len(held) < 2 and (task := self._take(len(held))) is not None:
                        held.append(task)
                        if producer is None:
                            producer = _Producer.start(self._spare)
                            self._slots[producer.pid] = held
                        prefix = self._stdin_prefix if task.planned.input.kind == "stdin" else b""
                        await producer.send(task.message(), prefix)
                    if not held or producer is None:
                        await self._changed.wait()
                        continue
                    lease = math.inf if held[0].is_stream else self._lease_s
                    with trio.move_on_after(lease) as silence:
                        message, payload = await producer.receive()
                    if silence.cancelled_caught:
                        raise _Died
                    if not message.get("done"):
                        await self._piece(send, held[0], message, payload)
                    else:
                        self._done(held.popleft(), message)
                except (_Died, frames.FrameError):
                    if producer is not None:
                        self._bury(producer)
                    producer = None
                    self._give_to_another(held)
        finally:
            if producer is not None:
                self._bury(producer)

    def _bury(self, producer: _Producer) -> None:
        del self._slots[producer.pid]
        producer.kill()

    def _done(self, task: Task, message: dict[str, Any]) -> None:
        info = task.planned.info
        for offset, mark in message.get("marks", ()):
            info.marks.setdefault(offset, mark)
        if message.get("try_again"):
            task.planned.try_again = True
        self._finish(task, message["problem"])

    def _give_to_another(self, held: deque[Task]) -> None:
        """Put the tasks of a dead producer back; only the first one can be to blame."""
        while held:
            task = held.pop()
            rest = task.rest()
            if rest is None:
                self._finish(task, None)
                continue
            if task.planned.input.kind == "stdin":
                self._finish(task, "the process that read the pipe died, with what it had read")
                continue
            rest.attempts = task.attempts + (0 if held else 1)
            if rest.attempts >= _MAX_ATTEMPTS:
                task.planned.try_again = True
                self._finish(task, f"{rest} failed: the process that read it died twice")
                continue
            self._tasks.appendleft(rest)
        self._wake()

    # ----------------------------------------------------------------------------- in this process

    async def _slot_in_process(self, send: trio.MemorySendChannel[Found]) -> None:
        work = Work()
        while not self.over:
            task = self._take(0)
            if task is None:
                await self._changed.wait()
                continue
            messages = work.messages(task.message(), self._stdin_prefix)
            while True:
                message, payload = await trio.to_thread.run_sync(
                    _next, messages, abandon_on_cancel=True
                )
                if message.get("done"):
                    self._done(task, message)
                    break
                await self._piece(send, task, message, payload)


def _next(messages: Iterator[Message]) -> Message:
    return next(messages)


def _work_bytes(tasks: Sequence[Task]) -> float:
    """Guess how many uncompressed bytes there are to read."""
    total = 0.0
    for task in tasks:
        if task.planned.input.kind == "stdin" and task.planned.content.size is None:
            return math.inf
        total += task.bytes * 10 if task.is_stream else task.bytes
    return total
