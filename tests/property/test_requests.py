"""Requests: all ways to read them agree, however the bytes are cut; garbage only errs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver import requests, strict
from kvserver.config import Config
from kvserver.engine import Engine
from kvserver.inline import split_inline
from kvserver.memory import MeasuredData, entry_bytes
from kvserver.quick import JOINED_BYTES, serve, serve_alike
from kvserver.requests import RequestReader

CONFIG = Config()
Outcome = tuple[list[list[bytes]], str | None]
Run = Sequence[Sequence[bytes]]


@pytest.fixture(autouse=True, scope="module")
def some_arguments_are_large() -> Iterator[None]:
    """Those of more than 100 bytes, which are put together in another place."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(strict, "_LARGE_BULK_BYTES", 100)
        yield


def frame(command: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in command)


def read(pieces: list[bytes]) -> Outcome:
    """What comes out of the reader as the server uses it."""
    reader = RequestReader(CONFIG)
    commands: list[list[bytes]] = []
    for piece in pieces:
        if piece and reader.error is None:
            commands += reader.feed(piece)
    return commands, reader.error


def read_strictly(data: bytes) -> Outcome:
    """What the reference says: an unauthenticated client's way, without its limits."""
    config = Config(max_unauthenticated_args=10**6, max_unauthenticated_bulk_bytes=10**9)
    reader = RequestReader(config, limited=True)
    return (reader.feed(data) if data else []), reader.error


arguments = st.binary(max_size=12) | st.sampled_from(
    [
        b"", b"\0", b"\r\n", b"$3\r\nGET", b"*1\r\n", b"+OK", b":5", b"\r\n+x\r\n", b"=a",
        b"a" * 200, b"v" * 5000, b"\r\n*10000\r\n" * 300,
    ]
)  # fmt: skip
commands = st.lists(arguments, min_size=1, max_size=5)
pipelines = st.lists(commands, max_size=6)
fragments = st.sampled_from(
    [
        b"*1\r\n", b"*2\r\n", b"*0\r\n", b"*-1\r\n", b"*-10\r\n", b"$-1\r\n", b"*1000000000\r\n",
        b"*01\r\n", b"$03\r\nGET\r\n", b"$+3\r\nGET\r\n", b"$3\r\nGET\r\n", b"$4\r\nPING\r\n",
        b"+PING\r\n", b":5\r\n", b",1.5\r\n", b"#t\r\n", b"_\r\n", b"(12\r\n", b"=7\r\ntxt:foo\r\n",
        b"%1\r\n", b"~1\r\n", b">1\r\n", b"-ERR\r\n", b"!3\r\nabc\r\n", b"|1\r\n", b"PING\r\n",
        b"set a 'b c'\r\n", b"\"", b"\r\n", b"\n", b"\r", b"\0", b"$", b"*", b"x", b"$3\r\nab",
        b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"*1_0\r\n", b"* 1\r\n",
    ]
)  # fmt: skip
garbage = st.lists(
    fragments
    | st.binary(max_size=5)
    | st.just(b"*2\r\n$3\r\nGET\r\n$3000\r\n%b\r\n" % (b"k" * 3000)),
    max_size=8,
).map(b"".join)


@given(pipelines, st.data())
def test_commands_come_out_as_they_went_in_however_the_bytes_are_cut(
    sent: list[list[bytes]], data: st.DataObject
) -> None:
    stream = b"".join(map(frame, sent))
    wanted = (sent, None)
    assert read([stream]) == wanted
    assert read([stream[i : i + 1] for i in range(len(stream))]) == wanted
    cut = data.draw(st.integers(0, len(stream)))
    assert read([stream[:cut], stream[cut:]]) == wanted
    tail = frame([b"GET", b"tail"])
    part = data.draw(st.integers(0, len(tail) - 1))
    assert read([stream + tail[:part], tail[part:]]) == ([*sent, [b"GET", b"tail"]], None)


