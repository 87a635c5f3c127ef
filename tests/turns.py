"""A server in the test's own process, whose turns are taken by hand."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

import trio

from kvserver.engine import Engine
from kvserver.reactor import Reactor


class Turns:
    """Some clients of a reactor, and nothing happens before somebody says ``take``."""

    def __init__(self, clients: int) -> None:
        self.engine = Engine()
        self.reactor = Reactor(self.engine)
        self.clients: list[socket.socket] = []
        for _ in range(clients):
            ours, theirs = socket.socketpair()
            for end in (ours, theirs):
                end.setblocking(False)
            self.reactor.adopt(theirs, "", "")
            self.clients.append(ours)

    def take(self) -> None:
        """Take one turn, replies included."""
        self.reactor.turn(self.reactor._poller.poll(0))
        self.reactor.send_replies()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        trio.run(self.reactor.drain, 0)
        for client in self.clients:
            client.close()
