"""Long pipelines, sent in pieces of any size: the bytes that come back are those of Redis.

Runs of equal commands, lone ones, transactions, replies of half a megabyte, errors and inline
requests follow one another in whatever order, so that what is run together, what waits for its turn
and what leaves in parts all meet.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from itertools import takewhile

import pytest

from tests.wire import encode

LINES = """
SET {k} {v}
SET {k} {v} EX 1000
SET {k} {v} px 100000
SETEX {k} 1000 {v}
SETNX {k} {v}
GETSET {k} {v}
SETRANGE {k} 17 {v}
APPEND {k} {v}
MSET {k} {v} {k} {v} {k} {v}
GET {k}
get {k}
GETDEL {k}
GETRANGE {k} 2 -2
STRLEN {k}
TYPE {k}
INCR {k}
DECR {k}
INCRBY {k} 7
PERSIST {k}
EXPIRE {k} 1000
EXISTS {k}
EXISTS {many}
TOUCH {many}
UNLINK {k} {k}
DEL {k}
MGET {k} {k} {k}
MGET {many}
KEYS {k}
ECHO {v}
PING
NOSUCH {k}
GET {k} {k}
DISCARD
""".strip().split("\n")
END = b"$7\r\nthe end\r\n"


class Story:
    """What a client says, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.commands = [encode("FLUSHALL")]
        for _ in range(self.random.choice([3, 20, 100])):
            self.add_some()
        self.commands += [encode("DISCARD"), encode("ECHO", "the end")]
        self.sent = b"".join(self.commands)

    def add_some(self, *, in_multi: bool = False) -> None:
        """Add a run of one kind, or a transaction or something about one."""
        choose = self.random
        kind = choose.random()
        if kind < 0.1 and not in_multi:
            self.commands.append(encode("MULTI"))
            for _ in range(choose.randrange(6)):
                self.add_some(in_multi=True)
            self.commands.append(encode(choose.choice(["EXEC", "EXEC", "DISCARD"])))
        elif kind < 0.15:
            self.commands.append(encode("WATCH", self.key()))
        elif kind < 0.2:
            self.commands.append(b'SET %b "in line"\r\n' % self.key())
        else:
            line = choose.choice(LINES)
            for _ in range(choose.choice([1, 1, 1, 2, 5, 30, 200])):
                self.commands.append(encode(*self.filled(line)))

    def filled(self, line: str) -> Iterator[bytes]:
        for word in line.split():
            if word == "{many}":
                for _ in range(self.random.choice([5, 700, 1500])):
                    yield self.key()
            else:
                yield (
                    self.key()
                    if word == "{k}"
                    else self.value()
                    if word == "{v}"
                    else word.encode()
                )

    def key(self) -> bytes:
        return b"k%d" % self.random.randrange(60)

    def value(self) -> bytes:
        kind = self.random.random()
        if kind < 0.5:
            return b"%d" % self.random.randrange(-5, 2000)
        if kind < 0.95:
            return bytes(self.random.choices(b"ab\r\n*$3", k=self.random.randrange(30)))
        return b"x" * self.random.randrange(5000 if kind < 0.998 else 600_000)

    def pieces(self) -> list[bytes]:
        size = len(self.sent)
        cuts = sorted(self.random.randrange(size) for _ in range(self.random.choice([0, 5, 40])))
        return [self.sent[a:b] for a, b in zip([0, *cuts], [*cuts, size], strict=True)]


def told(port: int, pieces: list[bytes]) -> bytes:
    """Send, and return everything that is answered up to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sender = threading.Thread(target=lambda: list(map(sock.sendall, pieces)))
        sender.start()
        heard = bytearray()
        while not heard.endswith(END):
            piece = sock.recv(65536)
            assert piece, f"closed after {bytes(heard[-200:])!r}"
            heard += piece
        sender.join()
    return bytes(heard)


@pytest.mark.parametrize("seed", range(30))
def test_a_long_pipeline_is_answered_as_redis_answers_it(
    seed: int, ports: tuple[int, int], deep: bool
) -> None:
    for number in range(20 if deep else 1):
        story = Story(1000 * number + seed)
        pieces = story.pieces()
        ours, theirs = (told(port, pieces) for port in ports)
        if ours != theirs:
            alike = takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))
            near = sum(1 for _ in alike)
            around = slice(max(0, near - 80), near + 80)
            raise AssertionError(f"other from byte {near}: {ours[around]!r}, {theirs[around]!r}")
