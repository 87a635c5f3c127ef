"""MONITOR: clients that see every command of all clients, while there are any.

Passwords never show: the arguments of AUTH, and of HELLO's AUTH, are replaced. Commands of
administration are left out, as Redis leaves them out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvserver.commands.table import Command
    from kvserver.engine import Engine
    from kvserver.session import Session

__all__ = ["Monitors", "quoted", "redacted"]

_ESCAPES: Final = {
    0x5C: b"\\\\",
    0x22: b'\\"',
    0x0A: b"\\n",
    0x0D: b"\\r",
    0x09: b"\\t",
    0x07: b"\\a",
    0x08: b"\\b",
}
_SHOWN_IN_MULTI: Final = frozenset(["multi", "discard", "watch", "quit", "reset"])
_SHOWN: Final = [
    _ESCAPES.get(byte, bytes((byte,)) if 32 <= byte < 127 else b"\\x%02x" % byte)
    for byte in range(256)
]


def quoted(raw: bytes) -> bytes:
    """Return bytes as Redis shows them to people: in quotes, nothing unprintable in them."""
    return b'"%b"' % b"".join(map(_SHOWN.__getitem__, raw))


def redacted(command: Command, args: list[bytes]) -> list[bytes]:
    """Return the arguments without passwords."""
    if command.name == "auth":
        return [args[0], *[b"(redacted)"] * (len(args) - 1)]
    if command.name == "hello":
        upper = [arg.upper() for arg in args]
        if b"AUTH" in upper:
            at = upper.index(b"AUTH") + 1
            return [*args[:at], *[b"(redacted)"] * (len(args) - at)]
    return args


class Monitors:
    """The sessions that watch."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions: dict[Session, None] = {}
        engine.on_close.append(self.forget)

    def add(self, session: Session) -> None:
        """Show this session everything from now on."""
        self._sessions[session] = None
        session.about["monitor"] = True
        self._engine.gate("monitor", self._show)

    def forget(self, session: Session) -> None:
        """Show it nothing any more."""
        if self._sessions.pop(session, self) is self:
            return
        session.about.pop("monitor", None)
        if not self._sessions:
            self._engine.gate("monitor", None)

    def _show(self, session: Session, command: Command, args: list[bytes]) -> None:
        """Stand before every command. What a transaction holds is shown when it runs."""
        if session.queue is None or command.name in _SHOWN_IN_MULTI:
            self.show(session, command, args)

    def show(self, session: Session, command: Command, args: list[bytes]) -> None:
        """Show a command to everybody who watches."""
        if not self._sessions or "admin" in command.flags or "skip_monitor" in command.flags:
            return
        words = b" ".join(map(quoted, redacted(command, args)))
        where = session.address.encode() or b"test"
        line = b"+%.6f [0 %b] %b\r\n" % (time.time(), where, words)
        for watcher in list(self._sessions):
            watcher.push(line)
