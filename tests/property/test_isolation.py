"""Long writes in slices, with others between the slices: as if each command had run at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from kvserver import calling, hub, isolation, keysnapshot
from kvserver.commands import exchange, keys, strings, transactions
from kvserver.config import Config
from kvserver.engine import Engine
from kvserver.keyspace import Keyspace
from kvserver.session import Session

CLIENTS = 3
KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
VALUES = st.sampled_from([b"1", b"22", b"x"])
PAIRS = st.lists(st.tuples(KEYS, VALUES), min_size=2, max_size=7)


def made_of(*parts: bytes | st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    drawn = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*drawn).map(list)


def mset(name: bytes) -> st.SearchStrategy[list[bytes]]:
    return PAIRS.map(lambda pairs: [name, *(part for pair in pairs for part in pair)])


on_keys = st.one_of(
    made_of(b"SET", KEYS, VALUES),
    made_of(b"SET", KEYS, VALUES, b"EX", b"100"),
    made_of(b"GET", KEYS),
    made_of(b"APPEND", KEYS, VALUES),
    made_of(b"INCR", KEYS),
    made_of(b"DEL", KEYS, KEYS),
    made_of(b"MGET", KEYS, KEYS, KEYS),
    made_of(b"EXPIRE", KEYS, b"100"),
    made_of(b"TTL", KEYS),
    made_of(b"RENAME", KEYS, KEYS),
    made_of(b"BITOP", b"OR", KEYS, KEYS, KEYS),
    mset(b"MSET"),
    mset(b"MSETNX"),
)
about_all = st.sampled_from([[b"DBSIZE"], [b"FLUSHALL"]])
about_none = st.one_of(made_of(b"PUBLISH", b"__keyspace@0__:z", VALUES), made_of(b"ECHO", KEYS))
of_a_moment = made_of(b"KEYS", KEYS)
"""Exact in a transaction only: alone it may or may not tell what comes while it goes on."""
settings = st.sampled_from(
    [
        [b"CONFIG", b"SET", b"slowlog-log-slower-than", b"5"],
        [b"CONFIG", b"SET", b"slowlog-log-slower-than", b"10000"],
        [b"CONFIG", b"SET", b"maxmemory", b"10gb"],
        [b"CONFIG", b"SET", b"maxmemory", b"0"],
        [b"CONFIG", b"SET", b"maxmemory-policy", b"allkeys-lru"],
        [b"CONFIG", b"SET", b"maxmemory-policy", b"noeviction"],
        [b"CONFIG", b"SET", b"notify-keyspace-events", b"KEA"],
        [b"CONFIG", b"SET", b"notify-keyspace-events", b""],
    ]
)
watching = st.one_of(made_of(b"WATCH", KEYS), made_of(b"UNWATCH"))
queued = st.lists(
    st.one_of(*[on_keys] * 6, about_none, of_a_moment, about_all), min_size=1, max_size=9
)
long = mset(b"MSET").map(lambda one: [one])
said = st.one_of(*[on_keys] * 9, about_all, about_none, about_all, settings, watching).map(
    lambda one: [one]
)
transaction = queued.map(lambda some: [[b"MULTI"], *some, [b"EXEC"]])
looking = st.tuples(on_keys, of_a_moment, about_none).map(
    lambda some: [[b"MULTI"], *some, [b"EXEC"]]
)
"""Leaves others most of the keys to write to meanwhile."""
steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, CLIENTS - 1), said),
        st.tuples(
            st.just("say"), st.integers(0, CLIENTS - 1), st.one_of(long, transaction, looking)
        ),
        st.tuples(st.just("go on"), st.integers(0, CLIENTS), st.integers(1, 8)),
        st.tuples(st.just("go on"), st.integers(0, CLIENTS), st.integers(1, 8)),
        st.tuples(st.just("leave"), st.integers(0, CLIENTS - 1), st.none()),
    ),
    min_size=10,
    max_size=60,
)


@pytest.fixture(autouse=True, scope="module")
def long_is_short() -> Iterator[None]:
    """Writes of three keys are long here, go one key a slice, and are told of one by one."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (isolation, strings, exchange, transactions):
            patched.setattr(module, "LONG", 2)
        patched.setattr(keysnapshot, "SLICE_NAMES", 1)
        patched.setattr(strings, "SLICE_KEYS", 1)
        patched.setattr(transactions, "SLICE_KEYS", 1)
        patched.setattr(exchange, "SLICE_KEYS", 1)
        patched.setattr(transactions, "PART_COMMANDS", 1)
        patched.setattr(hub, "EVENTS_AT_ONCE", 1)
        yield


