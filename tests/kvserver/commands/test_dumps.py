"""DUMP and RESTORE: what is asked in which order, what is kept, what others may do meanwhile."""

from __future__ import annotations

import random
import time

import pytest

from kvserver.commands.keys import TABLE as KEYS_TABLE
from kvserver.keyspace import Keyspace
from kvserver.session import Session
from tests.kvserver.commands.support import Arg, Server, messages
from tests.kvserver.test_dumped import closed, dumped

OK = b"+OK\r\n"
BUSY = b"-BUSYKEY Target key name already exists.\r\n"
SYNTAX = b"-ERR syntax error\r\n"
NOT_AN_INTEGER = b"-ERR value is not an integer or out of range\r\n"
BAD_TTL = b"-ERR Invalid TTL value, must be >= 0\r\n"
BAD_IDLE = b"-ERR Invalid IDLETIME value, must be >= 0\r\n"
BAD_FREQUENCY = b"-ERR Invalid FREQ value, must be >= 0 and <= 255\r\n"
BAD_FOOTER = b"-ERR DUMP payload version or checksum are wrong\r\n"
BAD_FORMAT = b"-ERR Bad data format\r\n"
HELLO = dumped(b"hello")
A_LIST = closed(b"\x01\x00")
LONG = random.Random(3).randbytes(3_000_000)


@pytest.fixture
def server() -> Server:
    return Server()


def dump_of(server: Server, key: str) -> bytes:
    return server("DUMP", key).partition(b"\r\n")[2][:-2]


def begin(session: Session, *args: Arg) -> bytes:
    """Send a command that is too long for one step, and nothing but its first step is done."""
    words = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    reply = session.table[words[0]](session, words)
    assert session.pending is not None
    return reply


def finish(session: Session) -> bytes:
    while (reply := session.advance(1)) is None:
        pass
    session.answer(reply)
    return session.take()


@pytest.mark.parametrize("value", [b"", b"hello", b"-7", b"007", b"x" * 70_000, LONG])
def test_a_string_comes_back(server: Server, value: bytes) -> None:
    server("SET", "k", value, "EX", 100)
    assert server("RESTORE", "copy", 0, dump_of(server, "k")) == OK
    assert server("GET", "copy") == server("GET", "k")
    assert server("TTL", "copy") == b":-1\r\n", "a deadline is no part of it"
    again = Keyspace(server.clock)
    again.apply_many(server.keyspace.effects)
    assert again.data == server.keyspace.data
    server.check()


def test_there_is_no_dump_of_what_is_no_string(server: Server) -> None:
    assert server("DUMP", "k") == b"$-1\r\n"
    server("HELLO", 3)
    assert server("DUMP", "k") == b"_\r\n"
    server("MERGE", "k", '{"count": 1}')
    reply = server("DUMP", "k")
    assert reply.startswith(b"-ERR DUMP is for strings")
    assert b"kvcli export" in reply


def test_dump_counts_as_a_look_up(server: Server) -> None:
    server("SET", "k", "v")
    server("DUMP", "k")
    server("DUMP", "none")
    assert (server.keyspace.hits, server.keyspace.misses) == (1, 1)


@pytest.mark.parametrize(
    ("args", "reply"),
    [
        (["k", "x", b"", "nosuch"], SYNTAX),
        (["k", "x", b"", "IDLETIME"], SYNTAX),
        (["k", "x", b"", "FREQ"], SYNTAX),
        (["k", "x", b"", "IDLETIME", 0, "FREQ", 0], SYNTAX),
        (["k", "x", b"", "FREQ", 0, "IDLETIME", 0], SYNTAX),
        (["k", "x", b"", "IDLETIME", "x", "nosuch"], NOT_AN_INTEGER),
        (["k", "x", b"", "IDLETIME", -1, "nosuch"], BAD_IDLE),
        (["k", "x", b"", "FREQ", -1, "nosuch"], BAD_FREQUENCY),
        (["k", "x", b"", "FREQ", 256], BAD_FREQUENCY),
        (["k", "x", b""], BUSY),
        (["k", "x", b"", "ABSTTL", "freq", 3, "Freq", 255], BUSY),
        (["new", "x", b""], NOT_AN_INTEGER),
        (["k", "x", b"", "replace"], NOT_AN_INTEGER),
        (["new", -1, b""], BAD_TTL),
        (["new", -1, b"", "ABSTTL"], BAD_TTL),
        (["new", 2**63, HELLO], NOT_AN_INTEGER),
        (["new", 2**63 - 1, HELLO], b"-ERR invalid expire time in 'restore' command\r\n"),
        (["new", 0, b""], BAD_FOOTER),
        (["new", 1, HELLO[:-1] + b"x", "ABSTTL"], BAD_FOOTER),
        (["new", 0, A_LIST], BAD_FORMAT),
        (["new", 1, A_LIST, "ABSTTL"], BAD_FORMAT),
    ],
)
def test_what_is_wrong_is_said_in_the_order_of_redis(
    server: Server, args: list[Arg], reply: bytes
) -> None:
    server("SET", "k", "old")
    server.keyspace.effects.clear()
    assert server("RESTORE", *args) == reply
    assert server("GET", "k") == b"$3\r\nold\r\n"
    assert not server.keyspace.effects


