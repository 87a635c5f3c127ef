"""The sockets of clients on their way out: send replies, keep what is not taken, within limits.

A reply goes out with one send; what the socket does not take is kept and sent when it can be. A
client that leaves more unread than it may is disconnected, and only that client.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from kvserver.poller import ONCE, READ, WRITE, new_poller
from kvserver.requests import RequestReader

if TYPE_CHECKING:
    from kvserver.commands.table import Work
    from kvserver.engine import Engine
    from kvserver.session import Session

__all__ = ["RECV_BYTES", "Connection", "Connections"]

log = logging.getLogger("kvserver")

RECV_BYTES: Final = 65536
FIRST_RECV_BYTES: Final = 16384
"""Making room for less is quicker; a client that fills it gets more from then on."""

VERY_LARGE_REPLY_BYTES: Final = 1 << 20
JOINED_BYTES: Final = 1 << 16
"""Small parts of replies are joined until they are so many bytes; larger ones never."""
SEND_BYTES: Final = 1 << 20
"""What one client is sent in a turn, if others are to be served within milliseconds."""
MANY_PARTS: Final = 256
"""Parts that one client is owed, from which on they are not joined all at once."""
WAIT_FOR_READER_S: Final = 0.02


class Connection:
    """One client's socket."""

    __slots__ = (
        "events",
        "fd",
        "idle",
        "owner",
        "partial_since",
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

    def __init__(self, owner: Connections, sock: socket.socket, session: Session) -> None:
        self.owner = owner
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.recv_bytes = FIRST_RECV_BYTES
        self.send = sock.send
        self.session = session
        self.reader = RequestReader(owner.engine.config, limited=not session.authenticated)
        self.idle = self.reader.idle
        """Whether the quick way is open: kept here because it is asked for every chunk."""
        self.events = READ
        self.unsent: list[bytes | memoryview] = []
        self.unsent_bytes = 0
        self.soft_since = 0.0
        self.partial_since = 0.0

    def flush(self) -> None:
        """Send what the session has to say."""
        self.owner.flush(self)

    def close(self) -> None:
        """End the connection now."""
        self.owner.close(self)


class Connections:
    """All clients of an engine, by the descriptor of their socket."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.connections: dict[int, Connection] = {}
        self._poller = new_poller()
        self._served: list[tuple[Connection, list[list[bytes]] | bytes]] = []
        """Whom this turn served, and with which commands (as bytes, when they went quickly)."""
        self._held: dict[Connection, None] = {}
        """Whose replies wait for a slow disk."""
        self._doomed: list[Session] = []
        self._large_replies = 0

    def adopt(self, sock: socket.socket, address: str, local_address: str) -> None:
        """Serve a new client."""
        session = self.engine.session(address, local_address)
        session.transport = connection = Connection(self, sock, session)
        self.connections[connection.fd] = connection
        self._poller.register(connection.fd, READ | ONCE)

    def send_replies(self) -> None:
        """Send what this turn produced; its effects are where the policy wants them."""
        leaving = 0
        for connection, _ in self._served:
            out = connection.session.out
            if not out:
                continue
            if connection.unsent_bytes or connection.fd < 0 or self._held:
                self.flush(connection)
                continue
            if len(out) == 1:
                data = out.pop()
            elif len(out) > MANY_PARTS or len(max(out, key=len)) > JOINED_BYTES:
                self.flush(connection)
                continue
            else:
                data = b"".join(out)
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
                self._keep(connection, [memoryview(data)[sent:]])
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
            self._keep(connection, session.out)
            session.out.clear()
            self._send_more(connection)
        if session.closing and not connection.unsent_bytes and connection.fd >= 0:
            self.close(connection)

    def _keep(self, connection: Connection, parts: Sequence[bytes | memoryview]) -> None:
        """Remember what the socket did not take, up to the limit."""
        size = sum(map(len, parts))
        if not size:
            return
        connection.unsent += parts
        connection.unsent_bytes += size
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
            if limit == config.max_output_bytes and "monitor" not in session.about:
                session.hold(self._until_read(session))  # no more of what it asks for meanwhile
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
        left = SEND_BYTES
        while unsent and connection.fd >= 0:
            if len(unsent) > 1 and len(unsent[0]) < JOINED_BYTES:
                _join_first(unsent)
            try:
                sent = connection.send(memoryview(unsent[0])[:left])
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
            left -= sent
            if left <= 0 and unsent:  # the others first
                self._want(connection, connection.events | WRITE)
                return
        if connection.fd >= 0:
            self._want(connection, connection.events & ~WRITE)
            if connection.session.closing:
                self.close(connection)

    def _want(self, connection: Connection, events: int) -> None:
        if events != connection.events:
            connection.events = events
            self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        """Hear of what a socket is ready for from now on, and of what it has been ready for.

        Who waits to send is told until all is sent, as there is more to send than a turn may take.
        """
        events = connection.events
        self._poller.modify(connection.fd, events if events & WRITE else events | ONCE)

    def close(self, connection: Connection) -> None:
        """End a connection and forget its session; safe to call twice."""
        if connection.fd < 0:
            return
        with contextlib.suppress(OSError, ValueError):
            self._poller.unregister(connection.fd)
        del self.connections[connection.fd]
        self._held.pop(connection, None)
        connection.fd = -1
        connection.events = 0  # nobody asks the poller for it again, though its session may stay
        connection.sock.close()
        connection.unsent.clear()
        connection.unsent_bytes = 0
        connection.session.out.clear()
        self.engine.close(connection.session)

    def close_idle(self, each: Callable[[Connection], bool]) -> None:
        """Close the connections of which ``each`` says so."""
        for connection in list(self.connections.values()):
            if each(connection):
                self.close(connection)

    def _weigh(self, session: Session) -> None:
        """Run no more commands of a client that is owed enough, until it has read."""
        self._large_replies += 1
        if self._large_replies % 16 == 0 or len(session.out[-1]) >= VERY_LARGE_REPLY_BYTES:
            self._hold_if_owed_enough(session)

    def _hold_if_owed_enough(self, session: Session) -> None:
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


def _join_first(parts: list[bytes | memoryview]) -> None:
    """Join the first parts, as long as they are small, to one that is worth a send."""
    size = count = 0
    while count < len(parts) and size < JOINED_BYTES and len(parts[count]) < JOINED_BYTES:
        size += len(parts[count])
        count += 1
    parts[:count] = [b"".join(parts[:count])]


def _owed_bytes(session: Session) -> int:
    """What a client has not been sent yet."""
    unsent: int = session.transport.unsent_bytes
    return unsent + sum(map(len, session.out))
