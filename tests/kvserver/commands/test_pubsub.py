"""Publish, subscribe, and the events of the keyspace."""

from __future__ import annotations

import pytest

from kvserver.hub import format_event_flags, parse_event_flags
from tests.kvserver.commands.support import Server, messages


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_message_reaches_channels_and_patterns(server: Server) -> None:
    listener = server.open()
    assert (
        server("SUBSCRIBE", "news", by=listener) == b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
    )
    server("PSUBSCRIBE", "n*", "other", by=listener)
    assert server("PUBLISH", "news", "hello") == b":2\r\n"
    assert messages(listener) == (
        b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n"
        b"*4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$5\r\nhello\r\n"
    )
    server.check()


def test_resp3_gets_pushes_and_may_go_on_with_commands(server: Server) -> None:
    listener = server.open()
    server("HELLO", 3, by=listener)
    assert server("SUBSCRIBE", "c", by=listener).startswith(b">3\r\n")
    assert server("SET", "k", 1, by=listener) == b"+OK\r\n"
    server("PUBLISH", "c", "m")
    assert messages(listener) == b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"


def test_resp2_may_not(server: Server) -> None:
    server("SUBSCRIBE", "c")
    assert server("GET", "k") == (
        b"-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
        b"are allowed in this context\r\n"
    )
    assert server("PING") == b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    assert server("PING", "x") == b"*2\r\n$4\r\npong\r\n$1\r\nx\r\n"
    server("UNSUBSCRIBE")
    assert server("GET", "k") == b"$-1\r\n"
    assert server("PING") == b"+PONG\r\n"


def test_channels_of_shards_are_apart_from_channels_and_patterns(server: Server) -> None:
    listener = server.open()
    server("PSUBSCRIBE", "*", by=listener)
    assert server("SSUBSCRIBE", "c", "d", by=listener) == (
        b"*3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$10\r\nssubscribe\r\n$1\r\nd\r\n:2\r\n"
    )
    assert server("PUBLISH", "d", "to all") == b":1\r\n"
    assert server("SPUBLISH", "c", "to one") == b":1\r\n"
    assert messages(listener) == (
        b"*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nd\r\n$6\r\nto all\r\n"
        b"*3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$6\r\nto one\r\n"
    )
    assert server("PUBSUB", "SHARDCHANNELS", "c*") == b"*1\r\n$1\r\nc\r\n"
    assert server("PUBSUB", "SHARDNUMSUB", "c", "x") == b"*4\r\n$1\r\nc\r\n:1\r\n$1\r\nx\r\n:0\r\n"
    server("SUNSUBSCRIBE", by=listener)
    assert listener.subscribed == 1
    server.check()


def test_a_transaction_may_not_listen_to_a_shard(server: Server) -> None:
    server("MULTI")
    server("SSUBSCRIBE", "c")
    assert server("EXEC") == (b"*1\r\n-ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client\r\n")
    assert server("SSUBSCRIBE", "c").endswith(b":1\r\n")


def test_unsubscribing_from_nothing_says_so(server: Server) -> None:
    assert server("UNSUBSCRIBE") == b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"
    assert server("PUNSUBSCRIBE", "x") == b"*3\r\n$12\r\npunsubscribe\r\n$1\r\nx\r\n:0\r\n"


def test_subscribing_twice_counts_once(server: Server) -> None:
    server("SUBSCRIBE", "c", "c")
    assert server("PUBLISH", "c", "m", by=server.open()) == b":1\r\n"
    assert server.first.subscribed == 1


def test_pubsub_tells_who_listens(server: Server) -> None:
    listener = server.open()
    server("SUBSCRIBE", "a1", "b1", by=listener)
    server("PSUBSCRIBE", "x*", by=listener)
    assert server("PUBSUB", "CHANNELS") == b"*2\r\n$2\r\na1\r\n$2\r\nb1\r\n"
    assert server("PUBSUB", "CHANNELS", "a*") == b"*1\r\n$2\r\na1\r\n"
    assert server("PUBSUB", "NUMSUB", "a1", "zz") == b"*4\r\n$2\r\na1\r\n:1\r\n$2\r\nzz\r\n:0\r\n"
    assert server("PUBSUB", "NUMPAT") == b":1\r\n"


@pytest.mark.parametrize("leave", ["close", "RESET", "UNSUBSCRIBE"])
def test_nothing_is_left_of_a_listener(server: Server, leave: str) -> None:
    listener = server.open()
    server("SUBSCRIBE", "a", "b", by=listener)
    server("PSUBSCRIBE", "a*", by=listener)
    if leave == "close":
        server.engine.close(listener)
    elif leave == "RESET":
        server("RESET", by=listener)
    else:
        server("UNSUBSCRIBE", by=listener)
        server("PUNSUBSCRIBE", by=listener)
    assert server.engine.hub.statistics() == {
        "pubsub_channels": 0,
        "pubsub_patterns": 0,
        "pubsubshard_channels": 0,
    }
    server.check()


