"""All client sockets in one task: read what is ready, run it, write the journal, then reply.

One *turn*: every ready socket is read once, its commands are run, the effects of all of them become
one record of the journal (group commit), and only then do the replies leave, joined, one send a
client. Nothing in a turn awaits; between turns the task gives way to the rest of the server at
least every few milliseconds.

Guarantees:

* No reply and no message leaves before the effects of its turn are in the journal (and, where the
  policy says so, on disk).
* An exception in a command is one client's error reply. A client that sends garbage, too much, or
  does not read is disconnected; the others notice nothing.
"""

from __future__ import annotations

import contextlib
import socket
from time import monotonic, perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Final

import trio

from kvserver.acceptor import Acceptor
from kvserver.busypoll import BusyPolling
from kvserver.connections import RECV_BYTES, Connection
from kvserver.execution import SLICE_NS, Execution
from kvserver.poller import BROKEN, MORE, READ, WRITE
from kvserver.quick import can_be_joined, serve, serve_alike
from kvserver.runs import NEXT

if TYPE_CHECKING:
    from kvserver.engine import Engine

__all__ = ["SHORT_LINGER_S", "Connection", "Reactor"]

LINGER_S: Final = 0.005
"""How long to serve, and how long to wait in epoll for the next request, before Trio gets the word:
going through Trio costs 25 µs and more, which is as much as a whole round trip of a lone client. A
shorter wait would cost one, too: what ends before the system's next tick (4 ms) makes it set a
timer, 5 µs on a virtual machine. What Trio has to do are syncs and ticks, and these can wait."""
SHORT_LINGER_S: Final = 0.001
"""The same where Trio has clients of its own, with TLS, who would wait that long."""
ALIKE_BYTES: Final = 1 << 15
"""Longer chunks are served one by one."""
MANY_ALIKE: Final = 3
"""So many chunks of one length are looked at together, and more up to so many bytes in all."""
ALIKE_TOTAL_BYTES: Final = 1 << 14
SAMPLED_TURNS: Final = 16
"""In one of so many turns the first client's commands are timed, for the percentiles."""
EXPIRE_KEYS: Final = 200
FREE_ENTRIES: Final = 2000


