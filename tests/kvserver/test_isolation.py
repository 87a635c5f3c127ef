"""Long writes go in slices, and nobody sees one half done; a property test has the whole rule."""

from __future__ import annotations

import msgpack
import pytest
import trio

from kvserver.config import Config
from kvserver.engine import Engine
from kvserver.isolation import LONG
from kvserver.keyspace import Keyspace
from kvserver.reactor import Reactor
from kvserver.session import Session

NUMBER = 2 * LONG
PAIRS = [part for n in range(NUMBER) for part in (b"key:%d" % n, b"new")]
MSET = [b"MSET", *PAIRS]


@pytest.fixture
def engine() -> Engine:
    return Engine()


def begin(session: Session, command: list[bytes] = MSET) -> None:
    """Send a long write, and let it come so far that it has written something."""
    session.out.append(session.table[command[0]](session, command))
    while b"new" not in session.keyspace.data.values():
        assert session.advance(1) is None


def go_on(engine: Engine) -> None:
    """Let everybody come to an end who is suspended."""
    for _ in range(10_000):
        for session in list(engine.suspended):
            reply = session.advance(1)
            if reply is not None:
                session.answer(reply)
    assert not engine.suspended
    assert not engine.sleeping


def says(session: Session, *args: bytes) -> bytes:
    """Send a command and return what is answered at once, nothing if it has to wait."""
    session.out.append(session.table[args[0]](session, list(args)))
    if session in session.engine.suspended:
        assert session.advance(1) is None
    return session.take()


def figures(engine: Engine) -> dict[str, int]:
    return {name: value for name, value in engine.isolation.statistics().items() if value}


def test_others_go_on_unless_they_touch_what_is_written(engine: Engine) -> None:
    writer, free, reader, counter = (engine.session() for _ in range(4))
    begin(writer)
    assert says(free, b"SET", b"other", b"1") == b"+OK\r\n"
    assert says(free, b"MGET", b"other", b"missing") == b"*2\r\n$1\r\n1\r\n$-1\r\n"
    assert says(reader, b"GET", b"key:%d" % (NUMBER - 1)) == b""
    assert says(reader, b"PING") == b""  # what a client says is answered in its order
    assert says(counter, b"DBSIZE") == b""
    assert figures(engine) == {
        "isolated_writes": 1,
        "held_back_by_isolation": 2,
        "waiting_for_isolation": 2,
    }
    go_on(engine)
    assert writer.take() == b"+OK\r\n"
    assert reader.take() == b"$3\r\nnew\r\n"
    assert reader.backlog == [[b"PING"]]  # its owner runs it
    assert counter.take() == b":%d\r\n" % (NUMBER + 1)


def test_its_effects_become_one_record_at_its_end(engine: Engine) -> None:
    writer, other = engine.session(), engine.session()
    begin(writer)
    says(other, b"SET", b"other", b"1")
    keyspace = engine.keyspace
    assert keyspace.effects == [("set", b"other", b"1")]
    assert not keyspace.packed_effects
    keyspace.clear_effects()
    go_on(engine)
    assert keyspace.effects == []
    effects = list(map(msgpack.unpackb, keyspace.packed_effects))
    assert [key for _, keys, _ in effects for key in keys] == PAIRS[::2]


def test_a_transaction_that_only_touches_keys_is_isolated(engine: Engine) -> None:
    writer, other = engine.session(), engine.session()
    writer.run([b"MULTI"])
    for n in range(NUMBER):
        writer.run([b"SET", b"key:%d" % n, b"new"])
        writer.run([b"INCR", b"count:%d" % n])
    begin(writer, [b"EXEC"])
    assert says(other, b"SET", b"other", b"1") == b"+OK\r\n"
    assert says(other, b"INCR", b"count:7") == b""
    go_on(engine)
    assert writer.take() == b"*%d\r\n" % (2 * NUMBER) + b"+OK\r\n:1\r\n" * NUMBER
    assert other.take() == b":2\r\n"


def test_nobody_changes_a_watched_key_between_the_look_at_it_and_the_end(engine: Engine) -> None:
    writer, other = engine.session(), engine.session()
    writer.run([b"WATCH", b"watched"])
    writer.run([b"MULTI"])
    for n in range(NUMBER):
        writer.run([b"SET", b"key:%d" % n, b"new"])
    writer.run([b"KEYS", b"watched"])
    begin(writer, [b"EXEC"])
    assert says(other, b"SET", b"watched", b"1") == b""
    go_on(engine)
    assert writer.take() == b"*%d\r\n" % (NUMBER + 1) + b"+OK\r\n" * NUMBER + b"*0\r\n"
    assert other.take() == b"+OK\r\n"