@given(pipelines, pipelines, st.data())
def test_what_one_client_has_begun_is_nothing_to_another(
    sent: list[list[bytes]], others: list[list[bytes]], data: st.DataObject
) -> None:
    stream, other = (b"".join(map(frame, each)) for each in (sent, others))
    cut = data.draw(st.integers(0, len(stream)))
    one = RequestReader(CONFIG)
    commands = one.feed(stream[:cut]) if cut else []
    assert read([other] if other else []) == (others, None)
    commands += one.feed(stream[cut:]) if cut < len(stream) else []
    assert commands == sent


@pytest.mark.parametrize("command", [[b"\0"], [b"0" * 16], [b"ECHO", b"\0"]])
def test_no_request_passes_for_the_mark_that_we_put_behind_a_chunk(command: list[bytes]) -> None:
    rest = frame([b"SET", b"key", b"v" * 300])
    one, other = RequestReader(CONFIG), RequestReader(CONFIG)
    assert one.feed(frame(command) + rest[:-100]) == [command]
    assert other.feed(frame([b"GET", b"secret"])) == [[b"GET", b"secret"]]
    assert one.feed(rest[-100:]) == [[b"SET", b"key", b"v" * 300]]


def test_a_parser_that_failed_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def feed(self, _data: bytes) -> None:
            raise MemoryError

    monkeypatch.setattr(requests, "_reader", Failing())
    stream = frame([b"GET", b"key"])
    with pytest.raises(MemoryError):
        RequestReader(CONFIG).feed(stream)
    assert RequestReader(CONFIG).feed(stream) == [[b"GET", b"key"]]


@given(garbage, st.data())
def test_garbage_gives_commands_then_at_most_one_protocol_error(
    stream: bytes, data: st.DataObject
) -> None:
    wanted = read_strictly(stream)
    assert wanted[1] is None or wanted[1].startswith("Protocol error: ")
    assert all(command and {type(arg) for arg in command} == {bytes} for command in wanted[0])
    assert read([stream]) == wanted
    assert read([stream[i : i + 1] for i in range(len(stream))]) == wanted
    cut = data.draw(st.integers(0, len(stream)))
    assert read([stream[:cut], stream[cut:]]) == wanted


plain_commands = st.one_of(
    st.tuples(st.sampled_from([b"GET", b"get"]), st.sampled_from([b"a", b"bb", b"s", b"gone"])),
    st.tuples(st.sampled_from([b"SET", b"set"]), st.sampled_from([b"a", b"bb"]), arguments),
    st.tuples(st.sampled_from([b"PING", b"INCR", b"MGET"]), st.sampled_from([b"a", b"n"])),
).map(list)
usual_key = st.sampled_from([b"a", b"bb", b"m", b"n", b"x", b"y"])
any_key = usual_key | st.sampled_from([b"s", b"t"])
numbers = st.integers(-2, 12).map(str).map(str.encode)
no_numbers = st.sampled_from(
    [b"9" * 18, b"9223372036854775807", b"01", b"1_0", b" 1", b"+1", b"-0", b"", b"1.0", b"\r\n"]
)
lifetime = st.sampled_from([b"1", b"100", b"101", b"3000"])
any_lifetime = lifetime | st.sampled_from([b"0", b"-1", b"x", b"9223372036854775807"])
any_unit = st.sampled_from([b"EX", b"PX", b"ex", b"Px", b"EXAT", b"XX"])


def alike(name: bytes, *arguments: st.SearchStrategy[bytes]) -> st.SearchStrategy[Run]:
    """A run of four to six such commands, perhaps with other keys."""
    return st.lists(
        st.tuples(st.just(name), *arguments), min_size=4, max_size=6, unique_by=lambda c: c[1]
    ) | st.tuples(st.just(name), *arguments).map(lambda command: [command] * 5)


