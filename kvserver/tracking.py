"""CLIENT TRACKING: clients that cache values are told when one of them is no longer true.

Guarantees:

* Who read a key is told once when it changes, expires or is evicted, and then no more until it
  reads the key again. In broadcast mode a client is told of every change of the keys that begin
  with its prefixes, whether it read them or not.
* It is told behind the replies of the turn, and while a command of its own goes in slices, behind
  that one's reply: who drops what it is told of never keeps a value that is no longer true.
* What is remembered is bounded: when there are too many keys, those that were read first are told
  as if they had changed. Many keys are told in slices.

Costs writers nothing while nobody tracks: the keyspace is listened to only meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from kvserver import resp
from kvserver.commands.table import at_once

if TYPE_CHECKING:
    from kvserver.commands.table import Command, Work
    from kvserver.engine import Engine
    from kvserver.session import Session

__all__ = ["CHANNEL", "Mode", "Tracking"]

CHANNEL: Final = b"__redis__:invalidate"
"""Where a subscriber that speaks RESP2 hears it, for another client that redirects to it."""
_KEYS_AT_ONCE: Final = 1000
"""Half a millisecond, to remember or to tell them."""
_NOT_THE_NEXT: Final = frozenset(["client", "multi"])
"""What may stand between CLIENT CACHING and the command that it is about."""


@dataclass(slots=True)
class Mode:
    """How a client tracks."""

    redirect: int = 0
    """The id of the client that is told instead; 0 for itself."""
    prefixes: dict[bytes, None] = field(default_factory=dict)
    """Of broadcast mode; empty in the other, where it counts what was read."""
    optin: bool = False
    optout: bool = False
    noloop: bool = False
    """Not to be told of its own changes."""
    said: bool = False
    """CLIENT CACHING was said, of the next command or transaction;"""
    caching: bool = False
    """or of this one."""
    broken: bool = False
    """Whom it redirects to is gone."""
    flushed: bool = False
    changed: dict[bytes, None] = field(default_factory=dict)
    """What it is to be told at the end of the turn: that all keys are gone, then these."""

    @property
    def broadcast(self) -> bool:
        """Whether it is told by prefixes."""
        return bool(self.prefixes)

    @property
    def remembers(self) -> bool:
        """Whether what it reads now is remembered."""
        excepted = self.optin or self.optout
        return not self.prefixes and not (excepted and (self.said or self.caching) != self.optin)


class Tracking:
    """All clients of one server that track, and what they have read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tracking: dict[Session, Mode] = {}
        self._readers: dict[bytes, tuple[int, ...]] = {}
        """Key -> ids of the sessions that read it, also of some that are gone. No sets: the
        collector would walk over each of a million."""
        self._items = 0
        self._listeners: dict[bytes, dict[Session, None]] = {}
        """Prefix -> sessions in broadcast mode."""
        self._prefix_sizes: list[int] = []
        """So that a change costs a look-up for each size, however many prefixes there are."""
        self._noted: list[tuple[list[bytes], Session]] = []
        """Changes of long writes that nobody has looked at yet, and whose they were."""
        self._untold: dict[Session, None] = {}
        """Who is to be told something."""
        self.writer: Session | None = None
        """Whose command is running, at least where that is a client that tracks."""
        engine.on_close.append(self.stop)

    def start(self, session: Session, mode: Mode, prefixes: Iterable[bytes]) -> None:
        """Let a session track so from now on; prefixes are for broadcasts, and add to others."""
        if not self._tracking:
            self._engine.keyspace.listen(self._on_change, self._on_changes)
        before = self._tracking.get(session)
        if before is not None:
            mode.prefixes, mode.changed = before.prefixes, before.changed
            mode.flushed = before.flushed
        for prefix in prefixes:
            mode.prefixes[prefix] = None
            self._listeners.setdefault(prefix, {})[session] = None
        self._prefix_sizes = sorted(set(map(len, self._listeners)))
        self._tracking[session] = session.tracking = mode
        session.retable()

    def stop(self, session: Session) -> None:
        """Let a session track no more."""
        mode = self._tracking.pop(session, None)
        if mode is None:
            return
        for prefix in mode.prefixes:
            sessions = self._listeners[prefix]
            del sessions[session]
            if not sessions:
                del self._listeners[prefix]
        self._prefix_sizes = sorted(set(map(len, self._listeners)))
        self._untold.pop(session, None)
        session.tracking = None
        session.retable()
        if not self._tracking:
            self._engine.keyspace.unlisten(self._on_change)
            self._forget_readers()

    # -------------------------------------------------------------------------------- reading

    def follow(
        self, session: Session, command: Command, args: list[bytes], begin: Callable[[], bytes]
    ) -> bytes:
        """Return what ``begin`` does, which runs a command of a session that tracks."""
        mode = self._tracking[session]
        if command.name.partition("|")[0] not in _NOT_THE_NEXT:
            mode.caching, mode.said = mode.said, False
        self.writer = session
        try:
            reply = begin()
        finally:
            self.writer = None
        steps = self.remembered(session, command, args)
        if session.pending is None:
            at_once(steps)
        elif next(steps, self) is None:  # there are more
            session.pending = _one_by_one(steps, session.pending)
        return reply

    def remembered(
        self, session: Session, command: Command, args: list[bytes]
    ) -> Generator[None, None, None]:
        """Remember what a session has read by a command, or is about to read, in slices."""
        mode = self._tracking.get(session)
        if mode is None or not mode.remembers or "readonly" not in command.flags:
            return
        keys = command.keys(args)
        self._remember(session, keys[:_KEYS_AT_ONCE])
        for start in range(_KEYS_AT_ONCE, len(keys), _KEYS_AT_ONCE):
            yield None
            self._remember(session, keys[start : start + _KEYS_AT_ONCE])

    def _remember(self, session: Session, keys: Sequence[bytes]) -> None:
        readers, number = self._readers, session.id
        for key in keys:
            ids = readers.get(key, ())
            if number not in ids:
                readers[key] = (*ids, number)
                self._items += 1
        limit = self._engine.config.max_tracked_keys
        if len(readers) > limit > 0:
            for key in list(islice(readers, len(readers) - limit + limit // 1000)):
                self._tell_readers(key, None)

    # -------------------------------------------------------------------------------- changes

    def _on_change(self, key: bytes, event: str) -> None:
        if event == "flushdb":
            self._on_flush()
        else:
            self._changed(key, self.writer)

    def _on_changes(self, keys: Sequence[bytes], event: str) -> None:  # noqa: ARG002 - a listener
        for key in keys if self._listeners else filter(self._readers.__contains__, keys):
            self._changed(key, self.writer)

    def note(self, keys: Collection[bytes], writer: Session) -> None:
        """Note that many keys were changed at once, by one session; they are told in slices."""
        if self._listeners:
            self._noted.append((list(keys), writer))
        elif self._tracking:
            self._noted.append((list(self._readers.keys() & keys), writer))

    def _changed(self, key: bytes, writer: Session | None) -> None:
        if key in self._readers:
            self._tell_readers(key, writer)
        for size in self._prefix_sizes:
            if size > len(key):
                break
            for session in self._listeners.get(key[:size], ()):
                self._tell(session, self._tracking[session], key, writer)

    def _tell_readers(self, key: bytes, writer: Session | None) -> None:
        ids = self._readers.pop(key)
        self._items -= len(ids)
        for number in ids:
            session = self._engine.sessions.get(number)
            mode = session.tracking if session is not None else None
            if session is not None and mode is not None and not mode.broadcast:
                self._tell(session, mode, key, writer)

    def _tell(self, session: Session, mode: Mode, key: bytes, writer: Session | None) -> None:
        if not (mode.noloop and session is writer):
            mode.changed[key] = None
            self._untold[session] = None

    def _on_flush(self) -> None:
        self._forget_readers()
        for session, mode in self._tracking.items():
            mode.flushed = True
            mode.changed.clear()
            self._untold[session] = None

    def _forget_readers(self) -> None:
        self._engine.keyspace.free_later(self._readers)
        self._readers = {}
        self._items = 0
        self._noted.clear()

    # -------------------------------------------------------------------------------- telling

    @property
    def behind(self) -> bool:
        """Whether there is somebody to be told something at the end of the turn."""
        return bool(self._untold or self._noted)

    def tell(self) -> None:
        """Send some of what clients are to be told; to be called behind the replies of a turn."""
        if self._noted:
            keys, writer = self._noted[-1]
            for key in keys[-_KEYS_AT_ONCE:]:
                self._changed(key, writer)
            del keys[-_KEYS_AT_ONCE:]
            if not keys:
                self._noted.pop()
        left = _KEYS_AT_ONCE
        for session in list(self._untold):
            if left <= 0:
                break
            del self._untold[session]
            if session.pending is None:
                left -= self._tell_some(session, self._tracking[session], left)

    def answered(self, session: Session) -> None:
        """Note that a command that went in slices is answered: what waited for that can be told."""
        mode = self._tracking.get(session)
        if mode is not None and (mode.flushed or mode.changed):
            self._untold[session] = None

    def _tell_some(self, session: Session, mode: Mode, limit: int) -> int:
        """Tell a session of so many keys; return of how many."""
        if mode.flushed:
            mode.flushed = False
            self._send(session, mode, session.null)
        keys = list(islice(mode.changed, limit))
        if len(keys) == len(mode.changed):
            mode.changed.clear()
        else:
            for key in keys:
                del mode.changed[key]
            self._untold[session] = None
        if keys:
            self._send(session, mode, resp.bulks(keys))
        return len(keys) + 1

    def _send(self, session: Session, mode: Mode, keys: bytes) -> None:
        target = self._engine.sessions.get(mode.redirect or session.id)
        if target is None:
            mode.broken = True
            if session.resp == 3:
                whom = [resp.bulk(b"tracking-redir-broken"), resp.integer(mode.redirect)]
                session.push(resp.push(3, whom))
        elif target.resp == 3:
            target.push(resp.push(3, [resp.bulk(b"invalidate"), keys]))
        elif mode.redirect and target.subscribed:
            target.push(resp.push(2, [resp.bulk(b"message"), resp.bulk(CHANNEL), keys]))

    def statistics(self) -> dict[str, int]:
        """How many keys are remembered, for how many readers, and how many prefixes there are."""
        return {
            "tracking_total_keys": len(self._readers),
            "tracking_total_items": self._items,
            "tracking_total_prefixes": len(self._listeners),
        }

    @property
    def clients(self) -> int:
        """How many clients track."""
        return len(self._tracking)

    def check(self) -> None:
        """Assert that all tables say the same."""
        pairs = {(s, prefix) for s, mode in self._tracking.items() for prefix in mode.prefixes}
        assert pairs == {(s, prefix) for prefix, found in self._listeners.items() for s in found}
        assert self._items == sum(map(len, self._readers.values()))
        assert all(self._readers.values())
        assert self._tracking or not self._readers
        assert self._prefix_sizes == sorted({len(prefix) for prefix in self._listeners})
        assert self._untold.keys() <= self._tracking.keys()
        assert all(session.tracking is mode for session, mode in self._tracking.items())


def _one_by_one(steps: Generator[None, None, None], work: Work) -> Work:
    yield from steps
    return (yield from work)
