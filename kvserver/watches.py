"""Which session watches which key (WATCH), and whether one of them was touched since.

Costs writers nothing while nobody watches: the keyspace is listened to only meanwhile. A watched
key that expires counts as touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from kvserver.errors import CommandError

if TYPE_CHECKING:
    from kvserver.engine import Engine
    from kvserver.session import Session

__all__ = ["Watches"]


class Watches:
    """The watches of one server."""

    def __init__(self, engine: Engine) -> None:
        self._keyspace = engine.keyspace
        self._limit = engine.config.max_watched_keys
        self._watchers: dict[bytes, set[Session]] = {}
        self._watched: dict[Session, dict[bytes, bool]] = {}
        """Session -> key -> whether it existed when the watch began."""
        self._touched: set[Session] = set()
        engine.on_close.append(self.forget)

    def watch(self, session: Session, keys: list[bytes]) -> None:
        """Watch more keys. Raises CommandError when these are too many for one session."""
        held = self._watched.get(session, {})
        if len(held) + len(keys) > self._limit:
            raise CommandError("ERR too many watched keys")
        if not self._watched:
            self._keyspace.listen(self._on_change, self._on_changes)
        for key in keys:
            held.setdefault(key, self._keyspace.exists(key))
            self._watchers.setdefault(key, set()).add(session)
        self._watched[session] = held

    def watched_by(self, session: Session) -> Collection[bytes]:
        """Return the keys that a session watches."""
        return self._watched.get(session, ())

    def touched(self, session: Session) -> bool:
        """Whether a key that this session watches was changed, or has expired."""
        for key in self._watched.get(session, ()):
            self._keyspace.exists(key)  # an overdue key goes now, and tells ``_on_change``
        return session in self._touched

    def forget(self, session: Session) -> None:
        """End all watches of a session."""
        keys = self._watched.pop(session, None)
        if keys is None:
            return
        for key in keys:
            watchers = self._watchers[key]
            watchers.discard(session)
            if not watchers:
                del self._watchers[key]
        self._touched.discard(session)
        if not self._watched:
            self._keyspace.unlisten(self._on_change)

    def _on_change(self, key: bytes, event: str) -> None:
        if event == "flushdb":
            self._touched |= {
                session for session, keys in self._watched.items() if any(keys.values())
            }
        elif key in self._watchers:
            self._touched |= self._watchers[key]

    def _on_changes(self, keys: Sequence[bytes], event: str) -> None:  # noqa: ARG002 - a listener
        self.note(keys)

    def note(self, keys: Iterable[bytes]) -> None:
        """Note that many keys were changed at once."""
        for key in self._watchers.keys() & keys:
            self._touched |= self._watchers[key]

    def statistics(self) -> dict[str, int]:
        """How many keys are watched, by how many sessions."""
        return {"watching_clients": len(self._watched), "watched_keys": len(self._watchers)}

    def check(self) -> None:
        """Assert that both directions say the same."""
        pairs = {(session, key) for session, keys in self._watched.items() for key in keys}
        assert pairs == {(s, key) for key, sessions in self._watchers.items() for s in sessions}
        assert all(self._watchers.values())
        assert self._touched <= self._watched.keys()