columnwise = st.one_of(
    *[alike(name, any_key) for name in (b"EXISTS", b"DEL", b"unlink")],
    alike(b"INCRBY", usual_key, numbers),
    alike(b"INCRBY", any_key, numbers | no_numbers),
    alike(b"EXPIRE", any_key, lifetime),
    alike(b"expire", any_key, any_lifetime),
    alike(b"SET", usual_key, numbers | no_numbers),
    *[alike(name, keys) for name in (b"INCR", b"incr", b"DECR") for keys in (usual_key, any_key)],
    alike(b"SETEX", any_key, lifetime, arguments),
    alike(b"psetex", any_key, lifetime, numbers),
    alike(b"SETEX", any_key, any_lifetime, numbers),
    alike(b"SET", any_key, arguments, st.just(b"EX"), lifetime),
    alike(b"SET", any_key, numbers, st.just(b"px"), lifetime),
    alike(b"set", any_key, numbers, any_unit, any_lifetime),
)
even = st.binary(min_size=3, max_size=3) | st.sampled_from([b"\r\n*", b"$3\r", b"key", b"val"])
large = st.binary(min_size=4, max_size=4).map(b"\r\n$300\r\n".join([b"x" * 146] * 2).__add__)
runs = st.one_of(
    st.lists(st.tuples(st.just(b"SET"), even, large), min_size=2, max_size=4),
    st.lists(st.tuples(st.just(b"get"), even), min_size=2, max_size=8),
    st.lists(st.tuples(st.just(b"MSET"), even, even, even, even), min_size=1, max_size=3),
    st.lists(st.tuples(st.just(b"MSET"), even, large, even, large), min_size=1, max_size=3),
    st.lists(st.tuples(st.just(b"MSET"), even, even), min_size=1, max_size=3),
    st.lists(st.tuples(st.just(b"SET"), even, even), min_size=2, max_size=8),
    st.lists(plain_commands, min_size=1, max_size=5),
    st.lists(st.sampled_from([(b"PING",)] * 19 + [(b"PONG",)]), min_size=1, max_size=9),
    st.lists(
        st.tuples(st.just(b"GET"), st.sampled_from([b"a", b"bb", b"s", b"x", b"t"])), max_size=6
    ),
    st.lists(
        st.tuples(st.just(b"SET"), st.sampled_from([b"a", b"t", b"s"]), arguments), max_size=6
    ),
    columnwise,
)


rooms = st.one_of(st.none(), st.integers(0, 3000), st.just(1 << 30))
"""Bytes until a limit on memory is reached, if there is one."""


def two_engines(room: int | None, *, overdue: bool = False) -> list[Engine]:
    """Two of the same content: a string, a summary, a key with a deadline, passed or not."""
    engines = [Engine(), Engine()]
    for engine in engines:
        engine.keyspace.clock = lambda: 5000
        engine.keyspace.tick()
        for line in (b"SET a 1", b'MERGE s {"count":2}', b"SET t x PX 100000"):
            engine.session().run(line.split())
        if room is not None:
            engine.config.maxmemory_bytes = 1 << 40
            engine.config.maxmemory_policy = "allkeys-lru" if room == 1 << 30 else "noeviction"
            engine.memory.apply()
            engine.config.maxmemory_bytes = engine.memory.used_bytes() + room
        if overdue:
            engine.keyspace.clock = lambda: 5000 + 100_000
            engine.keyspace.tick()
    return engines


def the_same_is_known_of_memory(one: Engine, other: Engine) -> None:
    """Assert that the sums are equal and right, and that the same keys were used."""
    data, expected = one.keyspace.data, other.keyspace.data
    if isinstance(data, MeasuredData):
        assert isinstance(expected, MeasuredData)
        assert data.stored_bytes == expected.stored_bytes
        assert data.stored_bytes == sum(entry_bytes(key, value) for key, value in data.items())
        assert (data.used_at or {}).keys() == (expected.used_at or {}).keys()


def note_in(told: list[tuple[bytes, str]]) -> Callable[[bytes, str], None]:
    return lambda key, event: told.append((key, event))


