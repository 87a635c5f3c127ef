"""What goes to the journal ahead of its command: at any moment the journal holds what was answered.

Clients send commands whose values all count as large, cut into pieces of a few bytes, over real
sockets. After every turn a killed server is recovered from the disk as it is: what comes back must
be what the living one has, piece by piece, whoever left in the middle.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from kvserver import ahead, execution, hub, isolation, longstring, reactor
from kvserver.commands import bits, cutting, exchange, strings, transactions
from kvserver.journal.recovery import recover
from kvserver.keyspace import Keyspace
from tests.faults.disk import MemoryDisk
from tests.faults.story import rotate
from tests.turns import Turns
from tests.wire import encode

CLIENTS = 3
SEGMENT_BYTES = 400
MOST_TURNS = 500
KEYS = st.sampled_from([b"a", b"b", b"c"])
VALUES = st.sampled_from([b"1", b"twelve bytes", b"x" * 40, bytes(range(64))])


def made_of(*parts: bytes | st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    drawn = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*drawn).map(lambda args: encode(*args))


writes = st.one_of(
    made_of(b"SET", KEYS, VALUES),
    made_of(b"SET", KEYS, VALUES, b"NX", b"GET"),
    made_of(b"SETEX", KEYS, b"100", VALUES),
    made_of(b"GETSET", KEYS, VALUES),
    made_of(b"APPEND", KEYS, VALUES),
    made_of(b"SETRANGE", KEYS, b"3", VALUES),
    made_of(b"MSET", KEYS, VALUES, KEYS, VALUES, KEYS, VALUES),
    made_of(b"COPY", KEYS, KEYS, b"REPLACE"),
    made_of(b"RENAME", KEYS, KEYS),
    made_of(b"BITOP", b"XOR", KEYS, KEYS, KEYS),
    made_of(b"DEL", KEYS),
)
rest = st.one_of(made_of(b"GET", KEYS), made_of(b"SET", KEYS, b"only one argument too", b"many"))
transactions_of = st.lists(st.one_of(writes, rest), max_size=5).map(
    lambda some: b"".join([encode(b"MULTI"), *some, encode(b"EXEC")])
)
steps = st.lists(
    st.one_of(
        st.tuples(st.integers(0, CLIENTS - 1), st.one_of(writes, writes, writes, rest)),
        st.tuples(st.integers(0, CLIENTS - 1), transactions_of),
        st.tuples(st.integers(0, 40 * CLIENTS - 1), st.just(b"")),
        st.just((-1, b"")),
    ),
    min_size=5,
    max_size=40,
)


@pytest.fixture(autouse=True, scope="module")
def everything_is_large() -> Iterator[None]:
    """A piece is 7 bytes, what has 10 is large, and no command goes the quick way."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ahead, "PIECE_BYTES", 7)
        patched.setattr(ahead, "LARGE_BYTES", 10)
        patched.setattr(ahead, "_LEAST_BYTES", 3)
        patched.setattr(execution, "LARGE_BYTES", -1)
        patched.setattr(execution, "SLICE_NS", 0)
        patched.setattr(isolation, "PIECE_BYTES", 30)
        patched.setattr(transactions, "LARGE_BYTES", 10)
        patched.setattr(transactions, "PART_COMMANDS", 1)
        patched.setattr(reactor, "serve", lambda *_: None)
        patched.setattr(longstring, "LONG_BYTES", 50)
        patched.setattr(cutting, "_UNCUT_BYTES", 60)
        for module in (longstring, cutting, bits):
            patched.setattr(module, "BLOCK_BYTES", 16)
        patched.setattr(cutting, "_BLOCKS_AT_ONCE", 1)
        for module in (isolation, strings, exchange, transactions):
            patched.setattr(module, "LONG", 2)
        patched.setattr(strings, "SLICE_KEYS", 1)
        patched.setattr(hub, "EVENTS_AT_ONCE", 1)
        yield


def recovered(disk: MemoryDisk) -> list[Any]:
    keyspace = Keyspace(lambda: 0)
    recover(disk.killed(), keyspace.apply_many)
    return sorted(map(list, keyspace.dump()))


