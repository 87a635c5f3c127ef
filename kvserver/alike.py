"""Long pipelines and transactions: neighbours that are alike are run together, column by column.

``quick`` does that with a chunk as it came; here the requests are read already, begin and end
anywhere, and others may stand between. Among 100,000 keys a GET takes 0.45 µs where one by one it
takes 0.9, a SET 0.6 instead of 0.85.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby
from typing import TYPE_CHECKING, Final

from kvserver.columnwise import RUNS, RunHandler

if TYPE_CHECKING:
    from kvserver.session import Session

__all__ = ["PART_COMMANDS", "groups", "run_group"]

PART_COMMANDS: Final = 64
"""So many of a pipeline are run at a time."""
_FEW: Final = 4
"""Fewer gain nothing."""

Command = list[bytes]


def groups(commands: list[Command]) -> Iterator[tuple[RunHandler | None, list[Command]]]:
    """Yield the commands in order: those that run together with who does it, others with None.

    All of them at once where no two neighbours at the beginning or the end are alike: to compare
    each costs a tenth of what it takes to run it.
    """
    if len(commands) < _FEW or (
        commands[0][0] != commands[1][0] and commands[-1][0] != commands[-2][0]
    ):
        yield None, commands
        return
    others: list[Command] = []
    for kind, neighbours in groupby(commands, _kind):
        group = list(neighbours)
        handler = RUNS.get(kind) if len(group) >= _FEW else None
        if handler is None:
            others += group
            continue
        if others:
            yield None, others
            others = []
        yield handler, group
    if others:
        yield None, others


def run_group(session: Session, handler: RunHandler, group: list[Command]) -> bytes | None:
    """Run a group as one; return its replies, joined. None: nothing has happened.

    The session must be in its plain state. A mistake of ours ends the connection.
    """
    columns = list(zip(*group, strict=True))
    unlimited = type(session.keyspace.data) is dict  # then nobody asks for the size
    size = 0 if unlimited else sum(map(len, chain.from_iterable(columns)))
    try:
        return handler(session, columns[1:], size)
    except Exception as error:  # noqa: BLE001 - how far it came cannot be told
        session.close_after_reply()
        return session.engine.internal_error(session, error)


def _kind(command: Command) -> tuple[bytes, int]:
    return command[0], len(command)