@given(st.lists(runs, max_size=4), rooms, st.booleans(), st.booleans(), st.sampled_from([2, 3]))
def test_the_quick_way_answers_as_the_general_one(
    chunks: list[Run], room: int | None, overdue: bool, heard: bool, protocol: int
) -> None:
    engines = two_engines(room, overdue=overdue)
    events: list[list[tuple[bytes, str]]] = [[], []]
    if heard:
        for engine, told in zip(engines, events, strict=True):
            engine.keyspace.listen(note_in(told))
    quick, general = engines[0].session(), engines[1].session()
    quick.use_protocol(protocol)
    general.use_protocol(protocol)
    for chunk in chunks:
        stream = b"".join(frame(list(command)) for command in chunk)
        if not stream:
            continue
        if serve(quick, stream, quick.engine.stats.calls) is None:
            quick.out += [quick.run(command) for command in read([stream])[0]]
        general.out += [general.run(command) for command in read_strictly(stream)[0]]
        assert quick.take() == general.take()
    assert events[0] == events[1]
    the_same_is_known_of_memory(*engines)
    quick.keyspace.check()
    assert list(quick.keyspace.dump()) == list(general.keyspace.dump())
    one, other = quick.keyspace, general.keyspace
    assert (one.hits, one.misses, one.expired) == (other.hits, other.misses, other.expired)
    again = Engine().keyspace
    again.apply_many(quick.keyspace.effects)
    assert list(again.dump()) == list(quick.keyspace.dump())


@given(
    st.lists(st.sampled_from([b"a", b"bb", b"s", b"t", b"x", b"y"]), min_size=1),
    st.booleans(),
    rooms,
    st.sampled_from([2, 3]),
)
def test_mget_answers_what_get_answers_of_each_key(
    keys: list[bytes], overdue: bool, room: int | None, protocol: int
) -> None:
    at_once, one_by_one = two_engines(room, overdue=overdue)
    together, alone = at_once.session(), one_by_one.session()
    for session in (together, alone):
        session.use_protocol(protocol)
        session.run([b"SET", b"bb", b"long" * 999])
    reply = together.run([b"MGET", *keys])
    answers = [alone.run([b"GET", key]) for key in keys]
    assert reply == b"*%d\r\n" % len(keys) + b"".join(answers)
    the_same_is_known_of_memory(at_once, one_by_one)
    one, other = at_once.keyspace, one_by_one.keyspace
    assert (one.hits, one.misses, one.expired) == (other.hits, other.misses, other.expired)


one_byte = st.sampled_from([b"a", b"n", b"s", b"t", b"x", b"y", b"z"])
same_length = st.one_of(
    st.lists(st.tuples(st.just(b"GET"), st.sampled_from([b"a", b"s", b"t", b"x"])), min_size=1),
    st.lists(st.tuples(st.just(b"set"), even, even), min_size=1),
    st.lists(st.tuples(st.just(b"SET"), even, large), min_size=1),
    st.lists(st.tuples(st.just(b"mset"), even, large, even, large), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from([b"SET", b"GET", b"DEL"]), even), min_size=1),
    st.lists(
        st.sampled_from([(b"MSET", b"a", b"1", b"b", b"2"), (b"MSET", b"a", b"1", b"b", b"3")])
    ),
    st.lists(
        st.tuples(st.just(b"mset"), even, even)
        | st.tuples(st.just(b"mset"), *[st.sampled_from([b"key", b"val"])] * 4),
    ),
    *[
        st.lists(st.tuples(st.just(name), one_byte), min_size=1)
        for name in (b"INCR", b"decr", b"DEL", b"EXISTS")
    ],
    st.lists(st.tuples(st.just(b"INCRBY"), one_byte, st.sampled_from([b"1", b"7", b"x"]))),
    st.lists(st.tuples(st.just(b"SETEX"), one_byte, st.sampled_from([b"100", b"070"]), even)),
    st.lists(st.tuples(st.just(b"set"), even, even, st.just(b"EX"), st.just(b"9"))),
)