@contextmanager
def together() -> Iterator[None]:
    """Everybody who is suspended takes a step in each turn; else one does."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execution, "perf_counter_ns", lambda: 0)
        yield


class Story:
    """Clients, a server with a journal, and what a kill would leave of it."""

    def __init__(self, server: Turns, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.disk = MemoryDisk()
        self.server = server
        self.engine = server.engine
        self.journal, _ = recover(self.disk, lambda _: None, segment_bytes=segment_bytes)
        self.engine.journal = self.journal
        self.engine.keyspace.clock = lambda: 1_000_000
        self.most_staged = self.named = 0

    def turn(self) -> None:
        self.server.take()
        self.journal.maintain()
        self.most_staged = max(self.most_staged, len(self.journal.staging))
        self.named += bool(self.journal.staging.references)
        if not self.engine.isolation.active:  # else the living one is ahead of what was answered
            assert recovered(self.disk) == sorted(map(list, self.engine.keyspace.dump()))


@given(steps, st.sampled_from([nullcontext, together]), st.sampled_from(["", "KA"]))
def test_a_kill_after_any_turn_loses_nothing_and_invents_nothing(
    steps: list[tuple[int, bytes]], how: Callable[[], AbstractContextManager[None]], events: str
) -> None:
    with Turns(CLIENTS) as server, how():
        story = Story(server)
        story.engine.hub.notify(frozenset(events))
        for number, said in steps:
            client = server.clients[number % CLIENTS]
            if said and client.fileno() >= 0:
                client.send(said)
            elif not said and number >= 0:  # it leaves, in the middle of whatever it has begun
                client.close()
            story.turn()
        idle = 0
        for _ in range(MOST_TURNS):
            story.turn()
            idle = 0 if story.engine.suspended or story.engine.sleeping else idle + 1
            if idle > len(steps):  # what was not read meanwhile has been read now
                break
        assert idle > len(steps)
        assert len(story.journal.staging) == 0
        assert story.journal.active_bytes == 0 or rotate(story.journal)
        event(f"{story.most_staged} staged side by side")
        event(f"names given in {min(story.named, 3)} turns")


@pytest.mark.parametrize("turns", range(1, 24, 3))
def test_two_that_write_one_object_in_a_turn_do_not_name_the_same_pieces(turns: int) -> None:
    large = b"7 bytes" * 40
    with Turns(CLIENTS) as server, together():
        story = Story(server, 1 << 20)  # with a segment that ends, one would wait for the other
        first, second, _ = server.clients

        def say(client: socket.socket, *commands: list[bytes], turns: int) -> None:
            client.send(b"".join(encode(*command) for command in commands))
            for _ in range(turns):
                story.turn()

        say(first, [b"SET", b"a", large], [b"COPY", b"a", b"b"], turns=100)
        assert story.engine.keyspace.data[b"b"] is story.engine.keyspace.data[b"a"]
        say(first, [b"COPY", b"a", b"d"], turns=turns)
        assert story.journal.staging
        copies = [[b"COPY", b"b", b"c", b"REPLACE"]] * 9
        say(second, [b"MULTI"], *copies, [b"EXEC"], turns=100)
        assert not story.engine.suspended
        assert story.engine.keyspace.data[b"c"] == large


@pytest.mark.parametrize("turns", range(1, 40, 2))
def test_what_a_transaction_wrote_ahead_is_not_named_again_while_its_events_are_told(
    turns: int,
) -> None:
    large = b"7 bytes" * 4
    with Turns(CLIENTS) as server, together():
        story = Story(server, 1 << 20)
        story.engine.hub.notify(frozenset("K$"))
        first, second, _ = server.clients
        sets = [[b"SET", b"key:%d" % n, large] for n in range(8)]
        first.send(b"".join(encode(*args) for args in ([b"MULTI"], *sets, [b"EXEC"])))
        for _ in range(60 + turns):
            story.turn()
        second.send(b"".join(encode(*args) for args in copy_of(b"key:7")))
        for _ in range(60):
            story.turn()
        assert not story.engine.suspended
        assert story.engine.keyspace.data[b"copy"] == large


@pytest.mark.parametrize("turns", range(14, 22))
def test_what_went_ahead_waits_for_a_transaction_that_began_meanwhile(turns: int) -> None:
    with Turns(CLIENTS) as server:
        story = Story(server, 1 << 20)
        first, second, _ = server.clients
        first.send(encode(b"SET", b"b", b"x" * 300))
        for _ in range(60):
            story.turn()
        second.send(encode(b"RENAME", b"b", b"a"))
        for _ in range(turns):
            story.turn()
        sets = [[b"SET", b"a", b"1"]] * 8
        first.send(b"".join(encode(*args) for args in ([b"MULTI"], *sets, [b"EXEC"])))
        for _ in range(150):
            story.turn()
        assert not story.engine.suspended
        assert not story.engine.sleeping


def copy_of(key: bytes) -> list[list[bytes]]:
    """In a transaction, which writes nothing ahead."""
    return [[b"MULTI"], [b"COPY", key, b"copy"], [b"EXEC"]]
