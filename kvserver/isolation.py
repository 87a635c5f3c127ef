"""A long atomic write in slices: what it touches waits until its end, everything else goes on.

MSET and EXEC are atomic: nobody sees one half done, neither now nor after a crash. Run at once,
50,000 keys keep everybody waiting for a tenth of a second. Here such a write is isolated instead:

* A command of somebody else that touches one of its keys, or is about all keys (KEYS, DBSIZE,
  INGEST), waits until its end, and so does another long write. All other commands have nothing to
  do with it, so everybody sees what they would have seen if it had run at once, at its end.
* Its effects are kept apart and become part of one record at its end, before it is answered; what
  many of them are goes to the journal ahead of it (see ``journal.staging``).
* Who WATCHes one of its keys, or hears events of keys, learns of it at its end; then its messages
  (PUBLISH) are sent, too, behind those that others sent meanwhile.
* The keys that its own client WATCHes are among its keys. KEYS or DBSIZE, once in a transaction,
  tells of one moment, which is that of the transaction (see ``keysnapshot``).
* Time stands still in it; meanwhile no key expires by itself, and none of its keys is evicted.

It ends at once when a gate is closed, and does not begin where one is, but for those of a limit on
memory and of MONITOR; nor does it begin in the middle of another slow command that writes. It
outlives its client.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from kvserver.commands.table import at_once
from kvserver.journal.record import new_packer
from kvserver.journal.staging import PIECE_BYTES

if TYPE_CHECKING:
    from kvserver.commands.table import Command, Work
    from kvserver.engine import Engine
    from kvserver.journal.record import Effect
    from kvserver.journal.staging import Stage
    from kvserver.journal.writer import Journal
    from kvserver.livestore import Event
    from kvserver.session import Session

__all__ = ["LONG", "Isolation", "Steps"]

LONG: Final = 1000
"""A write of more keys, or a transaction of more commands, is long."""

Steps: TypeAlias = "Generator[object, None, bytes | list[bytes]]"
"""A write that yields between slices of a fraction of a millisecond, and returns its reply, a large
one in parts."""

_LOOKS_OR_WRITES: Final = frozenset(["readonly", "write"])
_ISOLATED: Final = frozenset(["mset", "msetnx", "exec"])
"""While such a command is suspended, it has not begun to write, or is the one that is isolated."""
_OPEN_TO_IT: Final = frozenset(["maxmemory", "monitor"])
"""Gates that have nothing against it."""
_UNTIL_WOKEN: Final = float("inf")


@dataclass(slots=True)
class _Write:
    """One long write."""

    session: Session
    keys: dict[bytes, None]
    steps: Steps | None
    """None when the last one is done."""
    began_ms: int
    pack: Callable[[Effect], bytes] = field(default_factory=lambda: new_packer().pack)
    """Its own, so that what large values made of its buffer goes with it."""
    packed: list[bytes] = field(default_factory=list)
    """Its effects, but for those that are in the journal already."""
    packed_bytes: int = 0
    stage: Stage | None = None
    staged: int = 0
    """How many effects are in the journal, to be named by the record at the end."""
    changed: set[bytes] = field(default_factory=set)
    """Keys, as far as somebody listens."""
    events: list[Event] = field(default_factory=list)
    reply: bytes | list[bytes] = b""


class Isolation:
    """The long write that is going on, if there is one, and who waits for its end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._write: _Write | None = None
        self._waiting: dict[Session, None] = {}
        self._isolated = 0
        self._ended_early = 0
        self._held_back = 0
        engine.stats_providers["isolation"] = self.statistics

    @property
    def active(self) -> bool:
        """Whether a write is going on."""
        return self._write is not None

    @property
    def keys(self) -> Collection[bytes]:
        """The keys of the write that is going on."""
        return self._write.keys if self._write is not None else ()

    def is_of(self, session: Session) -> bool:
        """Whether the write that is going on is one of this session."""
        return self._write is not None and self._write.session is session

    def in_transaction(self, session: Session) -> bool:
        """Whether what a session runs now is a part of a transaction, and has to end at once."""
        return bool(session.about.get("exec")) or self.is_of(session)

    def suits(self, session: Session) -> bool:
        """Whether a long write of this session may be isolated, perhaps behind another one."""
        engine = self._engine
        if self.in_transaction(session) or not engine.gates.keys() <= _OPEN_TO_IT:
            return False
        return not any(map(self._is_writing, (*engine.suspended, *engine.sleeping)))

    def _is_writing(self, session: Session) -> bool:
        """Whether a suspended command has written something, and may write more."""
        if session.suspended_since is None or session in self._waiting or "ahead" in session.about:
            return False
        command = session.suspended_since[0]
        return "write" in command.flags and command.name not in _ISOLATED

    def run(self, session: Session, keys: dict[bytes, None], steps: Steps) -> Work:
        """Run a write that touches no key but these; return its reply."""
        yield from self.others(session)
        if not self.suits(session):  # not any more
            return at_once(steps)
        self._write = write = _Write(session, keys, steps, self._engine.keyspace.now)
        self._isolated += 1
        self._engine.choose_table()
        hub = self._engine.hub
        try:
            yield from self._to_end(write)
            while hub.tell_some():
                yield None
        finally:
            hub.tell_all()  # if the client has left
        return write.reply

    def _to_end(self, write: _Write) -> Generator[None]:
        try:
            while write.steps is not None:
                yield None
                if write is self._write:
                    self._advance(write)
        finally:
            if write is self._write:
                self.finish()

    def _advance(self, write: _Write, *, to_end: bool = False) -> None:
        """Take the next step, or all of them, with effects and time of its own."""
        keyspace, steps = self._engine.keyspace, write.steps
        assert steps is not None
        effects, keyspace.effects = keyspace.effects, []
        events: list[Event] = []
        keyspace.diverted = events
        now, keyspace.now = keyspace.now, write.began_ms
        try:
            next(steps)
            while to_end:
                next(steps)
        except StopIteration as done:
            write.reply, write.steps = done.value, None
        except BaseException:
            write.steps = None
            raise
        finally:
            self._pack(write, keyspace.effects)
            keyspace.effects, keyspace.now = effects, now
            keyspace.diverted = None
            write.events += events
            write.changed.update(key for key, event in events if isinstance(event, str))

    def _pack(self, write: _Write, effects: Sequence[Effect]) -> None:
        """Pack effects while the cache still holds them: that takes a third of the time.

        What has become a piece of the journal goes there now: all at the end would take long.
        """
        journal: Journal | None = self._engine.journal
        if journal is not None:
            effects = journal.staging.named_by(write.session, effects)
        packed = list(map(write.pack, effects))
        write.packed += packed
        write.packed_bytes += sum(map(len, packed))
        if journal is None or write.packed_bytes < PIECE_BYTES:
            return
        if write.stage is not None or journal.may_stage(write.session):
            write.stage = write.stage or journal.staging.begin(write.session)
            self._write_ahead(write, write.stage)

    def _pack_what_was_before(self, write: _Write) -> None:
        """Keep the order: what was written in this turn before it may be of the same keys."""
        keyspace, journal = self._engine.keyspace, self._engine.journal
        effects = keyspace.effects
        if journal is not None:
            effects = journal.staging.named_in_record(effects)
        keyspace.packed_effects += map(write.pack, effects)
        keyspace.effects.clear()

    def _write_ahead(self, write: _Write, stage: Stage) -> None:
        stage.write(b"".join(write.packed))
        write.staged += len(write.packed)
        write.packed, write.packed_bytes = [], 0

    def finish(self) -> None:
        """End the write that is going on, if there is one, and let those go on who wait."""
        write = self._write
        if write is None:
            return
        try:
            if write.steps is not None:
                self._ended_early += 1
                self._advance(write, to_end=True)
        except Exception as error:  # noqa: BLE001 - the fault is not that of who wants the end
            write.reply = self._engine.internal_error(write.session, error)
        finally:
            self._write = None
            if write.stage is not None:
                if write.packed:
                    self._write_ahead(write, write.stage)
                write.packed = [write.pack(write.stage.run_of(write.staged))]
            if self._engine.journal is not None:  # this turn's record is the one that names it all
                self._engine.journal.staging.release_all_of(write.session)
            self._pack_what_was_before(write)
            self._engine.keyspace.packed_effects += write.packed
            self._engine.keyspace.free_later(write.keys)
            self._engine.watches.note(write.changed)
            self._engine.tracking.note(write.changed, write.session)
            self._engine.hub.tell_later(write.events)
            self._engine.choose_table()
            for session in self._waiting:
                self._engine.wake(session)

    def concerns(self, session: Session, command: Command, args: list[bytes]) -> bool:
        """Whether a command has to wait until the end of a write."""
        if self._write is None or self.is_of(session):
            return False
        if command.name != "exec":
            return self._touches(self._write, command, args)
        queue = session.queue or []
        find = self._engine.registry.find
        return len(queue) > LONG or any(
            (queued := find(each[0])) is not None
            and self._touches(self._write, queued.resolve(each), each)
            for each in queue
        )

    def _touches(self, write: _Write, command: Command, args: list[bytes]) -> bool:
        keys = command.keys(args)
        if len(keys) > LONG and command.name in _ISOLATED:
            return True
        if keys or not write.keys:
            return not write.keys.keys().isdisjoint(keys)
        return not command.flags.isdisjoint(_LOOKS_OR_WRITES)

    def others(self, session: Session) -> Generator[float]:
        """Wait until no write is going on."""
        while self.active:
            yield from self.wait(session)

    def let_by(self, session: Session, command: Command, args: list[bytes]) -> Generator[float]:
        """Wait for the end of a write that this command has to do with."""
        while self.concerns(session, command, args):
            yield from self.wait(session)

    def wait(self, session: Session) -> Generator[float]:
        """Wait for the end of the write that is going on."""
        self._held_back += 1
        self._waiting[session] = None
        try:
            yield _UNTIL_WOKEN
        finally:
            self._waiting.pop(session, None)

    def statistics(self) -> dict[str, int]:
        """How many long writes were isolated, ended early, and made commands wait."""
        return {
            "isolated_writes": self._isolated,
            "isolated_writes_ended_early": self._ended_early,
            "held_back_by_isolation": self._held_back,
            "waiting_for_isolation": len(self._waiting),
        }