@given(
    st.lists(same_length, max_size=4),
    st.integers(1, 3),
    rooms,
    st.booleans(),
    st.sampled_from([0, JOINED_BYTES]),
)
def test_what_many_clients_send_at_once_is_answered_as_if_they_came_one_by_one(
    turns: list[list[list[bytes]]], each: int, room: int | None, overdue: bool, joined_bytes: int
) -> None:
    engines = two_engines(room, overdue=overdue)
    for commands in turns:
        together, alone = ([engine.session() for _ in commands] for engine in engines)
        for session in [*together[1::2], *alone[1::2]]:
            session.use_protocol(3)
        chunks = [frame(list(command)) * each for command in commands]
        if not chunks:
            continue
        calls: dict[bytes, int] = {}
        with mock.patch("kvserver.quick.JOINED_BYTES", joined_bytes):
            name = serve_alike(together, chunks, calls)
        if name is not None:
            assert sum(calls.values()) == each * len(chunks)
        else:
            assert not calls
            for session, command in zip(together, commands, strict=True):
                session.out += [session.run(list(command)) for _ in range(each)]
        for session, command in zip(alone, commands, strict=True):
            session.out += [session.run(list(command)) for _ in range(each)]
        assert [session.take() for session in together] == [session.take() for session in alone]
    the_same_is_known_of_memory(*engines)
    one, other = (engine.keyspace for engine in engines)
    one.check()
    assert list(one.dump()) == list(other.dump())
    assert (one.hits, one.misses, one.expired) == (other.hits, other.misses, other.expired)
    again = Engine().keyspace
    again.apply_many(one.effects)
    assert list(again.dump()) == list(one.dump())


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"INCR k%d", b":1\r\n"),
        (b"INCRBY k%d 7", b":7\r\n"),
        (b"EXISTS k%d", b":0\r\n"),
        (b"SET k%d v EX 10", b"+OK\r\n"),
        (b"GET k%d", b"$-1\r\n"),
    ],
)
def test_one_command_each_of_many_clients_is_one_run(line: bytes, wanted: bytes) -> None:
    engine = Engine()
    sessions = [engine.session() for _ in range(3)]
    chunks = [frame((line % n).split()) for n in range(3)]
    assert serve_alike(sessions, chunks, {}) == line.split()[0]
    assert [session.take() for session in sessions] == [wanted] * 3


@given(
    st.lists(st.tuples(st.just(b"EXISTS"), st.sampled_from([b"a", b"$1", b"x" * 21])), min_size=1)
    | st.lists(
        st.sampled_from(
            [(b"SET", b"*5", b"SET", b"EX", b"9"), (b"SET", b"k", b"v" * 30, b"EX", b"9")]
        ),
        min_size=1,
    ),
    st.integers(1, 6),
)
def test_no_client_is_answered_for_what_another_one_sent(
    run: list[tuple[bytes, ...]], clients: int
) -> None:
    stream = b"".join(frame(list(command)) for command in run)
    size, rest = divmod(len(stream), clients)
    if rest:
        return
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    engine = Engine()
    if serve_alike([engine.session() for _ in chunks], chunks, {}) is not None:
        assert [len(read_strictly(chunk)[0]) for chunk in chunks] == [1] * clients


@given(runs.filter(lambda run: len(run) > 1), st.data())
def test_a_run_with_one_wrong_byte_is_read_as_the_reference_reads_it(
    run: list[list[bytes]], data: st.DataObject
) -> None:
    whole = b"".join(frame(list(command)) for command in run)
    session = Engine().session()
    serve(session, whole, {})  # its shape is known now
    for _ in range(4):
        at = data.draw(st.integers(0, len(whole) - 1))
        byte = data.draw(st.sampled_from([b"\r", b"\n", b"$", b"*", b"0", b"1", b"4", b"s", b""]))
        stream = whole[:at] + byte + whole[at + 1 :]
        commands, error = read_strictly(stream)
        if serve(session, stream, {}) is not None:
            assert error is None
            assert b"".join(map(frame, commands)) == stream


@pytest.mark.parametrize("count", [1, 2, 13])
def test_pings_without_an_array_are_answered_quickly(count: int) -> None:
    session = Engine().session()
    calls: dict[bytes, int] = {}
    assert serve(session, b"PING\r\n" * count, calls) == b"PING"
    assert session.take() == b"+PONG\r\n" * count
    assert calls == {b"PING": count}


