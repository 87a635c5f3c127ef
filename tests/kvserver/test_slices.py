"""Long commands: no step of them takes long, and nothing that stays is missed or said twice."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvserver.engine import Engine
from kvserver.journal.fs import RealFileSystem
from kvserver.journal.recovery import recover
from kvserver.keyspace import Keyspace
from kvserver.longstring import whole
from kvserver.session import Session

KEYS = 200_000


@pytest.fixture(scope="module")
def full() -> Session:
    session = Engine().session()
    keys = [b"key:%d" % n for n in range(KEYS)]
    session.keyspace.set_many(keys, [b"value"] * KEYS)
    session.keyspace.effects.clear()
    return session


def steps_ms(session: Session, args: list[bytes]) -> Iterator[float]:
    """Run a command slice by slice; yield the CPU time of each (the machine may be shared)."""
    began = time.thread_time()
    session.out.append(session.table[args[0]](session, args))
    yield (time.thread_time() - began) * 1000
    while session.pending is not None:
        began = time.thread_time()
        reply = session.advance(1)
        yield (time.thread_time() - began) * 1000
        if reply is not None:
            session.answer(reply)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ([b"KEYS", b"*"], b"*%d\r\n$" % KEYS),
        ([b"KEYS", b"*99999"], b"*2\r\n$"),
        ([b"SCAN", b"0", b"COUNT", b"1000000"], b"*2\r\n$1\r\n0\r\n*%d\r\n" % KEYS),
        ([b"MGET", *[b"key:%d" % n for n in range(KEYS)]], b"*%d\r\n$5\r\nvalue" % KEYS),
        ([b"EXISTS", *[b"key:%d" % n for n in range(KEYS)]], b":%d\r\n" % KEYS),
        ([b"TOUCH", *[b"key:%d" % n for n in range(0, 2 * KEYS, 2)]], b":%d\r\n" % (KEYS // 2)),
        ([b"SUBSCRIBE", *[b"key:%d" % n for n in range(9000)]], b"*3\r\n$9\r\nsubscribe"),
        ([b"UNSUBSCRIBE", *[b"key:%d" % n for n in range(9000)]], b"*3\r\n$11\r\nunsubs"),
        ([b"DEL", *[b"key:%d" % n for n in range(0, KEYS, 4)]], b":%d\r\n" % (KEYS // 4)),
        ([b"MSET", *[b"key:%d" % (n // 2) for n in range(KEYS)]], b"+OK\r\n"),
        ([b"MSETNX", *[b"new:%d" % (n // 2) for n in range(KEYS)]], b":1\r\n"),
        ([b"FLUSHALL"], b"+OK\r\n"),
    ],
    ids=lambda value: b" ".join(value[:2]).decode() if isinstance(value, list) else None,
)
def test_no_step_of_a_long_command_takes_ten_milliseconds(
    full: Session, command: list[bytes], answer: bytes
) -> None:
    gc.disable()  # a server tells the collector to come seldom; here it would count as a step
    try:
        longest = max(steps_ms(full, command))
    finally:
        gc.enable()
    assert full.take().startswith(answer)
    full.keyspace.effects.clear()
    assert longest < 10
    while True:
        began = time.thread_time()
        left = full.keyspace.free_garbage(2000)
        assert time.thread_time() - began < 0.01
        if not left:
            break


def test_keys_says_each_key_once_while_others_come_and_go() -> None:
    engine = Engine()
    one, other = engine.session(), engine.session()
    for n in range(3000):
        other.run([b"SET", b"k%d" % n, b""])
    for n in range(0, 3000, 3):
        other.run([b"DEL", b"k%d" % n])
        other.run([b"SET", b"k%d" % n, b"again"])
    one.out.append(one.table[b"KEYS"](one, [b"KEYS", b"*"]))
    assert one.pending is not None
    for n in range(0, 3000, 2):
        other.run([b"DEL", b"k%d" % n])
        other.run([b"SET", b"k%d" % n, b"again"])
        other.run([b"SET", b"new%d" % n, b""])
    while (reply := one.advance(1)) is None:
        pass
    one.answer(reply)
    names = one.take().split(b"\r\n")[2::2]
    assert len(names) == len(set(names))
    assert {name for name in names if name[:1] == b"k"} >= {b"k%d" % n for n in range(1, 3000, 2)}


def test_later_commands_of_a_client_wait_and_keep_their_order() -> None:
    engine = Engine()
    session = engine.session()
    for n in range(2000):
        session.run([b"SET", b"k%d" % n, b"v"])
    for args in ([b"KEYS", b"k1"], [b"PING"], [b"ECHO", b"x"]):
        session.out.append(session.table[args[0]](session, args))
    assert session.backlog == [[b"PING"], [b"ECHO", b"x"]]
    assert session.take() == b""


def test_inside_a_transaction_a_long_command_runs_at_once() -> None:
    session = Engine().session()
    for n in range(2000):
        session.run([b"SET", b"k%d" % n, b"v"])
    session.run([b"MULTI"])
    session.run([b"KEYS", b"k77"])
    session.run([b"DEL", b"k77"])
    assert session.run([b"EXEC"]) == b"*2\r\n*1\r\n$3\r\nk77\r\n:1\r\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ([b"SETBIT", b"map", b"100000000", b"1"], b":0\r\n"),
        ([b"SETRANGE", b"map", b"5000000", b"some"], b":67108864\r\n"),
        ([b"APPEND", b"map", b"more"], b":67108868\r\n"),
        ([b"BITFIELD", b"map", b"INCRBY", b"u8", b"77777777", b"1"], b"*1\r\n:"),
        ([b"GETRANGE", b"map", b"9000000", b"9000003"], b"$4\r\n"),
        ([b"GET", b"map"], b"$67108868\r\n"),
        ([b"BITCOUNT", b"map"], b":"),
        ([b"BITPOS", b"map", b"1", b"6000000"], b":"),
    ],
    ids=lambda value: value[0].decode() if isinstance(value, list) else None,
)
def test_no_step_on_a_long_string_takes_ten_milliseconds(
    mapped: Session, command: list[bytes], answer: bytes
) -> None:
    longest = max(steps_ms(mapped, command))
    assert mapped.take().startswith(answer)
    mapped.keyspace.effects.clear()
    assert longest < 10


@pytest.fixture(scope="module")
def mapped() -> Session:
    """A server with a bitmap of 64 MiB."""
    session = Engine().session()
    assert session.run([b"SETBIT", b"map", b"%d" % (8 * (64 << 20) - 1), b"1"]) == b":0\r\n"
    return session


def test_bitop_begins_again_when_a_string_is_changed_meanwhile() -> None:
    engine = Engine()
    one, other = engine.session(), engine.session()
    for key in (b"a", b"b"):
        one.run([b"SETBIT", key, b"%d" % (8 << 20), b"1"])
    one.out.append(one.table[b"BITOP"](one, [b"BITOP", b"AND", b"both", b"a", b"b"]))
    changes = 0
    while one.pending is not None:
        reply = one.advance(1)
        if reply is not None:
            one.answer(reply)
        elif changes < 5:  # behind what is combined already
            changes += 1
            for key in (b"a", b"b"):
                other.run([b"SETBIT", key, b"%d" % changes, b"1"])
    assert one.take() == b":%d\r\n" % ((1 << 20) + 1)
    assert changes == 5
    assert one.run([b"BITCOUNT", b"both"]) == b":6\r\n"


LARGE = 24 << 20
VALUE = bytes(range(256)) * (LARGE // 256)


@pytest.fixture
def journaled(tmp_path: Path) -> Iterator[Session]:
    """A client of an engine with a journal, which holds a large string."""
    keyspace = Keyspace()
    keyspace.data[b"large"] = VALUE
    engine = Engine(keyspace=keyspace)
    engine.journal, _ = recover(RealFileSystem(tmp_path), lambda _effects: None)
    yield engine.session()
    engine.journal.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "answer", "key", "wanted"),
    [
        ([b"SET", b"new", VALUE], b"+OK", b"new", VALUE),
        ([b"SET", b"new", VALUE, b"EX", b"9", b"GET"], b"$-1", b"new", VALUE),
        ([b"SETNX", b"new", VALUE], b":1", b"new", VALUE),
        ([b"GETSET", b"large", VALUE[::-1]], b"$25165824", b"large", VALUE[::-1]),
        ([b"MSET", b"new", VALUE, b"newer", VALUE], b"+OK", b"newer", VALUE),
        ([b"APPEND", b"new", VALUE], b":25165824", b"new", VALUE),
        ([b"APPEND", b"large", b"x"], b":25165825", b"large", VALUE + b"x"),
        ([b"SETRANGE", b"large", b"0", b"x"], b":25165824", b"large", b"x" + VALUE[1:]),
        ([b"COPY", b"large", b"new"], b":1", b"new", VALUE),
        ([b"RENAME", b"large", b"new"], b"+OK", b"new", VALUE),
        ([b"BITOP", b"OR", b"new", b"large", b"large"], b":25165824", b"new", VALUE),
    ],
    ids=lambda value: b" ".join(value[:2]).decode() if isinstance(value, list) else None,
)
def test_no_step_of_a_large_write_takes_ten_milliseconds(
    journaled: Session, command: list[bytes], answer: bytes, key: bytes, wanted: bytes
) -> None:
    engine = journaled.engine
    journaled.expect_large()
    steps = list(steps_ms(journaled, command))
    assert journaled.take().startswith(answer)
    assert max(steps) < 10
    began = time.thread_time()
    engine.journal.append(engine.keyspace.effects)
    assert time.thread_time() - began < 0.01
    assert len(steps) > 10
    engine.journal.close()
    keyspace = Keyspace()
    keyspace.data[b"large"] = VALUE
    recover(engine.journal.fs, keyspace.apply_many)
    assert whole(keyspace.data[key]) == wanted
