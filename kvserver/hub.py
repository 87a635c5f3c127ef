"""Publish and subscribe: who listens to which channel or pattern, and the keyspace's own events.

Channels of shards (SSUBSCRIBE) are what they are in a Redis without a cluster: channels of a second
set of names, without patterns.

Messages go to ``session.push`` and leave with the turn, after the journal. A message is encoded
once for all receivers of a protocol version. Nothing here waits for anybody: a subscriber that does
not read is the business of whoever sends (its output is bounded).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from kvserver import resp
from kvserver.errors import CommandError
from kvserver.glob import Matcher, compile_glob

if TYPE_CHECKING:
    from kvserver.engine import Engine
    from kvserver.livestore import Event
    from kvserver.session import Session

__all__ = ["EVENT_CLASSES", "Hub", "Kind", "format_event_flags", "parse_event_flags"]

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
    "restore": "g",
    "expired": "x",
    "evicted": "e",
    "merge": "d",
}
"""Event -> its letter in notify-keyspace-events; summaries count as a type of a module (``d``)."""

EVENTS_AT_ONCE: Final = 128
"""Of a long write; one takes some 3 µs."""
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


class Kind(IntEnum):
    """What a subscription is to. Channels of a shard are apart: other names, another count."""

    CHANNEL = 0
    PATTERN = 1
    SHARD_CHANNEL = 2


_KINDS: Final = tuple(Kind)
_Held: TypeAlias = "tuple[dict[bytes, None], ...]"


class Hub:
    """All subscriptions of one server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listeners: tuple[dict[bytes, dict[Session, None]], ...] = ({}, {}, {})
        """By kind: name -> sessions."""
        self._matchers: dict[bytes, Matcher] = {}
        """Of the patterns."""
        self._of: dict[Session, _Held] = {}
        """Session -> its names, by kind."""
        self.event_flags: frozenset[str] = frozenset()
        self._events: deque[Event] = deque()
        """Of the keys, what is to be told in slices."""
        self.messages = 0
        engine.on_close.append(self.forget)
        engine.publish = self.publish
        self.notify(parse_event_flags(engine.config.notify_keyspace_events) or frozenset())

    # ------------------------------------------------------------------------------ subscriptions

    def subscribe(self, session: Session, name: bytes, kind: Kind) -> int:
        """Add a subscription; return how many such the session has. Raises CommandError."""
        held = self._of.setdefault(session, ({}, {}, {}))
        if name not in held[kind]:
            if sum(map(len, held)) >= self._engine.config.max_subscriptions:
                raise CommandError("ERR too many subscriptions")
            held[kind][name] = None
            self._listeners[kind].setdefault(name, {})[session] = None
            if kind is Kind.PATTERN and name not in self._matchers:
                self._matchers[name] = compile_glob(name)
        self._note(session)
        return self.count(session, kind)

    def unsubscribe(self, session: Session, name: bytes, kind: Kind) -> int:
        """Take a subscription away, if there is one; return how many such are left."""
        held = self._of.get(session)
        if held is not None and held[kind].pop(name, self) is not self:
            self._drop(session, name, kind)
        self._note(session)
        return self.count(session, kind)

    def _drop(self, session: Session, name: bytes, kind: Kind) -> None:
        sessions = self._listeners[kind][name]
        del sessions[session]
        if not sessions:
            del self._listeners[kind][name]
            if kind is Kind.PATTERN:
                del self._matchers[name]

    def names(self, session: Session, kind: Kind) -> list[bytes]:
        """Return what a session has subscribed to, of that kind."""
        return list(self._held(session)[kind])

    def forget(self, session: Session) -> None:
        """End all subscriptions of a session."""
        for kind, names in zip(_KINDS, self._held(session), strict=True):
            for name in names:
                self._drop(session, name, kind)
        self._of.pop(session, None)
        self._note(session)

    def _held(self, session: Session) -> _Held:
        return self._of.get(session, ({}, {}, {}))

    def _note(self, session: Session) -> None:
        """Let a session know how much it has."""
        total = sum(self.counts(session))
        if not total:
            self._of.pop(session, None)
        if session.subscribed != total:
            session.subscribed = total
            session.retable()

    def count(self, session: Session, kind: Kind) -> int:
        """How much a session has of what counts together with a kind, as replies tell it."""
        channels, patterns, of_shards = self.counts(session)
        return of_shards if kind is Kind.SHARD_CHANNEL else channels + patterns

    def counts(self, session: Session) -> tuple[int, int, int]:
        """How many channels, patterns, and channels of shards a session has."""
        channels, patterns, of_shards = map(len, self._held(session))
        return channels, patterns, of_shards

    # ------------------------------------------------------------------------------------ messages

    def publish(self, channel: bytes, message: bytes) -> int:
        """Give a message to everybody who wants it; return how many deliveries that were.

        What is published while a write is isolated is sent at its end, in its place among events.
        """
        later = self._engine.keyspace.diverted
        if later is None and not self._events:
            return self._deliver(channel, message)
        (self._events if later is None else later).append((channel, message))
        return self._receivers(channel)

    def _receivers(self, channel: bytes) -> int:
        """Return how many deliveries a message to a channel would be."""
        of_patterns = self._listeners[Kind.PATTERN]
        count = len(self._listeners[Kind.CHANNEL].get(channel, ()))
        return count + sum(
            len(of_patterns[pattern])
            for pattern, matches in self._matchers.items()
            if matches(channel)
        )

    def _deliver(self, channel: bytes, message: bytes) -> int:
        self.messages += 1
        sent = 0
        sessions = self._listeners[Kind.CHANNEL].get(channel)
        if sessions:
            sent += self._send(sessions, [b"message", channel, message])
        for pattern, matches in list(self._matchers.items()):
            if matches(channel):
                listeners = self._listeners[Kind.PATTERN][pattern]
                sent += self._send(listeners, [b"pmessage", pattern, channel, message])
        return sent

    def publish_to_shard(self, channel: bytes, message: bytes) -> int:
        """The same for channels of shards, of which one server has all."""
        self.messages += 1
        sessions = self._listeners[Kind.SHARD_CHANNEL].get(channel, ())
        return self._send(sessions, [b"smessage", channel, message])

    @staticmethod
    def _send(sessions: Iterable[Session], parts: list[bytes]) -> int:
        bulks = [resp.bulk(part) for part in parts]
        encoded = {version: resp.push(version, bulks) for version in (2, 3)}
        sent = 0
        for session in list(sessions):
            session.push(encoded[session.resp])
            sent += 1
        return sent

    def channels(self, kind: Kind, matches: Matcher | None = None) -> list[bytes]:
        """Return the channels that somebody listens to."""
        return [name for name in self._listeners[kind] if matches is None or matches(name)]

    def listeners(self, channel: bytes, kind: Kind) -> int:
        """How many sessions listen to a channel by its name."""
        return len(self._listeners[kind].get(channel, ()))

    def statistics(self) -> dict[str, int]:
        """How many channels and patterns there are."""
        channels, patterns, of_shards = map(len, self._listeners)
        return {
            "pubsub_channels": channels,
            "pubsub_patterns": patterns,
            "pubsubshard_channels": of_shards,
        }

    # --------------------------------------------------------------------------- keyspace's events

    def notify(self, flags: frozenset[str]) -> None:
        """Publish events of these classes from now on."""
        self._engine.isolation.finish()
        self.tell_all()
        self._engine.keyspace.unlisten(self._on_event)
        self.event_flags = flags
        if flags & {"K", "E"} and flags - {"K", "E"}:
            self._engine.keyspace.listen(self._on_event)

    def _on_event(self, key: bytes, event: str) -> None:
        if self._events:
            self._events.append((key, event))
        else:
            self._publish_event(key, event)

    def tell_later(self, events: list[Event]) -> None:
        """Publish these, in slices: ``tell_some``. What happens meanwhile is told after them."""
        if self.event_flags:
            self._events += events
        else:
            self._events += [event for event in events if isinstance(event[1], bytes)]

    def tell_some(self) -> bool:
        """Publish some of the events that wait; whether there are more."""
        for _ in range(min(len(self._events), EVENTS_AT_ONCE)):
            self._publish_event(*self._events.popleft())
        return bool(self._events)

    def tell_all(self) -> None:
        """Publish all events that wait."""
        while self.tell_some():
            pass

    def _publish_event(self, key: bytes, event: str | bytes) -> None:
        if isinstance(event, bytes):
            self._deliver(key, event)
            return
        flags = self.event_flags
        if EVENT_CLASSES.get(event) not in flags:
            return
        name = event.encode()
        if "K" in flags:
            self._deliver(b"__keyspace@0__:" + key, name)
        if "E" in flags:
            self._deliver(b"__keyevent@0__:" + name, key)

    def check(self) -> None:
        """Assert that both directions say the same."""
        for kind in _KINDS:
            there = {(s, name) for name, found in self._listeners[kind].items() for s in found}
            assert there == {(s, name) for s, held in self._of.items() for name in held[kind]}
            assert all(self._listeners[kind].values())
        assert self._matchers.keys() == self._listeners[Kind.PATTERN].keys()
        for session, held in self._of.items():
            assert session.subscribed == sum(map(len, held)) > 0
