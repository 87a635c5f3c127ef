"""CLIENT, RESET and MONITOR: clients about themselves and each other."""

from __future__ import annotations

import re

import pytest

from tests.kvserver.commands.support import Server, messages


@pytest.fixture
def server() -> Server:
    return Server()


def test_names_are_kept_and_checked(server: Server) -> None:
    assert server("CLIENT", "GETNAME") == b"$-1\r\n"
    assert server("CLIENT", "SETNAME", "worker-1") == b"+OK\r\n"
    assert server("CLIENT", "GETNAME") == b"$8\r\nworker-1\r\n"
    for bad in ("a b", "a\nb", "é"):
        assert server("CLIENT", "SETNAME", bad).startswith(b"-ERR Client names cannot contain")
    assert server("CLIENT", "SETNAME", "") == b"+OK\r\n"
    assert server("CLIENT", "GETNAME") == b"$-1\r\n"


def test_modern_handshakes_are_understood(server: Server) -> None:
    assert server("CLIENT", "SETINFO", "LIB-NAME", "redis-py") == b"+OK\r\n"
    assert server("CLIENT", "SETINFO", "lib-ver", "6.0") == b"+OK\r\n"
    assert server("CLIENT", "SETINFO", "lib-ver", "6 0").startswith(b"-ERR lib-ver cannot contain")
    assert server("CLIENT", "SETINFO", "x", "y") == b"-ERR Unrecognized option 'x'\r\n"
    assert b"lib-name=redis-py lib-ver=6.0" in server("CLIENT", "INFO")
    assert server("HELLO", 3, "SETNAME", "me").startswith(b"%7\r\n")
    assert server("CLIENT", "GETNAME") == b"$2\r\nme\r\n"


def test_list_shows_each_client_on_a_line(server: Server) -> None:
    other = server.open("10.0.0.1:5")
    server("SUBSCRIBE", "a", "b", by=other)
    server("MULTI", by=server.open("10.0.0.2:6"))
    text = server("CLIENT", "LIST").decode()
    lines = [
        dict(re.findall(r"([a-z-]+)=(\S*)", line)) for line in text.split("\n")[1:] if "=" in line
    ]
    lines.insert(0, dict(re.findall(r"([a-z-]+)=(\S*)", text.split("\n")[0])))
    shown = {line["addr"]: line for line in lines if "addr" in line}
    assert shown["10.0.0.1:5"]["sub"] == "2"
    assert shown["10.0.0.1:5"]["flags"] == "P"
    assert shown["10.0.0.2:6"]["multi"] == "0"
    assert shown["10.0.0.2:6"]["flags"] == "x"
    assert b"10.0.0.1" in server("CLIENT", "LIST", "TYPE", "pubsub")
    assert b"10.0.0.2" not in server("CLIENT", "LIST", "TYPE", "pubsub")
    assert b"10.0.0.1" in server("CLIENT", "LIST", "ID", other.id)


@pytest.mark.parametrize(
    ("words", "killed"),
    [
        (["10.0.0.1:5"], b"+OK\r\n"),
        (["ADDR", "10.0.0.1:5"], b":1\r\n"),
        (["TYPE", "pubsub"], b":1\r\n"),
        (["LADDR", "127.0.0.1:7379", "TYPE", "pubsub"], b":1\r\n"),
        (["USER", "default", "TYPE", "pubsub", "SKIPME", "yes"], b":1\r\n"),
    ],
)
def test_kill_ends_those_who_fit(server: Server, words: list[str], killed: bytes) -> None:
    victim = server.open("10.0.0.1:5")
    server("SUBSCRIBE", "c", by=victim)
    assert server("CLIENT", "KILL", *words) == killed
    assert victim.closing
    assert not server.first.closing


def test_kill_spares_the_caller_unless_told_otherwise(server: Server) -> None:
    assert server("CLIENT", "KILL", "TYPE", "normal") == b":0\r\n"
    assert server("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no") == b":1\r\n"
    assert server.first.closing


