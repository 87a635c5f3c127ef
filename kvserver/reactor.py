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
* A long command (a handler that returned a generator) is advanced a few milliseconds a turn while
  the commands of other clients run in between.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import time
from collections.abc import Callable
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import trio

from kvserver import resp
from kvserver.errors import CommandError, JournalFailedError, JournalFullError
from kvserver.poller import BROKEN, READ, WRITE, new_poller
from kvserver.quick import serve
from kvserver.requests import RequestReader

if TYPE_CHECKING:
    from kvserver.commands.table import Command, Work
    from kvserver.engine import Engine
    from kvserver.session import Session

__all__ = ["Connection", "Reactor"]

log = logging.getLogger("kvserver")

RECV_BYTES: Final = 65536
FIRST_RECV_BYTES: Final = 16384
"""Making room for less is quicker; a client that fills it gets more from then on."""
ACCEPT_BATCH: Final = 128
BATCH_COMMANDS: Final = 256
"""Commands of one client that run before its replies are weighed and the time is looked at."""
SLICE_NS: Final = 1_500_000
"""How long a turn works on suspended commands, expiry and freeing, each."""
LINGER_S: Final = 0.001
"""How long to wait in poll(2) for the next request before Trio gets the word: going through Trio
costs 25 µs, which is as much as a whole round trip of a lone client."""
LARGE_REPLY_BYTES: Final = 16384
"""Above it, a reply is a reason to look at how much the client is owed."""
VERY_LARGE_REPLY_BYTES: Final = 1 << 20
WAIT_FOR_READER_S: Final = 0.02
GIVE_WAY_NS: Final = 2_000_000
EXPIRE_KEYS: Final = 200
FREE_ENTRIES: Final = 2000
ACCEPT_PAUSE_S: Final = 0.1
PUBSUB_REPLY: Final = b"-ERR max number of clients reached\r\n"


class Connection:
    """One client's socket."""

    __slots__ = (
        "events",
        "fd",
        "idle",
        "partial_since",
        "reactor",
        "reader",
        "recv",
        "recv_bytes",
        "send",
        "session",
        "sock",
        "soft_since",
        "unsent",
        "unsent_bytes",
    )

    def __init__(self, reactor: Reactor, sock: socket.socket, session: Session) -> None:
        self.reactor = reactor
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.recv_bytes = FIRST_RECV_BYTES
        self.send = sock.send
        self.session = session
        self.reader = RequestReader(reactor.engine.config, limited=not session.authenticated)
        self.idle = self.reader.idle
        """Whether the quick way is open: kept here because it is asked for every chunk."""
        self.events = READ
        self.unsent: list[bytes | memoryview] = []
        self.unsent_bytes = 0
        self.soft_since = 0.0
        self.partial_since = 0.0

    def flush(self) -> None:
        """Send what the session has to say."""
        self.reactor.flush(self)

    def close(self) -> None:
        """End the connection now."""
        self.reactor.close(self)


