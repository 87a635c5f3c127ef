"""Frames that are none: Redis's own words, then the end of that connection, and of no other."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support import ServerProcess, resident_bytes, running_server
from tests.wire import Wire, encode, real_redis

INVALID_ARRAY = b"-ERR Protocol error: invalid multibulk length\r\n"
INVALID_BULK = b"-ERR Protocol error: invalid bulk length\r\n"
UNBALANCED = b"-ERR Protocol error: unbalanced quotes in request\r\n"
PING = b"*1\r\n$4\r\nPING\r\n"

# What is sent, what comes back, and whether the connection ends then.
CASES: dict[str, tuple[bytes, bytes, bool]] = {
    "too many arguments": (b"*3000000000\r\n", INVALID_ARRAY, True),
    "more arguments than an int holds": (b"*2147483648\r\n", INVALID_ARRAY, True),
    "a negative bulk": (b"*1\r\n$-10\r\n", INVALID_BULK, True),
    "a missing bulk": (b"*1\r\n$-1\r\n", INVALID_BULK, True),
    "a bulk of gigabytes": (b"*1\r\n$2000000000\r\n", INVALID_BULK, True),
    "one byte over the limit": (b"*1\r\n$536870913\r\n", INVALID_BULK, True),
    "letters for a length": (b"*1\r\n$blabla\r\n", INVALID_BULK, True),
    "an underscore in a length": (b"*1\r\n$1_0\r\n", INVALID_BULK, True),
    "a plus before a length": (b"*1\r\n$+5\r\n", INVALID_BULK, True),
    "a space before a length": (b"*1\r\n$ 4\r\nPING\r\n", INVALID_BULK, True),
    "a zero before a length": (b"*1\r\n$04\r\nPING\r\n", INVALID_BULK, True),
    "no length": (b"*1\r\n$\r\n", INVALID_BULK, True),
    "no count": (b"*\r\n", INVALID_ARRAY, True),
    "letters for a count": (b"*x\r\n", INVALID_ARRAY, True),
    "a plus before a count": (b"*+1\r\n$4\r\nPING\r\n", INVALID_ARRAY, True),
    "a zero before a count": (b"*01\r\n$4\r\nPING\r\n", INVALID_ARRAY, True),
    "5,000 digits for a count": (b"*" + b"1" * 5000 + b"\r\n", INVALID_ARRAY, True),
    "5,000 digits for a length": (b"*1\r\n$" + b"1" * 5000 + b"\r\n", INVALID_BULK, True),
    "a count without an end": (
        b"*" + b"1" * 70000,
        b"-ERR Protocol error: too big mbulk count string\r\n",
        True,
    ),
    "a length without an end": (
        b"*1\r\n$" + b"1" * 70000,
        b"-ERR Protocol error: too big bulk count string\r\n",
        True,
    ),
    "an inline request without an end": (
        b"a" * 65537,
        b"-ERR Protocol error: too big inline request\r\n",
        True,
    ),
    "no bulk": (b"*1\r\nfoo\r\n", b"-ERR Protocol error: expected '$', got 'f'\r\n", True),
    "an array in an array": (
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"-ERR Protocol error: expected '$', got '*'\r\n",
        True,
    ),
    "an integer": (b"*1\r\n:5\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n", True),
    "a status": (b"*1\r\n+PING\r\n", b"-ERR Protocol error: expected '$', got '+'\r\n", True),
    "an open quote": (b'set "a b\r\n', UNBALANCED, True),
    "an open single quote": (b"set 'a\r\n", UNBALANCED, True),
    "letters behind a quote": (b'set "a"b c\r\n', UNBALANCED, True),
    "good, then bad": (PING + b"*1\r\n$x\r\n" + PING, b"+PONG\r\n" + INVALID_BULK, True),
    "a browser": (b"POST / HTTP/1.1\r\nHost: x\r\n\r\nPING\r\n", b"", True),
    "more behind a QUIT": (PING + encode("QUIT") + PING, b"+PONG\r\n+OK\r\n", True),
    "a browser's second line": (b"Host: x\r\n", b"", True),
    "a negative count": (b"*-10\r\n" + PING, b"+PONG\r\n", False),
    "an empty array": (b"*0\r\n" + PING, b"+PONG\r\n", False),
    "an empty line": (b"\r\nPING\r\n", b"+PONG\r\n", False),
    "a line of spaces": (b"   \r\nPING\r\n", b"+PONG\r\n", False),
    "a bare line feed": (b"PING\n", b"+PONG\r\n", False),
    "no line end behind a bulk": (b"*1\r\n$4\r\nPINGXX" + PING, b"+PONG\r\n+PONG\r\n", False),
    "quotes in place": (b'echo "a\\x41\\n\'"\r\n', b"$4\r\naA\n'\r\n", False),
    "an empty name": (
        b"*1\r\n$0\r\n\r\n",
        b"-ERR unknown command '', with args beginning with: \r\n",
        False,
    ),
    "a RESP3 map": (
        b"%1\r\n",
        b"-ERR unknown command '%1', with args beginning with: \r\n",
        False,
    ),
    "line ends in what is repeated": (
        encode("foo", b"a\r\nb\0c"),
        b"-ERR unknown command 'foo', with args beginning with: 'a  b' \r\n",
        False,
    ),
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("frames") / "data") as server:
        yield server


def answer(port: int, sent: bytes, expected: int) -> tuple[bytes, bool]:
    """Send bytes; return what comes back, and whether the connection was ended."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
        wire.sendall(sent)
        received = b""
        try:
            while len(received) < expected:
                more = wire.recv(65536)
                if not more:
                    return received, True
                received += more
            wire.settimeout(0.1)
            return received + wire.recv(65536), True
        except TimeoutError:
            return received, False
        except ConnectionResetError:
            return received, True


@pytest.mark.parametrize("name", CASES)
def test_a_bad_frame_gets_the_words_of_redis(ours: ServerProcess, name: str) -> None:
    sent, expected, ends = CASES[name]
    assert answer(ours.port, sent, len(expected)) == (expected, ends)
    with Wire("127.0.0.1", ours.port) as other:
        assert other("PING") == b"+PONG\r\n"


def test_those_are_indeed_the_words_of_redis(tmp_path_factory: pytest.TempPathFactory) -> None:
    with real_redis(tmp_path_factory.mktemp("redis")) as port:
        for name, (sent, expected, ends) in CASES.items():
            assert answer(port, sent, len(expected)) == (expected, ends), name


def test_a_declared_size_takes_no_memory(ours: ServerProcess) -> None:
    before = resident_bytes(ours)
    wires = []
    for _ in range(100):
        wire = socket.create_connection(("127.0.0.1", ours.port))
        wire.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nx")
        wires.append(wire)
    with Wire("127.0.0.1", ours.port) as other:
        assert other("PING") == b"+PONG\r\n"
    assert resident_bytes(ours) - before < 8_000_000
    for wire in wires:
        wire.close()


def test_one_byte_at_a_time_is_the_same(ours: ServerProcess) -> None:
    session = encode("SET", "k", "a\r\nb") + b"GET k\r\n" + encode("ECHO", b"\0" * 40) + b"PING\r\n"
    with Wire("127.0.0.1", ours.port) as wire:
        wire.send_raw(session)
        whole = [wire.read() for _ in range(4)]
        for at in range(len(session)):
            wire.send_raw(session[at : at + 1])
        assert [wire.read() for _ in range(4)] == whole