@pytest.mark.parametrize(
    ("looks", "isolated"),
    [
        ([b"DBSIZE"], 1),
        ([b"KEYS no"], 1),
        ([b"DBSIZE", b"KEYS no"], 0),
        ([b"SCAN 0"], 0),
        ([b"RANDOMKEY"], 0),
        ([b"CONFIG GET port"], 0),
    ],
)
def test_one_that_looks_at_all_keys_may_do_so_once(
    engine: Engine, looks: list[bytes], isolated: int
) -> None:
    writer = engine.session()
    writer.run([b"MULTI"])
    for n in range(NUMBER):
        writer.run([b"SET", b"key:%d" % n, b"new"])
    for look in looks:
        writer.run(look.split())
    reply = writer.run([b"EXEC"])
    assert reply.startswith(b"*%d\r\n+OK\r\n" % (NUMBER + len(looks)))
    assert (b"+OK\r\n:%d\r\n" % NUMBER in reply) is (b"DBSIZE" in looks)
    assert figures(engine).get("isolated_writes", 0) == isolated


@pytest.mark.parametrize("look", [b"KEYS *", b"DBSIZE", b"SCAN 0 COUNT 100000", b"RANDOMKEY"])
def test_an_overdue_key_that_is_written_meanwhile_is_there_after_a_restart(look: bytes) -> None:
    now_ms = [1_000_000]
    engine = Engine(Config(), Keyspace(lambda: now_ms[0]))
    keyspace, writer, other = engine.keyspace, engine.session(), engine.session()
    other.run([b"SET", b"overdue", b"old", b"PX", b"5"])
    writer.run([b"MULTI"])
    writer.run(look.split())
    for n in range(NUMBER):
        writer.run([b"SET", b"key:%d" % n, b"new"])
    now_ms[0] += 10
    keyspace.tick()
    journal = list(keyspace.effects)
    keyspace.clear_effects()
    writer.out.append(writer.table[b"EXEC"](writer, [b"EXEC"]))
    written = b""
    while writer.pending is not None:
        writer.answer(writer.advance(1) or b"")
        if not written and b"new" in keyspace.data.values():
            written = says(other, b"SET", b"overdue", b"fresh")
        journal += [*map(msgpack.unpackb, keyspace.packed_effects), *keyspace.effects]
        keyspace.clear_effects()
    assert written == b"+OK\r\n"
    again = Keyspace(lambda: now_ms[0])
    again.apply_many(journal)
    assert again.data == keyspace.data
    assert again.data[b"overdue"] == b"fresh"


def test_who_uses_monitor_sees_it_as_it_runs_and_stops_nobody(engine: Engine) -> None:
    writer, other, watcher = engine.session(), engine.session(), engine.session()
    watcher.run([b"MONITOR"])
    writer.run([b"MULTI"])
    for n in range(NUMBER):
        writer.run([b"SET", b"key:%d" % n, b"new"])
    watcher.take()
    begin(writer, [b"EXEC"])
    assert says(other, b"GET", b"other") == b"$-1\r\n"
    go_on(engine)
    assert writer.take() == b"*%d\r\n" % NUMBER + b"+OK\r\n" * NUMBER
    shown = [line.split(b"] ")[1] for line in watcher.take().splitlines()]
    shown.remove(b'"GET" "other"')
    assert shown == [*(b'"SET" "key:%d" "new"' % n for n in range(NUMBER)), b'"EXEC"']
    assert figures(engine)["isolated_writes"] == 1


@pytest.mark.parametrize("command", [MSET, [b"EXEC"]])
def test_a_client_that_goes_away_leaves_nothing_half_done(
    engine: Engine, command: list[bytes]
) -> None:
    writer, reader = engine.session(), engine.session()
    if command == [b"EXEC"]:
        writer.run([b"MULTI"])
        for key in PAIRS[::2]:
            writer.run([b"SET", key, b"new"])
    begin(writer, command)
    assert says(reader, b"GET", PAIRS[-2]) == b""
    engine.close(writer)
    assert engine.isolation.active  # nobody else waits for the rest
    assert says(engine.session(), b"SET", b"other", b"1") == b"+OK\r\n"
    go_on(engine)
    assert reader.take() == b"$3\r\nnew\r\n"
    assert len(engine.keyspace) == NUMBER + 1
    assert "isolated_writes_ended_early" not in figures(engine)


