"""The limit on memory: counted to the byte, held by eviction or refusal."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.memory import MeasuredData, entry_bytes
from kvserver.quick import serve
from kvserver.session import Session
from tests.kvserver.commands.support import Server

OOM = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"


def limited(policy: str, room: int) -> Server:
    """A server with room for so many bytes of data more than it has at its start."""
    server = Server(maxmemory_bytes=1 << 40, maxmemory_policy=policy, maxmemory_samples=20)
    server.engine.config.maxmemory_bytes = server.engine.memory.used_bytes() + room
    return server


def fill(server: Server, keys: int, size: int = 1000) -> list[bytes]:
    return [server("SET", f"key{number}", b"x" * size) for number in range(keys)]


def test_without_eviction_growing_writes_are_refused() -> None:
    server = limited("noeviction", 100_000)
    replies = fill(server, 200)
    assert replies[0] == b"+OK\r\n"
    assert replies[-1] == OOM
    assert server("GET", "key0").startswith(b"$1000\r\n")
    assert server("APPEND", "key0", "x") == OOM
    assert server("DEL", *[f"key{number}" for number in range(50)]) == b":50\r\n"
    assert server("SET", "again", "x") == b"+OK\r\n"


def test_a_transaction_that_would_grow_is_refused_as_a_whole() -> None:
    server = limited("noeviction", 50_000)
    fill(server, 100)
    server("MULTI")
    assert server("SET", "k", "v") == OOM
    assert server("EXEC").startswith(b"-EXECABORT")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_eviction_keeps_under_the_limit(policy: str) -> None:
    server = limited(policy, 100_000)
    for number in range(500):
        reply = server("SET", f"key{number}", b"x" * 1000, "EX", 1000 + number)
        assert reply == b"+OK\r\n"
        assert server.engine.memory.used_bytes() <= server.engine.config.maxmemory_bytes + 3000
    assert server.engine.stats.evicted > 300
    assert 20 < len(server.keyspace) < 200
    server.check()


def test_a_limit_far_below_what_is_there_stops_nobody_while_keys_are_evicted() -> None:
    server = Server(maxmemory_policy="allkeys-lru")
    base_bytes = server.engine.memory.base_bytes
    server.keyspace.set_many([b"key%d" % n for n in range(20_000)], [b"x" * 50] * 20_000)
    room = 1_000_000
    assert server("CONFIG", "SET", "maxmemory", base_bytes + room) == b"+OK\r\n"
    assert server.engine.memory.base_bytes == base_bytes
    assert server("SET", "one", "more") == b"+OK\r\n"
    while server.engine.memory.behind:
        assert server.engine.memory.make_room()
    assert server.engine.memory.used_bytes() <= base_bytes + room
    assert len(server.keyspace) > 1000
    server.check()


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl"])
def test_keys_without_a_deadline_are_spared(policy: str) -> None:
    server = limited(policy, 100_000)
    fill(server, 40)
    for number in range(200):
        server("SET", f"volatile{number}", b"x" * 1000, "EX", 1000)
    assert server("EXISTS", *[f"key{number}" for number in range(40)]) == b":40\r\n"


def test_with_nothing_to_evict_writes_are_refused() -> None:
    server = limited("volatile-lru", 50_000)
    assert fill(server, 100)[-1] == OOM


def test_volatile_ttl_takes_the_soonest() -> None:
    server = limited("volatile-ttl", 60_000)
    for number in range(100):
        server("SET", f"k{number}", b"x" * 1000, "EX", 10_000 - 50 * number)
        if server.engine.stats.evicted:
            break
    assert server("EXISTS", f"k{number - 1}") == b":0\r\n"
    assert server("EXISTS", "k0") == b":1\r\n"


def test_lru_spares_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("kvserver.memory.time.monotonic", lambda: now[0])
    random.seed(5)
    server = limited("allkeys-lru", 120_000)
    for number in range(60):
        server("SET", f"key{number}", b"x" * 1000)
    for number in range(60, 300):
        now[0] += 1
        server("GET", "key3")
        server("SET", f"key{number}", b"x" * 1000)
    assert server("EXISTS", "key3") == b":1\r\n"
    assert server("EXISTS", "key4") == b":0\r\n"
    now[0] += 100
    assert server("OBJECT", "IDLETIME", "key299") == b":0\r\n", "looking at it is a use"


def test_evictions_are_journaled_and_published() -> None:
    server = limited("allkeys-lru", 50_000)
    listener = server.open()
    server("CONFIG", "SET", "notify-keyspace-events", "Ee")
    server("SUBSCRIBE", "__keyevent@0__:evicted", by=listener)
    fill(server, 100)
    gone = [effect[1] for effect in server.keyspace.effects if effect[0] == "del"]
    assert len(gone) == server.engine.stats.evicted > 0
    assert listener.take().count(b"message") == len(gone)


def test_a_limit_set_later_counts_what_is_there_and_ends_when_lifted() -> None:
    server = Server()
    fill(server, 100)
    plain = type(server.keyspace.data)
    server("CONFIG", "SET", "maxmemory", "1gb")
    assert isinstance(server.keyspace.data, MeasuredData)
    used = sum(entry_bytes(key, value) for key, value in server.keyspace.data.items())
    assert server.keyspace.data.stored_bytes == used
    server("FLUSHALL")
    assert isinstance(server.keyspace.data, MeasuredData)
    assert server.keyspace.data.stored_bytes == 0
    server("SET", "k", "v")
    server("CONFIG", "SET", "maxmemory", 0)
    assert type(server.keyspace.data) is plain
    assert server("GET", "k") == b"$1\r\nv\r\n"
    assert not server.engine.gates


@given(st.lists(st.tuples(st.sampled_from("sdap"), st.integers(0, 5), st.binary(max_size=50))))
def test_the_sum_is_exact_at_every_step(steps: list[tuple[str, int, bytes]]) -> None:
    server = Server(maxmemory_bytes=1 << 40)
    for kind, number, value in steps:
        key = b"key%d" % number
        match kind:
            case "s":
                server("SET", key, value)
            case "d":
                server("DEL", key)
            case "a":
                server("APPEND", key, value)
            case "p":
                server("RENAME", key, b"key0")
        data = server.keyspace.data
        assert isinstance(data, MeasuredData)
        assert data.stored_bytes == sum(entry_bytes(k, v) for k, v in data.items())


def sets(start: int, keys: int, size: int) -> bytes:
    """A pipeline of so many SETs of keys that are new."""
    value = b"x" * size
    return b"".join(
        b"*3\r\n$3\r\nSET\r\n$7\r\nkey%04d\r\n$%d\r\n%b\r\n" % (number, size, value)
        for number in range(start, start + keys)
    )


def test_pipelines_are_evicted_for_and_overshoot_by_one_chunk_at_most() -> None:
    server = limited("allkeys-lru", 100_000)
    session = server.engine.session()
    for start in range(0, 1600, 16):
        chunk = sets(start, 16, 1000)
        assert serve(session, chunk, {}) == b"SET"
        assert server.engine.memory.used_bytes() <= (
            server.engine.config.maxmemory_bytes + 2 * len(chunk)
        )
    assert session.take() == b"+OK\r\n" * 1600
    assert server.engine.stats.evicted > 1400
    server.check()


def test_a_pipeline_for_which_there_is_no_room_is_left_to_those_who_count_each() -> None:
    server = limited("noeviction", 10_000)
    session = server.engine.session()
    assert serve(session, sets(0, 4, 1000), {}) == b"SET"
    assert serve(session, sets(4, 4, 1000), {}) is None
    assert len(server.keyspace) == 4


def goes_quickly(session: Session) -> bool:
    """Whether a pipeline of this session is served in one go."""
    return session.table is session.engine.quick_table


def test_a_pipeline_of_gets_is_a_use_of_its_keys_but_not_with_no_touch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("kvserver.memory.time.monotonic", lambda: now[0])
    server = limited("allkeys-lru", 1 << 20)
    fill(server, 3)
    now[0] += 50
    session = server.engine.session()
    gets = b"*2\r\n$3\r\nGET\r\n$4\r\nkey1\r\n" * 8
    assert goes_quickly(session)
    assert serve(session, gets, {}) == b"GET"
    assert [server.engine.memory.idle_s(b"key%d" % number) for number in range(3)] == [50, 0, 50]
    session.run([b"CLIENT", b"NO-TOUCH", b"ON"])
    assert not goes_quickly(session)
    session.run([b"CLIENT", b"NO-TOUCH", b"OFF"])
    assert goes_quickly(session)


def test_with_a_monitor_or_in_a_transaction_nothing_goes_quickly_under_a_limit() -> None:
    server = limited("allkeys-lru", 1 << 20)
    session = server.engine.session()
    session.run([b"MULTI"])
    assert not goes_quickly(session)
    session.run([b"DISCARD"])
    assert goes_quickly(session)
    server.engine.gate("test", lambda _session, _command, _args: None)
    assert server.engine.quick_table is None
    server.engine.gate("test", None)
    assert goes_quickly(session)
