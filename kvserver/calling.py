"""Commands that were let through before, one after the other: what a transaction is made of.

Guarantee: each of them is answered, by an error if need be, and none stops those behind it.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

from kvserver.commands.table import completed
from kvserver.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from kvserver.commands.table import Command, Work
    from kvserver.session import Session

__all__ = ["call_all", "call_in_steps"]


def call_all(session: Session, queue: Iterable[list[bytes]]) -> list[bytes]:
    """Run commands, each to its end; return the replies."""
    around = _set_aside(session)
    registry = session.engine.registry
    replies = []
    for args in queue:
        try:
            reply = registry[args[0]](session, args)
            if session.pending is not None:
                reply = session.to_end()
        except CommandError as error:
            reply = session.failed_call(args, error.text)
        except Exception as error:  # noqa: BLE001 - the rest of the transaction goes on
            reply = session.engine.internal_error(session, error)
        replies.append(reply)
    if around is not None:
        session.pending, session.suspended_since = around
        session.engine.suspended[session] = None
        session.retable()
    return replies


def _set_aside(session: Session) -> tuple[Work, tuple[Command, list[bytes], int] | None] | None:
    """Return what is suspended, the transaction itself, and forget it for a while."""
    if session.pending is None:
        return None
    around = session.pending, session.suspended_since
    session.pending = None
    return around


def call_in_steps(session: Session, args: list[bytes]) -> Generator[object, None, list[bytes]]:
    """Run a long command with a yield between its steps; return the reply in parts."""
    engine = session.engine
    command = engine.registry.find(args[0])
    assert command is not None
    began = perf_counter_ns()
    try:
        reply = yield from completed(command.handler(session, args))
    except CommandError as error:
        reply = session.failed(command.name, error.text)
    except Exception as error:  # noqa: BLE001 - the rest of the transaction goes on
        reply = engine.internal_error(session, error)
    engine.stats.timed(session, command, args, perf_counter_ns() - began)
    return [reply] if isinstance(reply, bytes) else reply
