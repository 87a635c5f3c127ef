"""Running what clients asked for: in the order of each, and none so long that others wait for it.

Guarantees:

* An exception in a command is one client's error reply.
* A long command (a handler that returned a generator) is advanced a few milliseconds a turn while
  the commands of other clients run in between; those of its own client wait behind it.
* A long pipeline gives way after as many milliseconds, between two commands.
* What was no request is told once everything before it is answered.
"""

from __future__ import annotations

import logging
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Final

from kvserver.ahead import LARGE_BYTES
from kvserver.alike import PART_COMMANDS, groups, run_group
from kvserver.commands.table import NEXT_TURN, Work
from kvserver.commands.transactions import whole_transaction
from kvserver.commits import Commits
from kvserver.connections import Connection
from kvserver.errors import CommandError
from kvserver.poller import READ

if TYPE_CHECKING:
    from kvserver.requests import RequestReader
    from kvserver.session import Session
    from kvserver.stats import Stats

__all__ = ["SLICE_NS", "Execution"]

log = logging.getLogger("kvserver")

SLICE_NS: Final = 1_500_000
"""How long a turn works on suspended commands, a long pipeline, expiry and freeing, each."""
LARGE_REPLY_BYTES: Final = 16384
"""Above it, a reply is a reason to look at how much the client is owed."""
MAX_NAME_BYTES: Final = 64
"""What is remembered of the last command of a client is no more than a name."""


class Execution(Commits):
    """Clients, and the commands that they sent."""

    def _read_generally(self, connection: Connection, data: bytes) -> None:
        reader = connection.reader
        commands = self.read(connection.session, reader, data)
        self._served.append((connection, commands))
        if reader.error is not None or reader.held_bytes:
            self._look_at_rest(connection)
        connection.idle = reader.idle
        if connection.session.authenticated and reader.limited:
            reader.limited = False

    def read(self, session: Session, reader: RequestReader, data: bytes) -> list[list[bytes]]:
        """Run what came of one client, as far as it is whole; return what `execute` returns."""
        held_bytes = reader.held_bytes
        commands = reader.feed(data)
        if not commands:
            return commands
        if held_bytes > LARGE_BYTES:
            session.expect_large()
        return self.execute(session, commands)

    def execute(self, session: Session, commands: list[list[bytes]]) -> list[list[bytes]]:
        """Run commands of one client; return which of them, the replies are in ``session.out``.

        The others wait behind a long command, or (a long pipeline) for others to have their turn.
        """
        waiting = len(session.backlog)
        until, at = perf_counter_ns() + SLICE_NS, 0
        while at < len(commands):
            if at and perf_counter_ns() > until and session.pending is None:
                session.hold(_after_turn(self.engine.stats, self.engine.stats.turns))
                session.backlog += commands[at:]
                break
            at = self._execute_some(session, commands, at)
        waiting = len(session.backlog) - waiting
        if waiting:
            commands = commands[:-waiting]
        calls = self.engine.stats.calls
        for args in commands:
            name = args[0]
            calls[name] = calls.get(name, 0) + 1
        if commands:
            session.last_called = commands[-1][0][:MAX_NAME_BYTES]
        if session.pending is not None and isinstance(session.transport, Connection):
            self._want(session.transport, session.transport.events & ~READ)
        return commands

    def _execute_some(self, session: Session, commands: list[list[bytes]], start: int) -> int:
        """Run a transaction that is whole, or else a part; return where the next begins."""
        if session.table is self.engine.registry:
            found = whole_transaction(session, commands, start)
            if found is not None:
                end, replies = found
                self._answer(session, replies)
                return end
        end = start + PART_COMMANDS
        self._execute_part(session, commands[start:end])
        return end

    def _execute_part(self, session: Session, commands: list[list[bytes]]) -> None:
        for handler, some in groups(commands):
            if handler is not None and session.table is self.engine.quick_table:
                replies = run_group(session, handler, some)
                if replies is not None:
                    self._answer(session, replies)
                    continue
            self._execute_each(session, some)

    def _answer(self, session: Session, replies: bytes) -> None:
        session.out.append(replies)
        if len(replies) > LARGE_REPLY_BYTES:
            self._weigh(session)

    def _execute_each(self, session: Session, commands: list[list[bytes]]) -> None:
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
                append(session.failed_call(args, error.text))
            except Exception as error:  # noqa: BLE001 - one client's fault is never another's
                append(self.engine.internal_error(session, error))

    def _look_at_rest(self, connection: Connection) -> None:
        """A request is incomplete or broken: see to the limits."""
        reader, stats = connection.reader, self.engine.stats
        if reader.error is not None:
            self._tell_error(connection)
        elif reader.held_bytes > self.engine.config.max_query_bytes:
            stats.query_limit_closed += 1
            log.warning("client %d: query buffer limit, closed", connection.session.id)
            self.close(connection)
        elif not connection.partial_since:
            connection.partial_since = monotonic()

    def _tell_error(self, connection: Connection) -> None:
        """Say that bytes were no request, once everything before them is answered."""
        session, error = connection.session, connection.reader.error
        if error is not None and session.pending is None and not session.closing:
            session.protocol_error(error)

    def _advance_suspended(self) -> None:
        engine = self.engine
        until = perf_counter_ns() + SLICE_NS
        for session in list(engine.suspended):
            since = session.suspended_since
            reply = session.advance(SLICE_NS // len(engine.suspended) + 1)
            if reply is not None:
                session.answer(reply)
                if isinstance(reply, list):
                    self._hold_if_owed_enough(session)
                if session.pending is None:
                    self._run_backlog(session, [] if since is None else [since[1]])
                engine.dirty[session] = None
            if session in engine.suspended:  # to the end of the queue
                del engine.suspended[session]
                engine.suspended[session] = None
            if perf_counter_ns() > until:
                break

    def _run_backlog(self, session: Session, answered: list[list[bytes]]) -> None:
        """Run what waited behind a command, which is in ``answered`` if it had a reply."""
        commands, session.backlog = session.backlog, []
        if commands:
            commands = self.execute(session, commands)
        transport = session.transport
        if isinstance(transport, Connection):
            self._served.append((transport, answered + commands))
            self._tell_error(transport)


def _after_turn(stats: Stats, turn: int) -> Work:
    """Nothing to do but to let others go first."""
    while stats.turns == turn:
        yield NEXT_TURN
    return b""
