"""MULTI, EXEC and WATCH."""

from __future__ import annotations

import pytest

from kvserver.commands.table import Command
from kvserver.keyspace import Keyspace
from tests.kvserver.commands.support import Server

NOTHING = b"*-1\r\n"
OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"


@pytest.fixture
def server() -> Server:
    return Server()


def test_queued_commands_run_at_exec(server: Server) -> None:
    assert server("MULTI") == OK
    assert server("SET", "k", 1) == QUEUED
    assert server("INCR", "k") == QUEUED
    assert server.keyspace.peek(b"k") is None
    assert server("EXEC") == b"*2\r\n+OK\r\n:2\r\n"
    server.check()


def test_discard_forgets_them(server: Server) -> None:
    server("MULTI")
    server("SET", "k", 1)
    assert server("DISCARD") == OK
    assert server("EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert server("GET", "k") == b"$-1\r\n"


@pytest.mark.parametrize(("word", "after"), [("OFF", b""), ("SKIP", b"+PONG\r\n")])
def test_who_wants_no_replies_from_within_gets_none_of_exec(
    server: Server, word: str, after: bytes
) -> None:
    server("MULTI")
    server("CLIENT", "REPLY", word)
    server("SET", "k", 1)
    assert server("EXEC") == server("PING") == b""
    assert server("PING") == after
    assert server.keyspace.peek(b"k") == b"1"


def test_an_exec_that_is_none_ends_the_watches_too(server: Server) -> None:
    server("WATCH", "k")
    server("SET", "k", 1)
    assert server("EXEC", "x").startswith(b"-EXECABORT Transaction discarded because of: wrong")
    server("MULTI")
    assert server("EXEC") == b"*0\r\n"


@pytest.mark.parametrize(
    "bad", [["NOSUCH"], ["GET"], ["CLIENT", "NOSUCH"], ["PUBSUB", "NUMPAT", "x"], ["SHUTDOWN"]]
)
def test_what_cannot_be_queued_dooms_the_transaction(server: Server, bad: list[str]) -> None:
    server("MULTI")
    assert server(*bad).startswith(b"-ERR")
    assert server("SET", "k", 1) == QUEUED
    aborted = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
    assert server("EXEC") == aborted
    assert server("GET", "k") == b"$-1\r\n"


def test_an_error_while_running_stops_nothing(server: Server) -> None:
    server("SET", "k", "text")
    server("MULTI")
    server("INCR", "k")
    server("SET", "k", 1, "EX", "x")
    server("SET", "other", 1)
    replies = server("EXEC")
    not_an_integer = b"-ERR value is not an integer or out of range\r\n"
    assert replies == b"*3\r\n" + 2 * not_an_integer + OK


def test_nesting_and_late_watches_are_refused_without_harm(server: Server) -> None:
    server("MULTI")
    assert server("MULTI") == b"-ERR MULTI calls can not be nested\r\n"
    assert server("WATCH", "k") == b"-ERR WATCH inside MULTI is not allowed\r\n"
    server("SET", "k", 1)
    assert server("EXEC") == b"*1\r\n+OK\r\n"


@pytest.mark.parametrize(
    "change",
    [
        ["SET", "k", "1"],
        ["SET", "k", "old"],
        ["APPEND", "k", "x"],
        ["SETBIT", "k", "7", "0"],
        ["DEL", "k"],
        ["RENAME", "k", "elsewhere"],
        ["RENAME", "other", "k"],
        ["COPY", "other", "k", "REPLACE"],
        ["EXPIRE", "k", "100"],
        ["PERSIST", "volatile"],
        ["FLUSHALL"],
        ["INCRBYFLOAT", "number", "0"],
        ["BITOP", "NOT", "k", "other"],
        ["GETDEL", "k"],
        ["MSET", "k", "1", "z", "2"],
        ["GETEX", "k", "EX", "10"],
    ],
)
def test_a_touched_key_cancels_exec(server: Server, change: list[str]) -> None:
    for key, value in (("k", "old\x01"), ("other", "o"), ("number", "5")):
        server("SET", key, value)
    server("SET", "volatile", "v", "EX", 50)
    other = server.open()
    server("WATCH", "k", "volatile", "number")
    assert not server(*change, by=other).startswith(b"-")
    server("MULTI")
    server("SET", "mine", 1)
    assert server("EXEC") == NOTHING
    assert server("EXISTS", "mine") == b":0\r\n"
    server("MULTI")
    server("SET", "mine", 1)
    assert server("EXEC") == b"*1\r\n+OK\r\n", "the watch ended with the first EXEC"
    server.check()


@pytest.mark.parametrize(
    "change", [["GET", "k"], ["SET", "other", "1"], ["DEL", "nokey"], ["SETNX", "k", "1"],
               ["EXPIRE", "k", "100", "XX"], ["TOUCH", "k"], ["SETRANGE", "k", "0", ""]]
)  # fmt: skip
def test_what_changes_nothing_cancels_nothing(server: Server, change: list[str]) -> None:
    server("SET", "k", "old")
    server("WATCH", "k", "nokey")
    server(*change, by=server.open())
    server("MULTI")
    server("PING")
    assert server("EXEC") == b"*1\r\n+PONG\r\n"


def test_a_watched_key_that_expires_cancels_exec(server: Server) -> None:
    server("SET", "k", 1, "PX", 100)
    server("WATCH", "k")
    server.advance(101)
    server("MULTI")
    server("PING")
    assert server("EXEC") == NOTHING


def test_a_key_that_was_gone_when_the_watch_began_does_not(server: Server) -> None:
    server("SET", "k", 1, "PX", 100)
    server.advance(101)
    server("WATCH", "k")
    server.advance(1000)
    server("MULTI")
    server("PING")
    assert server("EXEC") == b"*1\r\n+PONG\r\n"


@pytest.mark.parametrize("end", [["UNWATCH"], ["DISCARD"], ["RESET"], ["EXEC"]])
def test_watches_end(server: Server, end: list[str]) -> None:
    server("WATCH", "k")
    if end != ["UNWATCH"]:
        server("MULTI")
    server(*end)
    assert server.engine.watches.statistics()["watched_keys"] == 0
    assert not server.keyspace.listening, "nobody listens to the keyspace any more"


def test_a_client_that_leaves_takes_its_watches_along(server: Server) -> None:
    leaving = server.open()
    server("WATCH", "k", by=leaving)
    server("MULTI", by=leaving)
    server.engine.close(leaving)
    assert server.engine.watches.statistics() == {"watching_clients": 0, "watched_keys": 0}


def test_ones_own_change_counts_too(server: Server) -> None:
    server("WATCH", "k")
    server("SET", "k", 1)
    server("MULTI")
    server("PING")
    assert server("EXEC") == NOTHING


def test_a_wrong_exec_ends_the_transaction(server: Server) -> None:
    server("MULTI")
    server("SET", "k", 1)
    assert server("EXEC", "x") == (
        b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' "
        b"command\r\n"
    )
    assert server("EXEC") == b"-ERR EXEC without MULTI\r\n"


def test_the_effects_of_a_transaction_come_in_one_piece(server: Server) -> None:
    server("MULTI")
    for number in range(5):
        server("SET", f"k{number}", number)
    assert not server.keyspace.effects
    server("EXEC")
    again = Keyspace()
    again.apply_many(server.keyspace.effects)
    assert again.data == {b"k%d" % number: b"%d" % number for number in range(5)}


@pytest.mark.parametrize("limit", [3])
def test_limits_hold_at_n_and_refuse_at_n_plus_one(limit: int) -> None:
    server = Server(max_watched_keys=limit, max_queued_commands=limit)
    assert server("WATCH", "a", "b", "c") == OK
    assert server("WATCH", "d") == b"-ERR too many watched keys\r\n"
    server("MULTI")
    for _ in range(limit):
        assert server("PING") == QUEUED
    assert server("PING") == b"-ERR the transaction is too large\r\n"
    assert server("EXEC").startswith(b"-EXECABORT")


def test_large_commands_are_counted_in_bytes_too() -> None:
    server = Server(max_query_bytes=1000)
    server("MULTI")
    assert server("SET", "k", b"x" * 600) == QUEUED
    assert server("SET", "k", b"x" * 600) == b"-ERR the transaction is too large\r\n"


def test_long_commands_run_to_their_end_inside_exec(server: Server) -> None:
    for number in range(2000):
        server("SET", f"k{number}", "v")
    server("MULTI")
    server("KEYS", "*")
    server("MGET", *[f"k{number}" for number in range(2000)])
    replies = server("EXEC")
    assert replies.startswith(b"*2\r\n*2000\r\n")
    assert isinstance(server.engine.registry.find(b"keys"), Command)
    assert not server.engine.suspended