def new_engine(events: str = "") -> Engine:
    return Engine(Config(notify_keyspace_events=events), Keyspace(lambda: 1_000_000))


@dataclass
class Call:
    """What a client said and waits for."""

    client: int
    commands: list[list[bytes]]
    reply: bytes | None = None
    listed: bool = False


class Story:
    """Clients who do not wait for each other."""

    def __init__(self, events: str) -> None:
        self.engine = new_engine(events)
        self.sessions = [self.engine.session() for _ in range(CLIENTS)]
        self.subscriber = self.engine.session()
        self.subscriber.run([b"PSUBSCRIBE", b"__keyspace*"])
        self.subscriber.take()
        self.calls: dict[Session, Call] = {}
        self.order: list[Call | int] = []
        """As if they had run at once in this order; a number stands for a client who left."""
        self.history: list[Any] = []
        self.began = False
        self.moment: int | None = None
        """How many came before the isolated write, if it has looked at all keys."""
        self.looked = False
        """Whether one has."""
        self.isolated: Call | None = None
        self.write: Any = None
        self.written: Counter[bytes] = Counter()
        """How many effects on each key have reached the journal."""
        self.told: dict[bytes, list[bytes]] = {}
        """What the subscriber heard of each key, in order."""

    def say(self, client: int, commands: list[list[bytes]]) -> None:
        session = self.sessions[client]
        if session.pending is not None:
            return
        self.calls[session] = call = Call(client, commands)
        for command in commands:
            reply = session.table[command[0]](session, command)
        if session.pending is None:
            self.ends(session, call, reply)

    def go_on(self, which: int) -> None:
        waiting = list(self.engine.suspended)
        if waiting:
            session = waiting[which % len(waiting)]
            reply = session.advance(1)
            if reply is not None:
                whole = b"".join(reply) if isinstance(reply, list) else reply
                self.ends(session, self.calls[session], whole)

    def ends(self, session: Session, call: Call, reply: bytes | None) -> None:
        self.list_isolated()
        call.reply = reply
        del self.calls[session]
        if not call.listed:
            self.order.append(call)

    def tell(self, script: list[tuple[str, int, Any]]) -> None:
        for what, which, more in [*script, ("go on", 0, 300)]:
            if what == "say":
                self.say(which, more)
            elif what == "leave":
                self.leave(which)
            for _ in range(more if what == "go on" else 0):
                self.go_on(which)
                self.look()
            self.look()

    def notice_moments(self, patched: pytest.MonkeyPatch) -> None:
        """Note when an isolated write looks at all keys: what others do later is behind it."""
        call_all = calling.call_all
        story = self

        class Noticed(keysnapshot.KeySnapshot):
            def take(self) -> Generator[None]:
                yield from super().take()
                story.moment = len(story.order)

        def noticed(session: Session, queue: Iterable[list[bytes]]) -> list[bytes]:
            queue = list(queue)
            if story.engine.isolation.is_of(session) and [b"DBSIZE"] in queue:
                story.moment = len(story.order)
            return call_all(session, queue)

        patched.setattr(keys, "KeySnapshot", Noticed)
        patched.setattr(transactions, "call_all", noticed)

    def leave(self, client: int) -> None:
        session = self.sessions[client]
        self.engine.close(session)
        if session.pending is None:
            self.calls.pop(session, None)  # what only waited does not happen
        self.order.append(client)
        self.sessions[client] = self.engine.session()

    def look(self) -> None:
        """Note which write has begun, and what has reached the journal."""
        keyspace = self.engine.keyspace
        effects = [*map(msgpack.unpackb, keyspace.packed_effects), *keyspace.effects]
        written: set[bytes] = set()
        for effect in effects:
            touched = effect[1] if effect[0] in {"mst", b"mst"} else effect[1:2]
            self.written.update(touched)
            written.update(touched)
        self.list_isolated()
        write = self.engine.isolation._write
        if write is not None:
            self.began = True
            self.isolated, self.write = self.calls[write.session], write
            assert write.keys.keys().isdisjoint(written), "somebody was let in"
        for key, event_name in heard(self.subscriber):
            self.told.setdefault(key, []).append(event_name)
            told_of_values = [name for name in self.told[key] if name in OF_VALUES]
            assert len(told_of_values) <= self.written[key], "heard of what is not in the journal"
        self.history += effects
        keyspace.clear_effects()

    def list_isolated(self) -> None:
        """Note when a write that was isolated has come to its end, whoever ended it.

        It counts from then on, or from the moment at which it looked at all keys.
        """
        if self.isolated is not None and self.engine.isolation._write is not self.write:
            self.isolated.listed = True
            at = len(self.order) if self.moment is None else self.moment
            self.order.insert(at, self.isolated)
            self.looked = self.looked or self.moment is not None
            self.isolated = self.moment = None