@pytest.mark.parametrize(
    ("args", "left_ms"),
    [
        ([0, HELLO], -1),
        ([5000, HELLO], 5000),
        ([1_700_000_005_000, HELLO, "ABSTTL"], 5000),
        ([2**63 - 1, HELLO, "ABSTTL"], 2**63 - 1 - 1_700_000_000_000),
        ([0, HELLO, "ABSTTL"], -1),
        ([1_700_000_000_000, HELLO, "ABSTTL"], -2),
        ([1, HELLO, "ABSTTL"], -2),
    ],
)
def test_the_time_to_live_is_relative_or_a_moment(
    server: Server, args: list[Arg], left_ms: int
) -> None:
    assert server("RESTORE", "k", *args) == OK
    assert server("PTTL", "k") == b":%d\r\n" % left_ms
    server.check()


def test_replace_takes_the_place_of_anything_and_of_its_deadline(server: Server) -> None:
    server("SET", "k", "v", "EX", 100)
    server("MERGE", "s", '{"count": 1}')
    for key in ("k", "s"):
        assert server("RESTORE", key, 0, HELLO) == BUSY
        assert server("RESTORE", key, 0, HELLO, "REPLACE") == OK
        assert server("GET", key) == b"$5\r\nhello\r\n"
        assert server("PTTL", key) == b":-1\r\n"
    assert server("RESTORE", "k", 1, HELLO, "REPLACE", "ABSTTL") == OK
    assert server("EXISTS", "k") == b":0\r\n"
    server.check()


def test_a_key_that_has_expired_is_not_in_the_way(server: Server) -> None:
    server("SET", "k", "v", "PX", 5)
    server.advance(6)
    assert server("RESTORE", "k", 0, HELLO) == OK


def test_the_events_of_redis(server: Server) -> None:
    listener = server.open()
    server("CONFIG", "SET", "notify-keyspace-events", "Eg")
    server("PSUBSCRIBE", "*", by=listener)
    messages(listener)
    steps: list[tuple[list[Arg], bytes | None]] = [
        ([0, HELLO], b"restore"),
        ([5000, HELLO, "REPLACE"], b"restore"),
        ([1, HELLO, "REPLACE", "ABSTTL"], b"del"),
        ([1, HELLO, "REPLACE", "ABSTTL"], None),
    ]
    for args, event in steps:
        assert server("RESTORE", "k", *args) == OK
        sent = messages(listener)
        assert sent.count(b"pmessage") == (event is not None)
        assert event is None or b"__keyevent@0__:%b\r\n" % event in sent


def test_it_cancels_the_exec_of_who_watches(server: Server) -> None:
    other = server.open()
    server("WATCH", "k")
    assert server("RESTORE", "k", 0, HELLO, by=other) == OK
    server("MULTI")
    server("PING")
    assert server("EXEC") == b"*-1\r\n"


def test_an_idle_time_is_remembered_where_use_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvserver.memory.time.monotonic", lambda: 1000.0)
    server = Server(maxmemory_bytes=1 << 40, maxmemory_policy="allkeys-lru")
    assert server("RESTORE", "k", 0, HELLO, "IDLETIME", 5000) == OK
    assert server.engine.memory.idle_s(b"k") == 5000
    assert server("RESTORE", "k", 0, HELLO, "REPLACE") == OK
    assert server.engine.memory.idle_s(b"k") == 0


def test_restore_is_refused_where_memory_is_full_and_dump_is_not() -> None:
    server = Server(maxmemory_bytes=1 << 40)
    server("SET", "k", "v")
    server.engine.config.maxmemory_bytes = 1
    assert server("RESTORE", "new", 0, HELLO).startswith(b"-OOM ")
    assert server("DUMP", "k").startswith(b"$")


def test_a_limit_on_the_length_of_strings_holds_for_compressed_ones() -> None:
    server = Server(max_bulk_bytes=1000)
    packed = b"\0\xc3\x08%b\x00a\xe0\xff\x00\xe0\xff\x00"
    assert server("RESTORE", "k", 0, closed(packed % b"\x42\x11")) == OK
    server.engine.config.max_bulk_bytes = 528
    assert server("RESTORE", "l", 0, closed(packed % b"\x42\x11")) == BAD_FORMAT