class Reactor(Execution):
    """Serves the sockets of an engine."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.acceptor = Acceptor(engine, self._poller, self.adopt)
        self._nudged, self._nudging = socket.socketpair()
        for end in (self._nudged, self._nudging):
            end.setblocking(False)
        self._poller.register(self._nudged.fileno(), READ)
        engine.nudge = self.nudge
        self.linger_s = LINGER_S
        self.busy_polling = BusyPolling(self._poller.poll, engine.config.busy_poll_us)
        engine.stats_providers["busy_poll"] = self.busy_polling.statistics
        self._alike_bytes = 0
        """The length of what went quickly at the end of a turn: in the next, many may have it."""
        self._stopping = False
        self._expiry_behind = False
        self._garbage = False

    def nudge(self) -> None:
        """End the wait for sockets: there is something to go on with."""
        with contextlib.suppress(BlockingIOError):
            self._nudging.send(b"!")

    async def run(self) -> None:
        """Serve until cancelled. Cancellation is noticed between turns, never inside one.

        Raises JournalFailedError when the journal's device failed.
        """
        poller = self._poller
        fileno = poller.fileno()
        wait = self.busy_polling.wait
        gave_way = perf_counter()
        while not self._stopping:
            if self._committing is not None:
                await self.committed()
                continue
            busy = self._is_behind or bool(self.engine.suspended)
            ready = poller.poll(0) if busy else wait(self.linger_s)
            if not ready and not busy:
                if fileno >= 0:
                    await trio.lowlevel.wait_readable(fileno)
                else:
                    await trio.sleep(SHORT_LINGER_S)
                gave_way = perf_counter()
                continue
            if self.turn(ready) and self.service is not None and self.service.must_commit:
                await self._commit()
                gave_way = perf_counter()
            self.send_replies()
            if perf_counter() - gave_way > self.linger_s:
                await trio.lowlevel.checkpoint()
                gave_way = perf_counter()

    @property
    def _is_behind(self) -> bool:
        """Whether something to expire, to evict, to free or to tell is left for later turns."""
        engine = self.engine
        return (
            self._expiry_behind or self._garbage or engine.memory.behind or engine.tracking.behind
        )

    def turn(self, ready: list[tuple[int, int]]) -> bool:
        """Run what has come, and put its effects into the journal; whether there were any."""
        engine = self.engine
        keyspace = engine.keyspace
        keyspace.now = keyspace.clock()
        engine.stats.turns = turns = engine.stats.turns + 1
        connections, listeners = self.connections, self.acceptor.listeners
        alike: list[Connection] = []
        chunks: list[bytes] = []
        many = len(ready) >= MANY_ALIKE
        alike_bytes = self._alike_bytes if many else -1
        size = received = 0
        name = None
        began = 0 if turns % SAMPLED_TURNS else perf_counter_ns()
        now = monotonic()
        for fd, events in ready:
            connection = connections.get(fd)
            if connection is None:
                if fd in listeners:
                    self.acceptor.accept(listeners[fd])
                elif fd == self._nudged.fileno():
                    self._nudged.recv(RECV_BYTES)
                continue
            if events != READ:
                if events & WRITE:
                    self._send_more(connection)
                if events & BROKEN and not events & READ:
                    self.close(connection)
                if not events & READ or connection.fd < 0:
                    continue
                if events & MORE:
                    self._watch(connection)
            try:
                data = connection.recv(connection.recv_bytes)
            except BlockingIOError:
                continue
            except OSError:
                self.close(connection)
                continue
            if not data:
                self.close(connection)
                continue
            size = len(data)
            received += size
            if size == connection.recv_bytes:  # there may be more
                connection.recv_bytes = RECV_BYTES
                self._watch(connection)
            connection.session.last_active = now
            if size == alike_bytes:
                alike.append(connection)
                chunks.append(data)
                continue
            name = self._serve(connection, data)
            if began:
                self._sample(name, data, perf_counter_ns() - began)
                began = 0
        if alike:
            name = self._serve_alike(alike, chunks)
            if began:
                self._sample(name, chunks[0], perf_counter_ns() - began, chunks=len(chunks))
        elif many and size <= ALIKE_BYTES and name is not None:
            self._alike_bytes = size if can_be_joined(name, data) else -1
        engine.stats.net_in_bytes += received
        if engine.suspended:
            self._advance_suspended()
        if self._expiry_behind:
            self.expire()
        if engine.memory.behind:
            engine.memory.make_room()
        if self._garbage:
            self._garbage = engine.keyspace.free_garbage(FREE_ENTRIES)
        if engine.tracking.behind:
            engine.tracking.tell()
        return self._write_journal()

    def _serve(self, connection: Connection, data: bytes) -> bytes | None:
        """Run what one client sent; return the name of the command if it went the quick way."""
        session = connection.session
        try:
            if (
                session.table is self.engine.quick_table
                and connection.idle
                and len(data) < RECV_BYTES  # else more is to come, and nothing here is whole
            ):
                name = serve(session, data, self.engine.stats.calls)
                if name is not None:
                    session.last_called = name
                    self._served.append((connection, data))
                    if session.pending is not None:
                        self._want(connection, connection.events & ~READ)
                    return name
            self._read_generally(connection, data)
        except Exception as error:  # noqa: BLE001 - one client's fault is never another's
            self.engine.internal_error(session, error)
            self.close(connection)
        return None

    def _serve_alike(self, alike: list[Connection], chunks: list[bytes]) -> bytes | None:
        """Run what several clients sent, all of one length: as one run, if it is one."""
        many = max(MANY_ALIKE, ALIKE_TOTAL_BYTES // len(chunks[0]))
        name = None
        for start in range(0, len(alike), many):
            name = self._serve_group(alike[start : start + many], chunks[start : start + many])
        return name

    def _are_plain(self, group: list[Connection]) -> bool:
        """Whether no client is closed or special: what ran in this turn may have changed that."""
        table = self.engine.quick_table
        for connection in group:  # as any(...) it would take twice as long
            if connection.session.table is not table or connection.fd < 0 or not connection.idle:
                return False
        return True

    def _serve_group(self, group: list[Connection], chunks: list[bytes]) -> bytes | None:
        if len(group) >= MANY_ALIKE and self._are_plain(group):
            sessions = [connection.session for connection in group]
            try:
                name = serve_alike(sessions, chunks, self.engine.stats.calls)
            except Exception as error:  # noqa: BLE001 - whose fault it is cannot be told
                for connection in group:
                    self.engine.internal_error(connection.session, error)
                    self.close(connection)
                return None
            if name is not None:
                for session in sessions:
                    session.last_called = name
                self._served += zip(group, chunks, strict=True)
                return name
        name = None
        for connection, data in zip(group, chunks, strict=True):
            if connection.fd >= 0:
                name = self._serve(connection, data)
        return name

    def _sample(self, name: bytes | None, data: bytes, ns: int, chunks: int = 1) -> None:
        """Note what the first client of a turn took, receiving included, for the percentiles.

        ``chunks`` says how many clients sent something like ``data``, if they were run together.
        """
        if name is None:
            return
        n = (data.count(NEXT) + 1) * chunks
        self.engine.stats.sampled(name.decode("ascii", "replace").lower(), ns // n, n)

    def expire(self) -> None:
        """Delete keys that are due, for a slice of time; none while a long write is isolated."""
        keyspace = self.engine.keyspace
        if self.engine.isolation.active:
            self._expiry_behind = True
            return
        until = perf_counter_ns() + SLICE_NS
        while keyspace.expire_due(EXPIRE_KEYS) == EXPIRE_KEYS:
            if perf_counter_ns() > until:
                self._expiry_behind = True
                return
        self._expiry_behind = False

    async def tick(self) -> None:
        """Do what time asks for: due keys, paused accepting, freeing; between two turns."""
        await self.committed()
        self.engine.keyspace.tick()
        self.expire()
        while self._doomed:
            self._doomed.pop().transport.close()
        self._garbage = self.engine.keyspace.free_garbage(FREE_ENTRIES)
        if self._is_behind:
            self.nudge()  # there may be no client that wakes the task which goes on with it
        self.acceptor.resume()
        self.watch_journal()
        await self.settle()

    async def drain(self, grace_s: float) -> None:
        """Let clients read what they are owed, for a while, then close all of them."""
        with trio.move_on_after(grace_s):
            while any(c.unsent_bytes for c in self.connections.values()) or self.engine.suspended:
                await self.committed()
                ready = self._poller.poll(0) if self.engine.suspended else []
                await self.settle(wrote=self.turn(ready))
                for connection in list(self.connections.values()):
                    if connection.unsent_bytes:
                        self._send_more(connection)
                await trio.sleep(0.005)
        for connection in list(self.connections.values()):
            self.close(connection)
        self._stopping = True
        self._poller.close()
        self._nudged.close()
        self._nudging.close()
        self.engine.nudge = lambda: None