OF_VALUES = {b"set", b"append", b"incrby", b"del", b"rename_from", b"rename_to"}
"""Events that each have an effect of their own on that key."""


def heard(subscriber: Session) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and event of what was published in channels of keys."""
    for told in subscriber.take().split(b"__keyspace@0__:")[1:]:
        yield told[:1], told.split(b"\r\n")[2]


@given(steps, st.sampled_from(["", "KA"]), st.sampled_from([0, 100]))
def test_every_reply_and_the_end_are_those_of_one_after_the_other(
    script: list[tuple[str, int, Any]], events: str, few_keys: int
) -> None:
    story = Story(events)
    with pytest.MonkeyPatch.context() as patched:
        story.notice_moments(patched)
        patched.setattr(keysnapshot, "FEW_KEYS", few_keys)
        story.tell(script)
    check(story, events)


def check(story: Story, events: str) -> None:
    assert not story.calls, "somebody waits for ever"
    assert not story.engine.suspended
    assert not story.engine.sleeping
    event("something was isolated" if story.began else "nothing was isolated")

    serial = new_engine(events)
    subscriber = serial.session()
    subscriber.run([b"PSUBSCRIBE", b"__keyspace*"])
    subscriber.take()
    sessions = [serial.session() for _ in range(CLIENTS)]
    for call in story.order:
        if isinstance(call, int):
            serial.close(sessions[call])
            sessions[call] = serial.session()
            continue
        for command in call.commands:
            expected = sessions[call.client].run(command)
        if call.reply is not None:
            assert call.reply == expected, call
    assert sorted(story.engine.keyspace.dump()) == sorted(serial.keyspace.dump())
    told: dict[bytes, list[bytes]] = {}
    for key, event_name in heard(subscriber):
        told.setdefault(key, []).append(event_name)
    if story.looked:  # messages leave at the end, whatever the moment of all keys was
        for heard_of in (story.told, told):
            heard_of.get(b"z", []).sort()
    assert story.told == told
    again = Keyspace(lambda: 1_000_000)
    again.apply_many(story.history)
    assert sorted(again.dump()) == sorted(serial.keyspace.dump())
    story.engine.keyspace.check()
