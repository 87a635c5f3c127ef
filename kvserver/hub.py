"""Publish and subscribe: who listens to which channel or pattern, and the keyspace's own events.

Messages go to ``session.push`` and leave with the turn, after the journal. A message is encoded
once for all receivers of a protocol version. Nothing here waits for anybody: a subscriber that does
not read is the business of whoever sends (its output is bounded).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from kvserver import resp
from kvserver.errors import CommandError
from kvserver.glob import Matcher, compile_glob

if TYPE_CHECKING:
    from kvserver.engine import Engine
    from kvserver.session import Session

__all__ = ["EVENT_CLASSES", "Hub", "format_event_flags", "parse_event_flags"]

EVENT_CLASSES: Final = {
    "set": "$",
    "setrange": "$",
    "append": "$",
    "incrby": "$",
    "incrbyfloat": "$",
    "setbit": "$",
    "del": "g",
    "expire": "g",
    "persist": "g",
    "rename_from": "g",
    "rename_to": "g",
    "copy_to": "g",
    "expired": "x",
    "evicted": "e",
    "merge": "d",
}
"""Event -> its letter in notify-keyspace-events; summaries count as a type of a module (``d``)."""

_ALL: Final = "g$lshzxetd"
_OTHERS: Final = "KE"


def parse_event_flags(text: str) -> frozenset[str] | None:
    """Read notify-keyspace-events; None when it holds a letter that means nothing here.

    That includes ``m`` and ``n``: misses and new keys are not announced.
    """
    flags = set(text)
    if "A" in flags:
        flags |= set(_ALL)
        flags.discard("A")
    return frozenset(flags) if flags <= set(_ALL + _OTHERS) else None


def format_event_flags(flags: frozenset[str]) -> str:
    """Write the flags in the order in which Redis shows them."""
    classes = "A" if flags >= set(_ALL) else "".join(letter for letter in _ALL if letter in flags)
    return classes + "".join(letter for letter in _OTHERS if letter in flags)


class Hub:
    """All subscriptions of one server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._channels: dict[bytes, dict[Session, None]] = {}
        self._patterns: dict[bytes, tuple[Matcher, dict[Session, None]]] = {}
        self._of: dict[Session, tuple[dict[bytes, None], dict[bytes, None]]] = {}
        """Session -> its channels and its patterns."""
        self.event_flags: frozenset[str] = frozenset()
        self.messages = 0
        engine.on_close.append(self.forget)
        engine.publish = self.publish
        self.notify(parse_event_flags(engine.config.notify_keyspace_events) or frozenset())

    # ------------------------------------------------------------------------------ subscriptions

    def subscribe(self, session: Session, name: bytes, *, pattern: bool) -> int:
        """Add a subscription; return how many the session has now. Raises CommandError."""
        held = self._of.setdefault(session, ({}, {}))
        mine = held[pattern]
        if name not in mine:
            if len(held[0]) + len(held[1]) >= self._engine.config.max_subscriptions:
                raise CommandError("ERR too many subscriptions")
            mine[name] = None
            if pattern:
                self._patterns.setdefault(name, (compile_glob(name), {}))[1][session] = None
            else:
                self._channels.setdefault(name, {})[session] = None
        return self._count(session)

    def unsubscribe(self, session: Session, name: bytes, *, pattern: bool) -> int:
        """Take a subscription away, if there is one; return how many are left."""
        held = self._of.get(session)
        if held is not None and held[pattern].pop(name, self) is not self:
            if pattern:
                sessions = self._patterns[name][1]
                del sessions[session]
                if not sessions:
                    del self._patterns[name]
            else:
                sessions = self._channels[name]
                del sessions[session]
                if not sessions:
                    del self._channels[name]
        return self._count(session)

    def names(self, session: Session, *, pattern: bool) -> list[bytes]:
        """Return the channels, or patterns, of a session."""
        return list(self._of.get(session, ({}, {}))[pattern])

    def forget(self, session: Session) -> None:
        """End all subscriptions of a session."""
        for pattern in (False, True):
            for name in self.names(session, pattern=pattern):
                self.unsubscribe(session, name, pattern=pattern)
        self._of.pop(session, None)

    def _count(self, session: Session) -> int:
        held = self._of.get(session)
        count = 0 if held is None else len(held[0]) + len(held[1])
        if held is not None and count == 0:
            del self._of[session]
        if session.subscribed != count:
            session.subscribed = count
            session.retable()
        return count

    def counts(self, session: Session) -> tuple[int, int]:
        """How many channels and patterns a session has."""
        held = self._of.get(session, ({}, {}))
        return len(held[0]), len(held[1])

    # ------------------------------------------------------------------------------------ messages

    def publish(self, channel: bytes, message: bytes) -> int:
        """Give a message to everybody who wants it; return how many deliveries that were."""
        self.messages += 1
        sent = 0
        sessions = self._channels.get(channel)
        if sessions:
            sent += self._send(sessions, [b"message", channel, message])
        for pattern, (matches, listeners) in list(self._patterns.items()):
            if matches(channel):
                sent += self._send(listeners, [b"pmessage", pattern, channel, message])
        return sent

    @staticmethod
    def _send(sessions: Iterable[Session], parts: list[bytes]) -> int:
        bulks = [resp.bulk(part) for part in parts]
        encoded = {version: resp.push(version, bulks) for version in (2, 3)}
        sent = 0
        for session in list(sessions):
            session.push(encoded[session.resp])
            sent += 1
        return sent

    def channels(self, matches: Matcher | None = None) -> list[bytes]:
        """Return the channels that somebody listens to."""
        return [name for name in self._channels if matches is None or matches(name)]

    def listeners(self, channel: bytes) -> int:
        """How many sessions listen to a channel by its name."""
        return len(self._channels.get(channel, ()))

    def statistics(self) -> dict[str, int]:
        """How many channels and patterns there are."""
        return {"pubsub_channels": len(self._channels), "pubsub_patterns": len(self._patterns)}

    # --------------------------------------------------------------------------- keyspace's events

    def notify(self, flags: frozenset[str]) -> None:
        """Publish events of these classes from now on."""
        self._engine.keyspace.unlisten(self._on_event)
        self.event_flags = flags
        if flags & {"K", "E"} and flags - {"K", "E"}:
            self._engine.keyspace.listen(self._on_event)

    def _on_event(self, key: bytes, event: str) -> None:
        flags = self.event_flags
        if EVENT_CLASSES.get(event) not in flags:
            return
        name = event.encode()
        if "K" in flags:
            self.publish(b"__keyspace@0__:" + key, name)
        if "E" in flags:
            self.publish(b"__keyevent@0__:" + name, key)

    def check(self) -> None:
        """Assert that both directions say the same."""
        for pattern in (False, True):
            there = (
                {(s, name) for name, (_, sessions) in self._patterns.items() for s in sessions}
                if pattern
                else {(s, name) for name, sessions in self._channels.items() for s in sessions}
            )
            assert there == {(s, name) for s, held in self._of.items() for name in held[pattern]}
        for session, held in self._of.items():
            assert session.subscribed == len(held[0]) + len(held[1]) > 0
