"""A client that caches what it reads, and drops what it is told of, holds nothing that is not true.

Others change the same keys meanwhile, at once and in slices; whatever came between, as soon as
nothing is under way any more, what is cached is what the server has.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator, Sequence

import hiredis
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from kvserver import execution, isolation, reactor, tracking
from kvserver.commands import exchange, strings, transactions
from tests.turns import Turns
from tests.wire import encode

MOST_TURNS = 500
KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
VALUES = st.sampled_from([b"1", b"two", b"three"])
Command = tuple[bytes, ...]


def made_of(*parts: bytes | st.SearchStrategy[bytes]) -> st.SearchStrategy[Command]:
    return st.tuples(
        *[part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    )


reads = st.one_of(
    made_of(b"GET", KEYS),
    st.lists(KEYS, min_size=1, max_size=12).map(lambda keys: (b"MGET", *keys)),
)
pairs = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=8)
writes = st.one_of(
    made_of(b"SET", KEYS, VALUES),
    made_of(b"SET", KEYS, VALUES, b"PX", b"5"),
    made_of(b"APPEND", KEYS, VALUES),
    made_of(b"DEL", KEYS, KEYS),
    made_of(b"PEXPIRE", KEYS, b"5"),
    made_of(b"RENAME", KEYS, KEYS),
    made_of(b"COPY", KEYS, KEYS, b"REPLACE"),
    pairs.map(lambda some: (b"MSET", *[part for pair in some for part in pair])),
    made_of(b"FLUSHALL"),
)
lone = st.one_of(reads, writes).map(lambda command: [command])
transaction = st.lists(st.one_of(reads, writes), max_size=6).map(
    lambda some: [(b"MULTI",), *some, (b"EXEC",)]
)
TIME_PASSES = -1
steps = st.lists(
    st.one_of(
        st.tuples(st.just(0), st.one_of(reads.map(lambda one: [one]), lone, transaction)),
        st.tuples(st.integers(1, 2), st.one_of(lone, transaction)),
        st.tuples(st.just(TIME_PASSES), st.just([])),
    ),
    min_size=5,
    max_size=30,
)
modes = st.sampled_from([(), (b"BCAST",), (b"OPTOUT",)])


@pytest.fixture(autouse=True, scope="module")
def everything_is_long() -> Iterator[None]:
    """Whatever can go in slices does, and each slice is as short as can be."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execution, "SLICE_NS", 0)
        patched.setattr(reactor, "serve", lambda *_: None)
        patched.setattr(transactions, "PART_COMMANDS", 1)
        patched.setattr(strings, "SLICE_KEYS", 1)
        patched.setattr(tracking, "_KEYS_AT_ONCE", 2)
        for module in (isolation, strings, exchange, transactions):
            patched.setattr(module, "LONG", 2)
        yield


class Cache:
    """A client that keeps what it has read until it is told of it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.held: dict[bytes, object] = {}
        self.dropped = 0
        self._replies = hiredis.Reader()
        self._asked: deque[list[Command]] = deque()
        """For each reply that is to come, the commands that it answers: several for EXEC."""

    def ask(self, commands: Sequence[Command]) -> None:
        self.sock.send(b"".join(encode(*command) for command in commands))
        if commands[0] == (b"MULTI",):
            self._asked += [[]] * (len(commands) - 1)
            self._asked.append([(b"EXEC",), *commands[1:-1]])
        else:
            self._asked += [[command] for command in commands]

    def hear(self) -> None:
        try:
            self._replies.feed(self.sock.recv(1 << 20))
        except BlockingIOError:
            return
        while (said := self._replies.gets()) is not False:
            if isinstance(said, hiredis.PushNotification):
                self._drop(said[1])
                continue
            commands = self._asked.popleft()
            if commands and commands[0] == (b"EXEC",):
                for command, reply in zip(commands[1:], said, strict=True):
                    self._keep(command, reply)
            elif commands:
                self._keep(commands[0], said)

    def _drop(self, keys: list[bytes] | None) -> None:
        for key in list(self.held) if keys is None else keys:
            self.dropped += self.held.pop(key, self) is not self

    def _keep(self, command: Command, reply: object) -> None:
        if command[0] == b"GET":
            self.held[command[1]] = reply
        elif command[0] == b"MGET":
            assert isinstance(reply, list)
            self.held.update(zip(command[1:], reply, strict=True))


@given(steps, modes)
def test_nothing_that_is_held_is_not_true(
    steps: list[tuple[int, list[Command]]], mode: tuple[bytes, ...]
) -> None:
    now_ms = 1_000_000
    with Turns(3) as server:
        engine = server.engine
        engine.keyspace.clock = lambda: now_ms
        cache = Cache(server.clients[0])
        cache.ask([(b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON", *mode)])
        for who, commands in steps:
            if who == TIME_PASSES:
                now_ms += 6
            elif who == 0:
                cache.ask(commands)
            else:
                server.clients[who].send(b"".join(encode(*command) for command in commands))
            server.take()
            cache.hear()
        for _ in range(MOST_TURNS):
            engine.keyspace.tick()
            server.reactor.expire()
            server.take()
            cache.hear()
        assert not engine.suspended
        assert not engine.sleeping
        assert not engine.tracking.behind
        engine.tracking.check()
        assert cache.held == {key: engine.keyspace.data.get(key) for key in cache.held}
        event(f"{min(cache.dropped, 3)} values dropped, {min(len(cache.held), 3)} held at the end")
