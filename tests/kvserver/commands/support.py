"""A whole server without sockets, for tests of single commands."""

from __future__ import annotations

from typing import Any

from kvserver.config import Config
from kvserver.engine import Engine
from kvserver.keyspace import Keyspace
from kvserver.session import Session

Arg = bytes | str | int


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now_ms


class Server:
    """An engine, its clock, and sessions to talk to it."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.keyspace = Keyspace(self.clock)
        self.engine = Engine(Config(**settings), self.keyspace)
        self.first = self.open()

    def goes_quickly(self) -> bool:
        """Whether pipelines of the first session may be served in one go."""
        return self.first.table is self.engine.quick_table

    def open(self, address: str = "127.0.0.1:1000") -> Session:
        return self.engine.session(address, "127.0.0.1:7379")

    def advance(self, ms: int) -> None:
        """Let time pass, and the server notice."""
        self.clock.now_ms += ms
        self.keyspace.tick()

    def __call__(self, *args: Arg, by: Session | None = None) -> bytes:
        """Run a command and return its reply."""
        return (by or self.first).run([_bytes(arg) for arg in args])

    def check(self) -> None:
        """Assert every invariant there is."""
        self.keyspace.check()
        self.engine.hub.check()
        self.engine.watches.check()
        self.engine.tracking.check()


def _bytes(arg: Arg) -> bytes:
    return arg if isinstance(arg, bytes) else str(arg).encode()


def messages(session: Session) -> bytes:
    """Return what a session was sent without asking."""
    return session.take()