@given(garbage)
def test_the_quick_way_takes_nothing_that_is_not_plain(stream: bytes) -> None:
    session = Engine().session()
    if stream and serve(session, stream, {}) is not None:
        commands, error = read_strictly(stream)
        assert error is None
        pings = b"PING\r\n" * len(commands)
        assert stream in {b"".join(map(frame, commands)), pings}


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"*3000000000\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*1_0\r\n", "invalid multibulk length"),
        (b"*blabla\r\n", "invalid multibulk length"),
        (b"*1\r\n$-10\r\n", "invalid bulk length"),
        (b"*1\r\n$2000000000\r\n", "invalid bulk length"),
        (b"*1\r\n$blabla\r\n", "invalid bulk length"),
        (b"*1\r\n$+5\r\n", "invalid bulk length"),
        (b"*1\r\n$05\r\n", "invalid bulk length"),
        (b"*1\r\nfoo\r\n", "expected '$', got 'f'"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "expected '$', got 'f'"),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
        (b"set a 'b\r\n", "unbalanced quotes in request"),
        (b"x" * 65537, "too big inline request"),
        (b"*" + b"1" * 65537, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 65537, "too big bulk count string"),
    ],
)
def test_broken_frames_are_refused_in_the_words_of_redis(stream: bytes, text: str) -> None:
    commands, error = read([stream])
    assert error == f"Protocol error: {text}"
    assert not commands


def test_nothing_is_allocated_for_a_declared_length() -> None:
    readers = [RequestReader(CONFIG) for _ in range(100)]
    tracemalloc.start()
    try:
        for reader in readers:
            for piece in (b"*1000000\r\n$3\r\n", b"SET\r\n", b"$536870912\r\n", b"half"):
                reader.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
    assert all(reader.error is None for reader in readers)


def test_before_authentication_only_small_requests_are_read() -> None:
    reader = RequestReader(CONFIG, limited=True)
    assert reader.feed(frame([b"AUTH", b"secret"])) == [[b"AUTH", b"secret"]]
    reader.feed(b"*11\r\n")
    assert reader.error == "Protocol error: unauthenticated multibulk length"
    reader = RequestReader(CONFIG, limited=True)
    reader.feed(b"*1\r\n$16385\r\n")
    assert reader.error == "Protocol error: unauthenticated bulk length"


@pytest.mark.parametrize(
    ("line", "args"),
    [
        (b"set a b", [b"set", b"a", b"b"]),
        (b"  set  \"a b\\n\\x41\"  'it\\'s' ", [b"set", b"a b\nA", b"it's"]),
        (b'set ""', [b"set", b""]),
        (b"", []),
        (b'set "a"b', None),
        (b'set "a', None),
        (b"set 'a", None),
    ],
)
def test_inline_requests_are_split_as_a_person_means_them(
    line: bytes, args: list[bytes] | None
) -> None:
    assert split_inline(line) == args


@given(
    st.text(" \t\x0b\x0c\r\x00\x1c\x85ab\\", max_size=20).map(lambda text: text.encode("latin-1"))
)
def test_a_line_without_quotes_is_split_at_what_is_space_to_redis(line: bytes) -> None:
    words, word = [], b""
    for byte in line.split(b"\0")[0] + b" ":
        if byte in b" \t\n\r\x0b\x0c":
            words += [word] * bool(word)
            word = b""
        else:
            word += bytes([byte])
    assert split_inline(line) == words


@given(st.integers(101, 300), st.data())
def test_what_has_come_of_a_large_argument_counts_as_held(size: int, data: st.DataObject) -> None:
    reader = RequestReader(CONFIG)
    wire = frame([b"SET", b"key", b"v" * size])
    begin = wire.index(b"v")
    cuts = data.draw(st.lists(st.integers(begin, len(wire) - 1), min_size=1, max_size=5))
    come = 0
    for cut in sorted(cuts):
        if cut > come:
            assert reader.feed(wire[come:cut]) == []
        come = max(come, cut)
        assert reader.held_bytes >= come - begin
    assert reader.feed(wire[come:]) == [[b"SET", b"key", b"v" * size]]
    assert reader.held_bytes == 0


def test_a_large_request_in_many_pieces_is_read_in_linear_time() -> None:
    stream = frame([b"MSET", *[b"k%d" % n for n in range(60_000)]])
    commands, error = read([stream[i : i + 4096] for i in range(0, len(stream), 4096)])
    assert error is None
    assert [len(command) for command in commands] == [60_001]
    stream = frame([b"GET", b"key"]) * 60_000
    commands, error = read([stream[i : i + 4096] for i in range(0, len(stream), 4096)])
    assert error is None
    assert commands == [[b"GET", b"key"]] * 60_000