def test_a_client_that_waits_and_goes_away_is_forgotten(engine: Engine) -> None:
    writer, reader = engine.session(), engine.session()
    begin(writer)
    says(reader, b"GET", b"key:1")
    engine.close(reader)
    assert "waiting_for_isolation" not in figures(engine)
    go_on(engine)
    assert writer.take() == b"+OK\r\n"


@pytest.mark.parametrize(
    "command",
    [
        [b"MONITOR"],
        [b"CONFIG", b"SET", b"maxmemory", b"1gb"],
        [b"CLIENT", b"PAUSE", b"0"],
        [b"CONFIG", b"SET", b"slowlog-log-slower-than", b"1"],
    ],
)
def test_a_gate_that_closes_ends_it_at_once(engine: Engine, command: list[bytes]) -> None:
    writer, other = engine.session(), engine.session()
    begin(writer)
    other.run(command)
    assert len(engine.keyspace) == NUMBER
    assert not engine.isolation.active
    go_on(engine)
    assert writer.take() == b"+OK\r\n"


def test_it_does_not_begin_in_the_middle_of_a_long_del(engine: Engine) -> None:
    remover, writer = engine.session(), engine.session()
    writer.run([b"MSET", *[part for n in range(5000) for part in (b"key:%d" % n, b"old")]])
    engine.keyspace.clear_effects()
    remover.table[b"DEL"](remover, [b"DEL", *[b"key:%d" % n for n in range(5000)]])
    assert remover.advance(1) is None
    assert says(writer, *MSET) == b"+OK\r\n"
    assert engine.keyspace.effects[-1] == ("mst", PAIRS[::2], PAIRS[1::2])


def test_keys_do_not_expire_by_themselves_meanwhile() -> None:
    engine = Engine()
    now_ms = 1_000_000
    engine.keyspace.clock = lambda: now_ms
    writer, other = engine.session(), engine.session()
    reactor = Reactor(engine)
    engine.keyspace.tick()
    other.run([b"SET", b"key:1", b"old", b"PX", b"10"])
    begin(writer)
    now_ms += 100
    engine.keyspace.tick()
    engine.keyspace.clear_effects()
    reactor.expire()
    assert engine.keyspace.effects == []
    go_on(engine)
    reactor.expire()
    assert other.run([b"GET", b"key:1"]) == b"$3\r\nnew\r\n"
    trio.run(reactor.drain, 0)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_others_evict_meanwhile_but_nothing_of_what_is_written(policy: str) -> None:
    engine = Engine(Config(maxmemory_bytes=1 << 40, maxmemory_policy=policy))
    keyspace, history = engine.keyspace, []
    for n in range(1000):
        keyspace.set(b"old:%d" % n, b"x" * 1000, keyspace.now + 1_000_000 + n)
    writer, other = engine.session(), engine.session()
    transaction = [[b"SET", key, b"new", b"EX", b"100"] for key in PAIRS[::2]]
    for command in ([b"MULTI"], *transaction):
        says(writer, *command)
    begin(writer, [b"EXEC"])
    assert set(engine.isolation.keys) == set(PAIRS[::2])
    engine.config.maxmemory_bytes = engine.memory.used_bytes() - 100_000
    reply = None
    while reply is None:
        assert says(other, b"SET", b"another", b"y" * 1000) == b"+OK\r\n"
        for session in list(engine.suspended):
            reply = session.advance(1)
        history += [*map(msgpack.unpackb, keyspace.packed_effects), *keyspace.effects]
        keyspace.clear_effects()
    assert engine.stats.evicted >= 90
    assert keyspace.data.keys() >= set(PAIRS[::2])
    again = Keyspace(keyspace.clock)
    for n in range(1000):
        again.set(b"old:%d" % n, b"x" * 1000, keyspace.now + 1_000_000 + n)
    again.apply_many(history)
    assert again.data == keyspace.data


def test_what_was_written_before_it_in_the_same_turn_comes_before_it_in_the_journal(
    engine: Engine,
) -> None:
    writer, other = engine.session(), engine.session()
    says(other, b"SET", b"key:1", b"old")
    writer.run(MSET)
    keyspace, again = engine.keyspace, Keyspace()
    again.apply_many([*map(msgpack.unpackb, keyspace.packed_effects), *keyspace.effects])
    assert figures(engine) == {"isolated_writes": 1}
    assert again.data[b"key:1"] == b"new"