def test_replies_can_be_turned_off(server: Server) -> None:
    assert server("CLIENT", "REPLY", "OFF") == b""
    assert server("SET", "k", 1) == b""
    assert server("NOSUCH") == b""
    assert server("MULTI") == b""
    assert server("INCR", "k") == b""
    assert server("EXEC") == b""
    assert server("CLIENT", "REPLY", "ON") == b"+OK\r\n"
    assert server("GET", "k") == b"$1\r\n2\r\n"


def test_or_skipped_once(server: Server) -> None:
    assert server("CLIENT", "REPLY", "SKIP") == b""
    assert server("SET", "k", 1) == b""
    assert server("GET", "k") == b"$1\r\n1\r\n"
    server("CLIENT", "REPLY", "SKIP")
    assert server("KEYS", "*") == b"", "also the reply of a command that works in slices"
    assert server("PING") == b"+PONG\r\n"


def test_a_pause_holds_writes_back_until_it_ends(server: Server) -> None:
    assert server("CLIENT", "PAUSE", 60_000, "WRITE") == b"+OK\r\n"
    other = server.open()
    assert server("GET", "k", by=other) == b"$-1\r\n"
    assert other.table[b"SET"](other, [b"SET", b"k", b"1"]) == b""
    other.advance(1_000_000)
    assert other in server.engine.sleeping
    assert server("CLIENT", "UNPAUSE") == b"+OK\r\n"
    assert other.advance(1_000_000) == b"+OK\r\n"
    assert server("GET", "k") == b"$1\r\n1\r\n"
    assert not server.engine.gates


def test_a_pause_ends_by_itself(server: Server) -> None:
    server("CLIENT", "PAUSE", 1)
    assert server("SET", "k", 1) == b"+OK\r\n"
    assert server("GET", "k") == b"$1\r\n1\r\n"


def test_reset_makes_a_connection_as_good_as_new(server: Server) -> None:
    server("HELLO", 3, "SETNAME", "x")
    server("SUBSCRIBE", "c")
    server("MONITOR")
    server("WATCH", "k")
    server("MULTI")
    assert server("RESET") == b"+RESET\r\n"
    assert server("GET", "k") == b"$-1\r\n"
    assert server("CLIENT", "GETNAME") == b"$-1\r\n"
    assert b"flags=N" in server("CLIENT", "INFO")
    assert not server.engine.gates
    server.check()


def test_monitor_shows_what_the_others_do(server: Server) -> None:
    watcher = server.open()
    assert server("MONITOR", by=watcher) == b"+OK\r\n"
    server("SET", "k\r\n", b'\x00"\\')
    server("CONFIG", "GET", "x")
    line = messages(watcher)
    assert re.fullmatch(
        rb'\+\d+\.\d{6} \[0 127\.0\.0\.1:1000\] "SET" "k\\r\\n" "\\x00\\"\\\\"\r\n', line
    ), line
    server.engine.close(watcher)
    assert not server.engine.gates, "everybody is quick again"


def test_monitor_shows_a_transaction_when_it_runs(server: Server) -> None:
    watcher = server.open()
    server("MONITOR", by=watcher)
    server("MULTI")
    server("SET", "a", 1)
    assert b"SET" not in messages(watcher)
    server("CONFIG", "GET", "x")
    server("EXEC")
    assert re.findall(rb'\] "(\w+)"', messages(watcher)) == [b"SET", b"EXEC"]
    server("MULTI")
    server("SET", "a", 2)
    server("DISCARD")
    assert re.findall(rb'\] "(\w+)"', messages(watcher)) == [b"MULTI", b"DISCARD"]


@pytest.mark.parametrize("switch", ["NO-EVICT", "NO-TOUCH"])
def test_switches_are_accepted(server: Server, switch: str) -> None:
    assert server("CLIENT", switch, "ON") == b"+OK\r\n"
    assert server("CLIENT", switch, "OFF") == b"+OK\r\n"
    assert server("CLIENT", switch, "perhaps") == b"-ERR syntax error\r\n"