# ------------------------------------------------------------------------------------- in slices


def test_no_step_takes_long(server: Server) -> None:
    payload = dumped(LONG)
    pieces = b"\x00a" * 500_000 + b"\xe0\xff\x00" * 50_000
    length = 500_000 + 264 * 50_000
    lengths = b"\x80%b\x80%b" % (len(pieces).to_bytes(4, "big"), length.to_bytes(4, "big"))
    compressed = closed(b"\0\xc3" + lengths + pieces)
    server("SET", "long", LONG)
    commands: list[list[Arg]] = [
        ["DUMP", "long"],
        ["RESTORE", "a", 0, payload],
        ["RESTORE", "b", 0, compressed],
    ]
    for args in commands:
        steps_ms = []
        began = time.thread_time()
        begin(server.first, *args)
        reply = None
        while reply is None:
            steps_ms.append((time.thread_time() - began) * 1000)
            began = time.thread_time()
            reply = server.first.advance(1)
        steps_ms.append((time.thread_time() - began) * 1000)
        assert len(steps_ms) > 40
        assert sorted(steps_ms)[len(steps_ms) // 2] < 2
        assert (reply if isinstance(reply, bytes) else reply[0])[:1] in {b"$", b"+"}
    assert server.keyspace.data[b"a"] == LONG
    assert server.keyspace.data[b"b"] == b"a" * length


def test_a_dump_is_of_the_value_that_was_there_when_it_began(server: Server) -> None:
    other = server.open()
    server("SET", "k", LONG)
    begin(server.first, "DUMP", "k")
    assert server("SET", "k", "other", by=other) == OK
    assert finish(server.first).partition(b"\r\n")[2] == dumped(LONG) + b"\r\n"


def test_a_key_that_somebody_makes_meanwhile_is_not_overwritten(server: Server) -> None:
    other = server.open()
    payload = dumped(LONG)
    for options, reply in (([], BUSY), (["REPLACE"], OK)):
        server("DEL", "k")
        begin(server.first, "RESTORE", "k", 0, payload, *options)
        assert server("EXISTS", "k", by=other) == b":0\r\n"
        server("SET", "k", "theirs", by=other)
        assert finish(server.first) == reply
        assert server.keyspace.data[b"k"] == (LONG if options else b"theirs")
    server.check()


def test_a_time_to_live_counts_from_the_end(server: Server) -> None:
    payload = dumped(LONG)
    begin(server.first, "RESTORE", "k", 5000, payload)
    server.advance(3000)
    assert finish(server.first) == OK
    assert server("PTTL", "k") == b":5000\r\n"
    moment_ms = server.clock.now_ms + 100
    begin(server.first, "RESTORE", "k", moment_ms, payload, "ABSTTL", "REPLACE")
    server.advance(100)
    assert finish(server.first) == OK
    assert server("EXISTS", "k") == b":0\r\n"
    server.check()


def test_what_is_wrong_at_the_end_of_a_long_payload_changes_nothing(server: Server) -> None:
    payload = dumped(LONG)[:-1] + b"?"
    begin(server.first, "RESTORE", "k", 0, payload)
    assert finish(server.first) == BAD_FOOTER
    assert server("EXISTS", "k") == b":0\r\n"
    assert server.engine.stats.failed_calls["restore"] == 1


def test_inside_a_transaction_it_runs_at_once(server: Server) -> None:
    server("MULTI")
    server("RESTORE", "k", 0, dumped(LONG))
    server("STRLEN", "k")
    assert server("EXEC") == b"*2\r\n+OK\r\n:%d\r\n" % len(LONG)


# ------------------------------------------------------------------------------ their description


def test_command_tells_of_them_what_redis_tells(server: Server) -> None:
    commands = server.engine.registry.commands
    assert commands["dump"].flags == {"readonly"}
    assert commands["restore"].flags == {"write", "denyoom"}
    assert {commands[name].group for name in ("dump", "restore")} == {KEYS_TABLE.group}
    info = server("COMMAND", "INFO", "dump", "restore")
    assert b"$4\r\ndump\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n" in info
    assert b"$7\r\nrestore\r\n:-4\r\n*2\r\n+write\r\n+denyoom\r\n:1\r\n:1\r\n:1\r\n" in info
    assert server("COMMAND", "GETKEYS", "RESTORE", "k", 0, "x") == b"*1\r\n$1\r\nk\r\n"
