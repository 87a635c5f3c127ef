"""CLIENT TRACKING: who reads a key is told once when it changes, whatever changes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver import resp
from kvserver.isolation import LONG
from kvserver.session import Session
from tests.kvserver.commands.support import Arg, Server


def tracker(server: Server, *options: Arg) -> Session:
    """Open a session that speaks RESP3 and tracks."""
    session = server.open()
    server("HELLO", 3, by=session)
    assert server("CLIENT", "TRACKING", "ON", *options, by=session) == b"+OK\r\n"
    return session


def told(server: Server, session: Session) -> list[bytes]:
    """Return what a session was told, at the end of as many turns as that takes."""
    for _ in range(100):
        server.engine.tracking.tell()
    server.check()
    return resp.split_replies(session.take())


def of(*keys: bytes) -> bytes:
    """The message that these keys are no longer what they were."""
    return resp.push(3, [resp.bulk(b"invalidate"), resp.bulks(keys)])


def named(message: bytes) -> list[bytes]:
    """Return the keys that a message names."""
    return message.split(b"\r\n")[5::2]


ALL = b">2\r\n$10\r\ninvalidate\r\n_\r\n"


@pytest.fixture
def server() -> Server:
    return Server()


def test_who_read_a_key_is_told_once(server: Server) -> None:
    reader, other = tracker(server), tracker(server)
    server("GET", "k", by=reader)
    server("SET", "k", 1)
    server("SET", "k", 2)
    assert told(server, reader) == [of(b"k")]
    assert told(server, other) == []
    server("SET", "k", 3)
    assert told(server, reader) == []


def test_changes_of_a_turn_are_one_message(server: Server) -> None:
    reader = tracker(server)
    server("MGET", "a", "b", "c", by=reader)
    server("SET", "b", 1)
    server("SET", "a", 1)
    assert told(server, reader) == [of(b"b", b"a")]


def test_a_key_that_expires_by_itself_is_told(server: Server) -> None:
    reader = tracker(server)
    server("SET", "k", 1, "PX", 100)
    server("GET", "k", by=reader)
    server.advance(100)
    server.keyspace.expire_due(10)
    assert told(server, reader) == [of(b"k")]


def test_a_key_that_is_found_expired_is_told_to_who_found_it(server: Server) -> None:
    reader = tracker(server)
    server("SET", "k", 1, "PX", 100)
    server("GET", "k", by=reader)
    server.advance(100)
    assert server("GET", "k", by=reader) == b"_\r\n"
    assert told(server, reader) == [of(b"k")]


def test_a_key_that_is_evicted_is_told(server: Server) -> None:
    server("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    reader = tracker(server)
    server("SET", "k", "x" * 100)
    server("GET", "k", by=reader)
    server("CONFIG", "SET", "maxmemory", 1)
    server.engine.memory.make_room()
    assert server("EXISTS", "k") == b":0\r\n"
    assert told(server, reader) == [of(b"k")]


def test_flushing_forgets_everything(server: Server) -> None:
    reader, by_prefix = tracker(server), tracker(server, "BCAST", "PREFIX", "z")
    server("GET", "k", by=reader)
    server("SET", "k", 1)
    server("FLUSHALL")
    assert told(server, reader) == told(server, by_prefix) == [ALL]
    server("SET", "k", 1)
    assert told(server, reader) == []


def test_what_it_changes_itself_it_is_told_or_not(server: Server) -> None:
    for options, expected in (([], [of(b"k")]), (["NOLOOP"], [])):
        for broadcast in ([], ["BCAST"]):
            reader = tracker(server, *options, *broadcast)
            server("GET", "k", by=reader)
            server("SET", "k", 1, by=reader)
            assert told(server, reader) == expected
            server("GET", "k", by=reader)
            server("SET", "k", 1)
            assert told(server, reader) == [of(b"k")]
            server.engine.close(reader)


def test_in_a_transaction_what_goes_in_parts_is_not_the_end_of_its_own_changes(
    server: Server,
) -> None:
    server("SET", "large", b"x" * 500_000)
    reader = tracker(server, "NOLOOP")
    server("GET", "k", by=reader)
    for command in (["MULTI"], ["GET", "large"], ["SET", "k", 1], ["EXEC"]):
        server(*command, by=reader)
    assert told(server, reader) == []


def test_prefixes(server: Server) -> None:
    listener = tracker(server, "BCAST", "PREFIX", "a:", "PREFIX", "b:")
    server("MSET", "a:1", 1, "c:1", 1, "b:1", 1, "a", 1)
    assert told(server, listener) == [of(b"a:1", b"b:1")]
    server("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "c:", by=listener)
    server("DEL", "c:1")
    assert told(server, listener) == [of(b"c:1")]
    server("CLIENT", "TRACKING", "OFF", by=listener)
    server("SET", "a:1", 2)
    assert told(server, listener) == []


@given(st.lists(st.text("ab", max_size=4), max_size=6), st.integers(0, 6))
def test_prefixes_that_overlap_are_refused_by_the_first_of_them(drawn: list[str], at: int) -> None:
    server = Server()
    held, more = [p for p in drawn[:at] if p.startswith("a")][:1], drawn[at:]
    session = tracker(server, "BCAST", "PREFIX", "nothing")
    if held:
        server("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", held[0], by=session)
    said = server(
        "CLIENT", "TRACKING", "ON", "BCAST",
        *[word for prefix in [*more, "more"] for word in ("PREFIX", prefix)], by=session,
    )  # fmt: skip

    def overlap(one: str, other: str) -> bool:
        return one.startswith(other) or other.startswith(one)

    expected = "+OK"
    for number, prefix in enumerate([*more, "more"]):
        for others, kind in (
            (sorted(["nothing", *held]), "an existing"),
            ([*more, "more"][number + 1 :], "another provided"),
        ):
            for other in others:
                if expected == "+OK" and overlap(prefix, other):
                    expected = (
                        f"-ERR Prefix '{prefix}' overlaps with {kind} prefix '{other}'. "
                        "Prefixes for a single client must not overlap."
                    )
    assert said.decode() == expected + "\r\n"
    server.check()


def test_prefixes_are_bounded() -> None:
    server = Server(max_subscriptions=3)
    listener = tracker(server, "BCAST", "PREFIX", "a", "PREFIX", "b")
    more = ["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "c", "PREFIX", "d"]
    assert server(*more, by=listener) == b"-ERR too many prefixes\r\n"
    assert server(*more[:-2], by=listener) == b"+OK\r\n"


def test_what_was_read_before_a_broadcast_began_is_not_told(server: Server) -> None:
    reader = tracker(server)
    tracker(server)  # as long as anybody tracks, what was read is remembered
    server("GET", "k", by=reader)
    server("CLIENT", "TRACKING", "OFF", by=reader)
    server("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a", by=reader)
    server("SET", "k", 1)
    assert told(server, reader) == []


def test_in_a_transaction_what_is_read_is_remembered(server: Server) -> None:
    reader = tracker(server)
    for command in (["MULTI"], ["GET", "a"], ["SET", "b", 1], ["MGET", "b", "c"], ["EXEC"]):
        server(*command, by=reader)
    server("MSET", "a", 1, "b", 1, "c", 1, "d", 1)
    assert told(server, reader) == [of(b"a", b"b", b"c")]


def test_opting_in_is_for_one_command_or_transaction(server: Server) -> None:
    reader = tracker(server, "OPTIN")
    server("GET", "a", by=reader)
    server("CLIENT", "CACHING", "YES", by=reader)
    server("GET", "b", by=reader)
    server("GET", "c", by=reader)
    server("CLIENT", "CACHING", "YES", by=reader)
    for command in (["MULTI"], ["GET", "d"], ["GET", "e"], ["EXEC"], ["GET", "f"]):
        server(*command, by=reader)
    server("MSET", *[part for key in "abcdef" for part in (key, 1)])
    assert told(server, reader) == [of(b"b", b"d", b"e")]


def test_opting_out_is_for_one_command(server: Server) -> None:
    reader = tracker(server, "OPTOUT")
    server("CLIENT", "CACHING", "NO", by=reader)
    server("GET", "a", by=reader)
    server("GET", "b", by=reader)
    server("MSET", "a", 1, "b", 1)
    assert told(server, reader) == [of(b"b")]


def test_a_subscriber_with_resp2_hears_it_for_another(server: Server) -> None:
    listener, reader = server.open(), server.open()
    server("CLIENT", "TRACKING", "ON", "REDIRECT", listener.id, by=reader)
    server("GET", "k", by=reader)
    server("SET", "k", 1)
    assert told(server, listener) == []  # who has not subscribed would take it for a reply
    server("SUBSCRIBE", "__redis__:invalidate", by=listener)
    server("GET", "k", by=reader)
    server("SET", "k", 2)
    told_listener = told(server, listener)
    assert told_listener == [
        resp.array([resp.bulk(b"message"), resp.bulk(b"__redis__:invalidate"), resp.bulks([b"k"])])
    ]
    assert told(server, reader) == []


def test_whose_listener_is_gone_is_told_that(server: Server) -> None:
    listener = server.open()
    reader = tracker(server, "REDIRECT", listener.id)
    server("GET", "k", by=reader)
    server.engine.close(listener)
    server("SET", "k", 1)
    assert told(server, reader) == [b">2\r\n$21\r\ntracking-redir-broken\r\n:%d\r\n" % listener.id]
    assert b"broken_redirect" in server("CLIENT", "TRACKINGINFO", by=reader)
    assert b" flags=tR " in server("CLIENT", "LIST")


def test_what_is_remembered_is_bounded() -> None:
    server = Server(max_tracked_keys=100)
    reader = tracker(server)
    for number in range(150):
        server("GET", f"k:{number}", by=reader)
    assert told(server, reader) == [of(*[b"k:%d" % number for number in range(50)])]
    assert server.engine.tracking.statistics() == {
        "tracking_total_keys": 100, "tracking_total_items": 100, "tracking_total_prefixes": 0,
    }  # fmt: skip


def test_nothing_is_remembered_and_nobody_listens_when_nobody_tracks(server: Server) -> None:
    reader, other = tracker(server), tracker(server, "BCAST")
    server("GET", "k", by=reader)
    server("RESET", by=reader)
    assert server.engine.tracking.clients == 1
    server.engine.close(other)
    assert not server.keyspace.listening
    assert server.engine.tracking.statistics()["tracking_total_keys"] == 0
    assert server.goes_quickly()
    server("SET", "k", 1)
    assert told(server, reader) == []


def test_many_changes_are_told_in_slices(server: Server) -> None:
    by_prefix = tracker(server, "BCAST")
    keys = [b"k:%d" % number for number in range(5 * LONG)]
    reader = tracker(server)
    server("MGET", *keys, by=reader)
    server("MSET", *[part for key in keys for part in (key, b"1")])
    for session in (reader, by_prefix):
        messages = told(server, session)
        assert len(messages) >= 5
        assert sorted(key for message in messages for key in named(message)) == sorted(keys)


def test_a_slow_reader_is_told_behind_its_reply(server: Server) -> None:
    """What changed while it read might be the old value in its reply."""
    keys = [b"k:%d" % number for number in range(5000)]
    server("MSET", *[part for key in keys for part in (key, b"old")])
    reader = tracker(server)
    reader.out.append(reader.table[b"MGET"](reader, [b"MGET", *keys]))
    for _ in range(8):
        assert reader.advance(1) is None
    server("SET", keys[0], "new")
    server("SET", keys[-1], "new")
    assert told(server, reader) == []
    while (reply := reader.advance(1)) is None:
        pass
    reader.answer(reply)
    values, *messages = told(server, reader)
    assert values.startswith(b"*5000\r\n$3\r\nold\r\n")
    assert messages == [of(keys[0], keys[-1])]


def test_a_long_transaction_is_told_at_its_end(server: Server) -> None:
    reader, writer = tracker(server), tracker(server, "NOLOOP")
    keys = [b"k:%d" % number for number in range(2 * LONG)]
    for session in (reader, writer):
        server("MGET", *keys[:3], by=session)
    server("MULTI", by=writer)
    for key in keys:
        server("SET", key, 1, by=writer)
    writer.out.append(writer.table[b"EXEC"](writer, [b"EXEC"]))
    while not server.engine.isolation.active:
        assert writer.advance(1) is None
    for _ in range(5):
        assert writer.advance(1) is None
        assert told(server, reader) == []
    while writer.advance(1) is None:
        pass
    (message,) = told(server, reader)
    assert set(named(message)) == set(keys[:3])
    assert told(server, writer) == []