def test_too_many_subscriptions_are_refused() -> None:
    server = Server(max_subscriptions=2)
    server("SUBSCRIBE", "a")
    server("PSUBSCRIBE", "b")
    assert server("SUBSCRIBE", "c") == b"-ERR too many subscriptions\r\n"
    assert server("SUBSCRIBE", "a").endswith(b":2\r\n")


def events(server: Server, flags: str, *commands: list[str]) -> list[tuple[str, str]]:
    """Run commands, return the events (event, key) that they publish."""
    listener = server.open()
    server("CONFIG", "SET", "notify-keyspace-events", flags)
    server("PSUBSCRIBE", "__keyevent@0__:*", by=listener)
    for command in commands:
        server(*command)
    words = messages(listener).decode().split("\r\n")
    return [(words[at + 6].partition(":")[2], words[at + 8]) for at in range(0, len(words) - 1, 9)]


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([["SET", "k", "1"]], [("set", "k")]),
        ([["SET", "k", "1", "EX", "5"]], [("set", "k"), ("expire", "k")]),
        ([["SET", "k", "1", "EXAT", "1"]], [("set", "k"), ("expire", "k"), ("expired", "k")]),
        ([["SETEX", "k", "5", "v"], ["SET", "k", "w", "KEEPTTL"]],
         [("set", "k"), ("expire", "k"), ("set", "k")]),
        ([["SETEX", "k", "5", "v"]], [("set", "k"), ("expire", "k")]),
        ([["MSET", "a", "1", "b", "2"]], [("set", "a"), ("set", "b")]),
        ([["INCR", "k"], ["DECRBY", "k", "3"]], [("incrby", "k"), ("incrby", "k")]),
        ([["INCRBYFLOAT", "k", "1.5"]], [("incrbyfloat", "k")]),
        ([["APPEND", "k", "x"], ["SETRANGE", "k", "5", "y"]], [("append", "k"), ("setrange", "k")]),
        ([["SETBIT", "k", "1", "1"], ["SETBIT", "k", "1", "1"]], [("setbit", "k")]),
        ([["SET", "a", "1"], ["RENAME", "a", "b"]],
         [("set", "a"), ("rename_from", "a"), ("rename_to", "b")]),
        ([["SET", "a", "1"], ["COPY", "a", "b"]], [("set", "a"), ("copy_to", "b")]),
        ([["SET", "a", "1"], ["DEL", "a", "zz"]], [("set", "a"), ("del", "a")]),
        ([["SET", "a", "1"], ["EXPIRE", "a", "9"], ["PERSIST", "a"], ["EXPIRE", "a", "-1"]],
         [("set", "a"), ("expire", "a"), ("persist", "a"), ("del", "a")]),
        ([["SET", "a", "1"], ["GETDEL", "a"]], [("set", "a"), ("del", "a")]),
        ([["SET", "a", "1"], ["GETEX", "a", "PERSIST"]], [("set", "a")]),
        ([["BITOP", "NOT", "d", "none"]], []),
        ([["GET", "none"], ["DEL", "none"], ["EXPIRE", "none", "5"]], []),
    ],
)  # fmt: skip
def test_commands_publish_the_events_of_redis(
    server: Server, commands: list[list[str]], expected: list[tuple[str, str]]
) -> None:
    assert events(server, "KEA", *commands) == expected


def test_an_expired_key_says_so(server: Server) -> None:
    listener = server.open()
    server("CONFIG", "SET", "notify-keyspace-events", "Kx")
    server("SUBSCRIBE", "__keyspace@0__:k", by=listener)
    server("SET", "k", 1, "PX", 50)
    assert messages(listener) == b"", "only the class that was asked for"
    server.advance(51)
    server.keyspace.expire_due(10)
    assert messages(listener).endswith(b"$7\r\nexpired\r\n")


def test_events_cost_nothing_when_nobody_asked(server: Server) -> None:
    listening = [server.keyspace.listening]
    for flags in ("KEA", ""):
        server("CONFIG", "SET", "notify-keyspace-events", flags)
        listening.append(server.keyspace.listening)
    assert listening == [False, True, False]


@pytest.mark.parametrize(("given", "shown"), [("KEA", "AKE"), ("g$xdtKe", "g$xetdK"), ("", "")])
def test_flags_are_shown_in_the_order_of_redis(given: str, shown: str) -> None:
    flags = parse_event_flags(given)
    assert flags is not None
    assert format_event_flags(flags) == shown


def test_a_letter_that_means_nothing_is_refused() -> None:
    assert parse_event_flags("q") is None