class Reactor:
    """Serves the sockets of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.service: Any = None
        """The journal's service; None without a journal."""
        self.connections: dict[int, Connection] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._poller = new_poller()
        self._nudged, self._nudging = socket.socketpair()
        for end in (self._nudged, self._nudging):
            end.setblocking(False)
        self._poller.register(self._nudged.fileno(), READ)
        engine.nudge = self.nudge
        self._served: list[tuple[Connection, list[list[bytes]] | bytes]] = []
        """Whom this turn served, and with which commands (as bytes, when they went quickly)."""
        self._stopping = False
        self._accept_again = 0.0
        self._expiry_behind = False
        self._garbage = False
        self._doomed: list[Session] = []
        self._held: dict[Connection, None] = {}
        """Whose replies wait for a slow disk."""
        self._holding = trio.Event()
        self._large_replies = 0
        self.refused_writes = 0

    # ------------------------------------------------------------------------------- listening

    def listen(self, sock: socket.socket) -> None:
        """Accept clients from a listening socket."""
        sock.setblocking(False)
        self._listeners[sock.fileno()] = sock
        self._poller.register(sock.fileno(), READ)

    def nudge(self) -> None:
        """End the wait for sockets: there is a suspended command to go on with."""
        with contextlib.suppress(BlockingIOError):
            self._nudging.send(b"!")

    def stop_listening(self) -> None:
        """Close the listening sockets; clients that are here stay."""
        for fd, sock in self._listeners.items():
            with contextlib.suppress(OSError, ValueError):
                self._poller.unregister(fd)
            sock.close()
        self._listeners.clear()

    def _accept(self, listener: socket.socket) -> None:
        engine = self.engine
        for _ in range(ACCEPT_BATCH):
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    self._pause_accepting(error)
                return
            sock.setblocking(False)
            if len(engine.sessions) >= engine.config.max_clients:
                engine.stats.rejected_connections += 1
                with contextlib.suppress(OSError):
                    sock.send(PUBSUB_REPLY)
                sock.close()
                continue
            self._adopt(sock, peer)

    def _adopt(self, sock: socket.socket, peer: Any) -> None:
        local = ""
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keepalive(sock, self.engine.config.tcp_keepalive_s)
            address = f"{peer[0]}:{peer[1]}"
            with contextlib.suppress(OSError):
                name = sock.getsockname()
                local = f"{name[0]}:{name[1]}"
        else:
            address = local = f"{self.engine.config.unix_socket}:0"
        session = self.engine.session(address, local)
        connection = Connection(self, sock, session)
        session.transport = connection
        self.connections[connection.fd] = connection
        self._poller.register(connection.fd, READ)

    def _pause_accepting(self, error: OSError) -> None:
        log.warning("cannot accept clients: %s; trying again", error.strerror)
        for fd in self._listeners:
            self._poller.modify(fd, 0)
        self._accept_again = time.monotonic() + ACCEPT_PAUSE_S

    # ------------------------------------------------------------------------------------- turns

    async def run(self) -> None:
        """Serve until cancelled. Cancellation is noticed between turns, never inside one.

        Raises JournalFailedError when the journal's device failed.
        """
        poller = self._poller
        fileno = poller.fileno()
        gave_way = time.perf_counter_ns()
        while not self._stopping:
            busy = self._expiry_behind or self._garbage or bool(self.engine.suspended)
            ready = poller.poll(0 if busy else LINGER_S)
            if not ready and not busy:
                if fileno >= 0:
                    await trio.lowlevel.wait_readable(fileno)
                else:
                    await trio.sleep(LINGER_S)
                gave_way = time.perf_counter_ns()
                continue
            self.turn(ready)
            if self.service is not None and self.service.must_commit:
                await self._commit()
                gave_way = time.perf_counter_ns()
            self.send_replies()
            if time.perf_counter_ns() - gave_way > GIVE_WAY_NS:
                await trio.lowlevel.checkpoint()
                gave_way = time.perf_counter_ns()

    def turn(self, ready: list[tuple[int, int]]) -> None:
        """Run what has come, and put its effects into the journal."""
        engine = self.engine
        engine.keyspace.tick()
        engine.stats.turns += 1
        connections = self.connections
        registry = engine.registry
        calls = engine.stats.calls
        received = 0
        began = perf_counter_ns()
        now = monotonic()
        served = self._served
        for fd, events in ready:
            connection = connections.get(fd)
            if connection is None:
                if fd in self._listeners:
                    self._accept(self._listeners[fd])
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
            if size == connection.recv_bytes:
                connection.recv_bytes = RECV_BYTES
            session = connection.session
            session.last_active = now
            try:
                if session.table is registry and connection.idle:
                    name = serve(session, data, calls)
                    if name is not None:
                        served.append((connection, data))
                        if began:
                            self._sample(name, data, perf_counter_ns() - began)
                            began = 0
                        if session.pending is not None:
                            self._want(connection, connection.events & ~READ)
                        continue
                self._read_generally(connection, data)
            except Exception as error:  # noqa: BLE001 - one client's fault is never another's
                engine.internal_error(session, error)
                self.close(connection)
            began = 0
        engine.stats.net_in_bytes += received
        if engine.suspended:
            self._advance_suspended()
        if self._expiry_behind:
            self.expire()
        if self._garbage:
            self._garbage = engine.keyspace.free_garbage(FREE_ENTRIES)
        self._write_journal()

    def _read_generally(self, connection: Connection, data: bytes) -> None:
        reader = connection.reader
        commands = reader.feed(data)
        if commands:
            self.execute(connection.session, commands)
        self._served.append((connection, commands))
        if reader.error is not None or reader.held_bytes:
            self._look_at_rest(connection)
        connection.idle = reader.idle
        if connection.session.authenticated and reader.limited:
            reader.limited = False

    def _sample(self, name: bytes, data: bytes, ns: int) -> None:
        """Note what the first client of a turn took, receiving included, for the percentiles."""
        n = data.count(b"\r\n*") + 1
        self.engine.stats.sampled(name.decode("ascii", "replace").lower(), ns // n, n)

    def execute(self, session: Session, commands: list[list[bytes]]) -> None:
        """Run commands of one client; the replies are in ``session.out``."""
        append = session.out.append
        rest = iter(commands)
        while True:
            try:
                for args in rest:
                    reply = session.table[args[0]](session, args)
                    append(reply)
                    if len(reply) > LARGE_REPLY_BYTES:
                        self._weigh(session)
                break
            except CommandError as error:
                append(resp.error(error.text))
            except Exception as error:  # noqa: BLE001 - one client's fault is never another's
                append(self.engine.internal_error(session, error))
        calls = self.engine.stats.calls
        for args in commands:
            name = args[0]
            calls[name] = calls.get(name, 0) + 1
        session.last_command = commands[-1][0].decode("ascii", "replace").lower()
        if session.pending is not None and isinstance(session.transport, Connection):
            self._want(session.transport, session.transport.events & ~READ)

    def _weigh(self, session: Session) -> None:
        """Run no more commands of a client that is owed enough, until it has read."""
        self._large_replies += 1
        if self._large_replies % 16 and len(session.out[-1]) < VERY_LARGE_REPLY_BYTES:
            return
        limit = self.engine.config.max_output_bytes
        if session.pending is None and session.transport and _owed_bytes(session) > limit:
            session.hold(self._until_read(session))

    def _until_read(self, session: Session) -> Work:
        """Rest until a client has read half of what it may be owed; end one that reads nothing."""
        config = self.engine.config
        least, since_s = _owed_bytes(session) + 1, time.monotonic()
        while (owed := _owed_bytes(session)) > config.max_output_bytes // 2:
            now_s = time.monotonic()
            if owed < least:
                least, since_s = owed, now_s
            elif now_s - since_s > config.output_stall_s:
                self.engine.stats.output_limit_closed += 1
                log.warning("client %d does not read: %d bytes of output, closed", session.id, owed)
                self._doomed.append(session)
                return b""
            yield now_s + WAIT_FOR_READER_S
        return b""

    def _look_at_rest(self, connection: Connection) -> None:
        """A request is incomplete or broken: see to the limits."""
        reader, stats = connection.reader, self.engine.stats
        if reader.error is not None:
            stats.protocol_errors += 1
            connection.session.out.append(resp.error(f"ERR {reader.error}"))
            connection.session.close_after_reply()
        elif reader.held_bytes > self.engine.config.max_query_bytes:
            stats.query_limit_closed += 1
            log.warning("client %d: query buffer limit, closed", connection.session.id)
            self.close(connection)
        elif not connection.partial_since:
            connection.partial_since = time.monotonic()

    def _advance_suspended(self) -> None:
        engine = self.engine
        until = time.perf_counter_ns() + SLICE_NS
        for session in list(engine.suspended):
            reply = session.advance(SLICE_NS // len(engine.suspended) + 1)
            if reply is not None:
                session.out.append(reply)
                self._run_backlog(session)
                engine.dirty[session] = None
            if time.perf_counter_ns() > until:
                break
            if session in engine.suspended:  # to the end of the queue
                del engine.suspended[session]
                engine.suspended[session] = None

    def _run_backlog(self, session: Session) -> None:
        commands, session.backlog = session.backlog, []
        if commands:
            self.execute(session, commands)
        transport = session.transport
        if isinstance(transport, Connection):
            self._served.append((transport, commands))

    # ------------------------------------------------------------------------------- the journal

    def _write_journal(self) -> None:
        keyspace = self.engine.keyspace
        if not keyspace.effects:
            return
        if self.engine.journal is None:
            keyspace.effects.clear()
            return
        try:
            self.engine.journal.append(keyspace.effects)
        except JournalFullError as error:
            self._refuse_writers(str(error))
        except JournalFailedError as error:
            self._refuse_writers(str(error))
            keyspace.effects.clear()
            self.send_replies()
            raise
        keyspace.effects.clear()

    def _refuse_writers(self, reason: str) -> None:
        """Turn the replies of this turn's writes into errors: they would be lost by a kill."""
        log.error("writes are refused: %s", reason)
        refusal = misconf(reason)
        find = self.engine.registry.find
        for connection, sent in self._served:
            commands = (
                RequestReader(self.engine.config).feed(sent) if isinstance(sent, bytes) else sent
            )
            writes = [
                (command := find(args[0])) is not None
                and ("write" in command.flags or command.name == "exec")
                for args in commands
            ]
            out = connection.session.out
            if not any(writes):
                continue
            self.refused_writes += sum(writes)
            if isinstance(sent, bytes) and len(out) == 1:  # all of one kind
                out[:] = [refusal * len(writes)]
            elif len(out) == len(writes):
                out[:] = [
                    refusal if write else reply for write, reply in zip(writes, out, strict=True)
                ]
            else:  # replies and messages are mixed: no answer is an honest answer too
                out.clear()
                self.close(connection)
        self.watch_journal()

    def watch_journal(self) -> None:
        """Refuse writes while the journal takes none; called often, costs little."""
        engine = self.engine
        refused = engine.journal is not None and engine.journal.readonly_reason is not None
        if refused != ("journal" in engine.gates):
            engine.gate("journal", self._refuse_write if refused else None)

    def _refuse_write(self, session: Session, command: Command, args: list[bytes]) -> None:  # noqa: ARG002 - a gate
        writes = "write" in command.flags
        if command.name == "exec" and session.queue is not None:
            find = self.engine.registry.find
            queued = [find(queued_args[0]) for queued_args in session.queue]
            writes = any(one is not None and "write" in one.flags for one in queued)
        reason = self.engine.journal.readonly_reason
        if writes and reason is not None:
            self.refused_writes += 1
            raise CommandError(misconf(reason)[1:-2].decode("utf-8", "surrogateescape"))

    # ------------------------------------------------------------------------------------ sending

    def send_replies(self) -> None:
        """Send what this turn produced; its effects are where the policy wants them."""
        leaving = 0
        for connection, _ in self._served:
            out = connection.session.out
            if out:
                if connection.unsent_bytes or connection.fd < 0 or self._held:
                    self.flush(connection)
                    continue
                data = out[0] if len(out) == 1 else b"".join(out)
                out.clear()
                try:
                    sent = connection.send(data)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    self.close(connection)
                    continue
                leaving += sent
                if sent != len(data):
                    self._keep(connection, memoryview(data)[sent:])
        self._served.clear()
        self.engine.stats.net_out_bytes += leaving
        dirty = self.engine.dirty
        while dirty:
            session, _ = dirty.popitem()
            if session.transport is not None:
                session.transport.flush()
        if self.engine.suspended or self.engine.sleeping:
            self._watch_suspended()

    def _watch_suspended(self) -> None:
        """Do not read from a client whose commands could only wait."""
        engine = self.engine
        for waiting in (engine.suspended, engine.sleeping):
            for session in waiting:
                connection = session.transport
                if isinstance(connection, Connection) and connection.events & READ:
                    self._want(connection, connection.events & ~READ)

    def flush(self, connection: Connection) -> None:
        """Send or keep what a session has in ``out``; close it when it is to be closed."""
        session = connection.session
        if connection.fd < 0:
            session.out.clear()
            return
        if self._held and connection in self._held:
            return
        if session.pending is None and not connection.events & READ and not session.closing:
            self._want(connection, connection.events | READ)
        if session.out:
            self._keep(connection, session.take())
            self._send_more(connection)
        if session.closing and not connection.unsent_bytes and connection.fd >= 0:
            self.close(connection)

    def _keep(self, connection: Connection, data: bytes | memoryview) -> None:
        """Remember what the socket did not take, up to the limit."""
        if not data:
            return
        connection.unsent.append(data)
        connection.unsent_bytes += len(data)
        config = self.engine.config
        limit = config.max_output_bytes
        if not connection.session.authenticated:
            limit = config.max_unauthenticated_output_bytes
        elif connection.session.subscribed:
            limit = config.max_pubsub_output_bytes
            if connection.unsent_bytes > config.soft_pubsub_output_bytes:
                now = time.monotonic()
                connection.soft_since = connection.soft_since or now
                if now - connection.soft_since > config.soft_pubsub_output_s:
                    limit = 0
            else:
                connection.soft_since = 0.0
        session = connection.session
        if connection.unsent_bytes > limit and session.pending is None:
            if connection.unsent_bytes == len(data) and limit == config.max_output_bytes:
                session.hold(self._until_read(session))  # all of one turn: it may be one value
                self._want(connection, (connection.events | WRITE) & ~READ)
                return
            self.engine.stats.output_limit_closed += 1
            log.warning(
                "client %d does not read: %d bytes of output, closed",
                connection.session.id,
                connection.unsent_bytes,
            )
            self.close(connection)
        elif not connection.events & WRITE:
            self._want(connection, connection.events | WRITE)

    def _send_more(self, connection: Connection) -> None:
        """Send as much as the socket takes of what is kept."""
        unsent = connection.unsent
        while unsent and connection.fd >= 0:
            if len(unsent) > 1 and len(unsent[0]) < RECV_BYTES:
                unsent[:] = [b"".join(unsent)]
            try:
                sent = connection.send(unsent[0])
            except BlockingIOError:
                return
            except OSError:
                self.close(connection)
                return
            connection.unsent_bytes -= sent
            self.engine.stats.net_out_bytes += sent
            if sent < len(unsent[0]):
                unsent[0] = memoryview(unsent[0])[sent:]
            else:
                del unsent[0]
        if connection.fd >= 0:
            self._want(connection, connection.events & ~WRITE)
            if connection.session.closing:
                self.close(connection)

    def _want(self, connection: Connection, events: int) -> None:
        if events != connection.events:
            connection.events = events
            self._poller.modify(connection.fd, events)

    def close(self, connection: Connection) -> None:
        """End a connection and forget its session; safe to call twice."""
        if connection.fd < 0:
            return
        with contextlib.suppress(OSError, ValueError):
            self._poller.unregister(connection.fd)
        del self.connections[connection.fd]
        self._held.pop(connection, None)
        connection.fd = -1
        connection.sock.close()
        connection.unsent.clear()
        connection.unsent_bytes = 0
        connection.session.out.clear()
        self.engine.close(connection.session)

    # --------------------------------------------------------------------------------- housekeeping

    def expire(self) -> None:
        """Delete keys that are due, for a slice of time."""
        keyspace = self.engine.keyspace
        until = time.perf_counter_ns() + SLICE_NS
        while keyspace.expire_due(EXPIRE_KEYS) == EXPIRE_KEYS:
            if time.perf_counter_ns() > until:
                self._expiry_behind = True
                return
        self._expiry_behind = False

    async def tick(self) -> None:
        """Do what time asks for: due keys, paused accepting, freeing; between two turns."""
        self.engine.keyspace.tick()
        self.expire()
        while self._doomed:
            self._doomed.pop().transport.close()
        self._garbage = self.engine.keyspace.free_garbage(FREE_ENTRIES)
        if self._accept_again and time.monotonic() >= self._accept_again:
            self._accept_again = 0.0
            for fd in self._listeners:
                self._poller.modify(fd, READ)
        self.watch_journal()
        await self.settle()

    async def settle(self) -> None:
        """Bring what happened outside a turn into the journal, then send what it caused."""
        self._write_journal()
        if self.service is not None and self.service.must_commit:
            await self._commit()
        self.send_replies()

    async def _commit(self) -> None:
        """Wait until the replies of this turn may leave, or keep back those that may not.

        Under ``always`` nothing of a write may be seen before it is on disk, so everybody waits.
        Under ``everysec`` on a slow disk only those wait who wrote; readers are served meanwhile.
        """
        if self.engine.config.fsync == "always":
            await self.service.commit()
            return
        kept = []
        for connection, sent in self._served:
            if self._wrote(sent):
                self._held[connection] = None
                self._want(connection, connection.events & ~READ)
            else:
                kept.append((connection, sent))
        self._served = kept
        if self._held:
            self._holding.set()

    async def release(self) -> None:
        """Send what was kept back once the disk has caught up; runs beside ``run``.

        Raises JournalFailedError when the journal's device failed.
        """
        while True:
            await self._holding.wait()
            self._holding = trio.Event()
            await self.service.commit()
            held, self._held = self._held, {}
            for connection in held:
                self.flush(connection)

    def _wrote(self, sent: list[list[bytes]] | bytes) -> bool:
        commands = RequestReader(self.engine.config).feed(sent) if isinstance(sent, bytes) else sent
        find = self.engine.registry.find
        found = [find(args[0]) for args in commands]
        return any(
            one is not None and ("write" in one.flags or one.name == "exec") for one in found
        )

    def close_idle(self, each: Callable[[Connection], bool]) -> None:
        """Close the connections of which ``each`` says so."""
        for connection in list(self.connections.values()):
            if each(connection):
                self.close(connection)

    async def drain(self, grace_s: float) -> None:
        """Let clients read what they are owed, for a while, then close all of them."""
        with trio.move_on_after(grace_s):
            while any(c.unsent_bytes for c in self.connections.values()) or self.engine.suspended:
                self.turn(self._poller.poll(0) if self.engine.suspended else [])
                await self.settle()
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


def _owed_bytes(session: Session) -> int:
    """What a client has not been sent yet."""
    unsent: int = session.transport.unsent_bytes
    return unsent + sum(map(len, session.out))


def misconf(reason: str) -> bytes:
    """The reply to a write that the journal cannot take."""
    return resp.error(f"MISCONF {reason}. Commands that may modify the data set are disabled.")


def keepalive(sock: socket.socket, seconds: int) -> None:
    """Ask the system to notice dead peers after about that long."""
    if seconds <= 0:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", seconds),
        ("TCP_KEEPINTVL", max(1, seconds // 3)),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
