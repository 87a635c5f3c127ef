"""From effects to the journal, and the answer of those who wrote: the point where a turn counts.

Guarantees:

* The effects of a turn are one record, written before any reply of the turn leaves.
* Under ``always`` nobody sees a write, or its reply, before it is on disk. Under ``everysec``, on a
  disk too slow for the promise, those who wrote wait and the others are served.
* When the journal takes no record, whoever wrote in that turn gets MISCONF and no OK; later writes
  are refused before they run, until the journal is whole again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import trio

from kvserver import resp
from kvserver.connections import Connections
from kvserver.errors import CommandError, JournalFailedError, JournalFullError
from kvserver.poller import READ
from kvserver.requests import RequestReader

if TYPE_CHECKING:
    from kvserver.commands.table import Command
    from kvserver.engine import Engine
    from kvserver.session import Session

__all__ = ["Commits", "misconf"]

log = logging.getLogger("kvserver")


class Commits(Connections):
    """Clients, and the journal that their writes go to."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.service: Any = None
        """The journal's service; None without a journal."""
        self._holding = trio.Event()
        self._committing: trio.Event | None = None
        self.refused_writes = 0

    def _write_journal(self) -> bool:
        """Write what changed as one record; whether anything had."""
        keyspace = self.engine.keyspace
        journal = self.engine.journal
        if not keyspace.effects and not keyspace.packed_effects:
            if journal is not None and journal.staging.released:
                journal.staging.forget_released()
            return False
        try:
            if journal is not None:
                journal.append(keyspace.effects, keyspace.packed_effects)
        except JournalFullError as error:
            self._refuse_writers(str(error))
        except JournalFailedError as error:
            self._refuse_writers(str(error))
            keyspace.clear_effects()
            self.send_replies()
            raise
        keyspace.clear_effects()
        return True

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
            replies = resp.split_replies(b"".join(out))  # a run is answered in one piece
            if len(replies) == len(writes):
                out[:] = [
                    refusal if write else reply
                    for write, reply in zip(writes, replies, strict=True)
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

    async def committed(self) -> None:
        """Wait while a turn is being committed: until then, nobody may begin another.

        Otherwise one who waited for an older sync would send the replies of a newer turn.
        """
        while self._committing is not None:
            await self._committing.wait()

    async def settle(self, *, wrote: bool = False) -> None:
        """Bring what happened outside a turn into the journal, then send what it caused."""
        self.engine.tracking.tell()
        wrote = self._write_journal() or wrote
        if wrote and self.service is not None and self.service.must_commit:
            await self._commit()
        self.send_replies()

    async def _commit(self) -> None:
        """Wait until the replies of this turn may leave, or keep back those that may not.

        Under ``always`` nothing of a write may be seen before it is on disk, so everybody waits.
        Under ``everysec`` on a slow disk only those wait who wrote; readers are served meanwhile.
        """
        if self.engine.config.fsync == "always":
            self._committing = done = trio.Event()
            try:
                await self.service.commit()
            except JournalFailedError as error:  # writers hear of it, readers get nothing of it
                for connection, sent in self._served:
                    if not self._wrote(sent):
                        connection.session.out.clear()
                self._refuse_writers(str(error))
                self.send_replies()
                raise
            finally:
                self._committing = None
                done.set()
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


def misconf(reason: str) -> bytes:
    """The reply to a write that the journal cannot take."""
    return resp.error(f"MISCONF {reason}. Commands that may modify the data set are disabled.")
