"""What goes to the journal ahead of its command: at any moment the journal holds what was answered.

Clients send commands whose values all count as large, cut into pieces of a few bytes, over real
sockets. After every turn a killed server is recovered from the disk as it is: what comes back must
be what the living one has, piece by piece, whoever left in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from kvserver import ahead, execution, isolation, longstring, reactor
from kvserver.commands import cutting, exchange, strings, transactions
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
        for module in (longstring, cutting):
            patched.setattr(module, "BLOCK_BYTES", 16)
        patched.setattr(cutting, "_BLOCKS_AT_ONCE", 1)
        for module in (isolation, strings, exchange, transactions):
            patched.setattr(module, "LONG", 2)
        patched.setattr(strings, "SLICE_KEYS", 1)
        yield


def recovered(disk: MemoryDisk) -> list[Any]:
    keyspace = Keyspace(lambda: 0)
    recover(disk.killed(), keyspace.apply_many)
    return sorted(map(list, keyspace.dump()))


class Story:
    """Clients, a server with a journal, and what a kill would leave of it."""

    def __init__(self, server: Turns) -> None:
        self.disk = MemoryDisk()
        self.server = server
        self.engine = server.engine
        self.journal, _ = recover(self.disk, lambda _: None, segment_bytes=SEGMENT_BYTES)
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


@given(steps)
def test_a_kill_after_any_turn_loses_nothing_and_invents_nothing(
    steps: list[tuple[int, bytes]],
) -> None:
    with Turns(CLIENTS) as server:
        story = Story(server)
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
