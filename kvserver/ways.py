"""The ways of a command that are not the quick one: tables in which all names lead to one place.

A session runs ``session.table[args[0]](session, args)``. While something special is going on, its
table is not the registry but one of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvserver.commands.table import Caller
    from kvserver.session import Session

__all__ = ["BACKLOG", "DROPPED", "GATE", "LARGE", "MEASURED", "QUEUEING"]


class _Everything(dict[bytes, "Caller"]):
    """A table in which every name leads to the same place."""

    def __init__(self, caller: Caller) -> None:
        super().__init__()
        self._caller = caller

    def __missing__(self, name: bytes) -> Caller:
        return self._caller


def _execute(session: Session, args: list[bytes]) -> bytes:
    return session.execute(args)


def _execute_large(session: Session, args: list[bytes]) -> bytes:
    session.retable()
    return session.execute(args, large=True)


def _queue(session: Session, args: list[bytes]) -> bytes:
    return session.enqueue(args)


def _keep(session: Session, args: list[bytes]) -> bytes:
    session.backlog.append(args)
    return b""


def _drop(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - called like a handler
    return b""


GATE: Final = _Everything(_execute)
"""Not authenticated, in MULTI, subscribed, or with a gate of the engine closed: whoever may stand
between a client and a handler is asked."""
MEASURED: Final = _Everything(_execute)
"""The same where nothing but a limit on memory stands in the way: runs may go quickly."""
QUEUEING: Final = _Everything(_queue)
"""In MULTI, and nothing else is special: most commands are only kept for EXEC."""
LARGE: Final = _Everything(_execute_large)
"""For one command, of which is known that it is large."""
BACKLOG: Final = _Everything(_keep)
"""A command is suspended: others are kept for later."""
DROPPED: Final = _Everything(_drop)
"""The connection is to be closed: nothing more is run."""
