"""New clients: from the listening sockets to whoever adopts them.

Guarantees:

* A client beyond the limit is told so, and costs nothing more.
* When the system has no descriptor left, accepting pauses; clients that are here notice nothing.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kvserver.listening import endpoint
from kvserver.poller import READ, Poller

if TYPE_CHECKING:
    from kvserver.engine import Engine

__all__ = ["Acceptor"]

log = logging.getLogger("kvserver")

ACCEPT_BATCH: Final = 128
ACCEPT_PAUSE_S: Final = 0.1
TOO_MANY_CLIENTS: Final = b"-ERR max number of clients reached\r\n"
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """The listening sockets of an engine, registered with a poller."""

    def __init__(
        self, engine: Engine, poller: Poller, adopt: Callable[[socket.socket, str, str], None]
    ) -> None:
        self._engine = engine
        self._poller = poller
        self._adopt = adopt
        """Called with each new socket, the client's address, and the one it came to."""
        self.listeners: dict[int, socket.socket] = {}
        self._again_s = 0.0

    def listen(self, sock: socket.socket) -> None:
        """Accept clients from a listening socket."""
        sock.setblocking(False)
        self.listeners[sock.fileno()] = sock
        self._poller.register(sock.fileno(), READ)

    def close(self) -> None:
        """Close the listening sockets; clients that are here stay."""
        for fd, sock in self.listeners.items():
            with contextlib.suppress(OSError, ValueError):
                self._poller.unregister(fd)
            sock.close()
        self.listeners.clear()

    def accept(self, listener: socket.socket) -> None:
        """Take in who waits at a listening socket, up to a batch."""
        engine = self._engine
        for _ in range(ACCEPT_BATCH):
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                return
            sock.setblocking(False)
            if len(engine.sessions) >= engine.config.max_clients:
                engine.stats.rejected_connections += 1
                with contextlib.suppress(OSError):
                    sock.send(TOO_MANY_CLIENTS)
                sock.close()
                continue
            try:
                self._adopt(sock, *self._prepare(sock, peer))
            except OSError:  # gone again already
                sock.close()

    def _prepare(self, sock: socket.socket, peer: Any) -> tuple[str, str]:
        """Set a socket's options; return the address of its other end and its own."""
        config = self._engine.config
        if sock.family not in {socket.AF_INET, socket.AF_INET6}:
            return f"{config.unix_socket}:0", f"{config.unix_socket}:0"
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(sock, config.tcp_keepalive_s)
        local = ""
        with contextlib.suppress(OSError):
            local = endpoint(sock.getsockname())
        return endpoint(peer), local

    def _pause(self, error: OSError) -> None:
        log.warning("cannot accept clients: %s; trying again", error.strerror)
        for fd in self.listeners:
            self._poller.modify(fd, 0)
        self._again_s = time.monotonic() + ACCEPT_PAUSE_S

    def resume(self) -> None:
        """Accept again once a pause is over; to be called now and then."""
        if self._again_s and time.monotonic() >= self._again_s:
            self._again_s = 0.0
            for fd in self.listeners:
                self._poller.modify(fd, READ)


def _keep_alive(sock: socket.socket, seconds: int) -> None:
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
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # for a peer that dies with our data under way
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000 * seconds)
