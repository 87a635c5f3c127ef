"""Passwords: who is let in, how late and how quietly the others are refused."""

from __future__ import annotations

import time

import pytest

from kvserver.commands import auth
from kvserver.session import Session
from tests.kvserver.commands.support import Server

NOAUTH = b"-NOAUTH Authentication required.\r\n"
WRONG = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"


@pytest.fixture
def server() -> Server:
    return Server(password="open sesame")


@pytest.mark.parametrize(
    "command", [["GET", "k"], ["PING"], ["MULTI"], ["SUBSCRIBE", "c"], ["CLIENT", "LIST"],
                ["CONFIG", "GET", "*"], ["COMMAND"], ["SHUTDOWN"], ["ECHO", "x"]]
)  # fmt: skip
def test_nothing_works_before_the_password(server: Server, command: list[str]) -> None:
    assert server(*command) == NOAUTH


@pytest.mark.parametrize(
    "command",
    [
        ["AUTH", "open sesame"],
        ["AUTH", "default", "open sesame"],
        ["HELLO", "3", "AUTH", "default", "open sesame"],
    ],
)
def test_the_password_opens(server: Server, command: list[str]) -> None:
    assert not server(*command).startswith(b"-")
    assert server("SET", "k", 1) == b"+OK\r\n"


@pytest.mark.parametrize(
    "command",
    [
        ["AUTH", "open sesam"],
        ["AUTH", ""],
        ["AUTH", "Default", "open sesame"],
        ["AUTH", "other", "open sesame"],
        ["HELLO", "2", "AUTH", "default", "x"],
    ],
)
def test_anything_else_does_not(server: Server, command: list[str]) -> None:
    assert server(*command) == WRONG
    assert server("GET", "k") == NOAUTH


def test_hello_without_auth_says_how(server: Server) -> None:
    assert server("HELLO", "3").startswith(b"-NOAUTH HELLO must be called with the client already")


def test_without_a_password_auth_says_that_there_is_none() -> None:
    server = Server()
    assert server("AUTH", "x").startswith(b"-ERR AUTH <password> called without any password")
    assert server("AUTH", "default", "whatever") == b"+OK\r\n"
    assert server("AUTH", "nobody", "whatever") == WRONG


def test_a_wrong_password_is_answered_late_and_later_each_time(server: Server) -> None:
    delays = []
    for _ in range(3):
        server.first.table[b"AUTH"](server.first, [b"AUTH", b"x"])
        assert server.first.pending is not None
        server.first.advance(1_000_000)
        delays.append(server.engine.sleeping[server.first] - time.monotonic())
        assert server.first.advance(1_000_000) == WRONG
    assert 0.05 < delays[0] < 0.15 < delays[1] < 0.25 < delays[2] < 0.45


def test_too_many_wrong_passwords_end_the_connection(server: Server) -> None:
    for _ in range(auth.MOST_FAILURES):
        assert not server.first.closing
        server("AUTH", "x")
    assert server.first.closing


def test_the_password_shows_nowhere(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    watcher = server.open()
    server("AUTH", "open sesame", by=watcher)
    server("MONITOR", by=watcher)
    server("CONFIG", "SET", "slowlog-log-slower-than", 0, by=watcher)
    server("AUTH", "sesame wrong")
    server("AUTH", "default", "open sesame")
    server("HELLO", 3, "AUTH", "default", "open sesame", "SETNAME", "me")
    server("CLIENT", "SETNAME", "x")
    said = [
        watcher.take(),
        server("SLOWLOG", "GET", -1),
        server("CONFIG", "GET", "*"),
        server("CLIENT", "LIST"),
        server("COMMAND", "DOCS"),
        server("LATENCY", "HISTOGRAM"),
        server("INFO"),
        server("STATS"),
        caplog.text.encode(),
    ]
    for text in said:
        assert b"sesame" not in text
    assert b'"AUTH" "(redacted)"' in said[0]
    assert b"authentication failed" in said[-1]


def test_reset_asks_for_the_password_again(server: Server) -> None:
    server("AUTH", "open sesame")
    assert server("RESET") == b"+RESET\r\n"
    assert server("PING") == NOAUTH


def test_comparing_takes_as_long_for_a_right_beginning(server: Server, deep: bool) -> None:
    """Indicative only: medians of interleaved rounds differ by less than a fifth."""

    def seconds(given: bytes) -> float:
        began = time.perf_counter()
        for _ in range(50):
            auth.password_matches(server.first, b"default", given)
        return time.perf_counter() - began

    rounds = 400 if deep else 60
    pairs = [(seconds(b"open sesamX"), seconds(b"Xpen sesame")) for _ in range(rounds)]
    right = sorted(pair[0] for pair in pairs)[rounds // 2]
    wrong = sorted(pair[1] for pair in pairs)[rounds // 2]
    assert 0.8 < right / wrong < 1.25


def test_acl_knows_one_user(server: Server) -> None:
    session: Session = server.open()
    server("AUTH", "open sesame", by=session)
    assert server("ACL", "WHOAMI", by=session) == b"$7\r\ndefault\r\n"
    assert server("ACL", "SETUSER", "x", by=session).startswith(b"-ERR unknown subcommand")
