"""Two clients that publish, subscribe, watch and transact: what arrives is what Redis sends.

How many messages a command causes depends on everything before, so after each command both clients
say PING with a number, and everything up to its answer is compared.
"""

from __future__ import annotations

import random

import pytest

from tests.wire import Wire

LINES = """
SUBSCRIBE {c}
SUBSCRIBE {c} {c}
PSUBSCRIBE {p}
PSUBSCRIBE {p} {p}
UNSUBSCRIBE {c}
UNSUBSCRIBE {c} {c}
UNSUBSCRIBE
PUNSUBSCRIBE {p}
PUNSUBSCRIBE
PUBLISH {c} {m}
PUBLISH {c} {m}
PUBLISH {c} {m}
SSUBSCRIBE {c}
SSUBSCRIBE {c} {c}
SUNSUBSCRIBE {c}
SUNSUBSCRIBE
SPUBLISH {c} {m}
SPUBLISH {c} {m}
PUBSUB CHANNELS
PUBSUB NUMSUB a b
PUBSUB NUMPAT
PUBSUB SHARDCHANNELS
PUBSUB SHARDCHANNELS {p}
PUBSUB SHARDNUMSUB a b
PING
PING {m}
GET k
SET k {m}
INCR n
DEL k
EXPIRE k 1000
MULTI
MULTI
EXEC
EXEC
DISCARD
WATCH k n
UNWATCH
RESET
HELLO 2
HELLO 3
SETEX k 1000 v
RENAME k n
FLUSHALL
CONFIG SET notify-keyspace-events KEA
CONFIG SET notify-keyspace-events Kg
CONFIG SET notify-keyspace-events E$
SELECT 0
NOSUCH
SUBSCRIBE
QUEUED
COPY k n
APPEND k x
""".strip().split("\n")
WORDS = {
    "c": ["a", "b", "abc", "__keyspace@0__:k", "__keyevent@0__:set", ""],
    "p": ["*", "a*", "?", "__key*__:*", "[ab]"],
    "m": ["x", "", "hello world", "1"],
}


def script(rng: random.Random) -> list[tuple[int, list[str]]]:
    """Draw commands and which of the two clients says each."""
    drawn = []
    for _ in range(60):
        words = [
            rng.choice(WORDS[word[1:-1]]) if word.startswith("{") else word
            for word in rng.choice(LINES).split(" ")
        ]
        drawn.append((rng.randrange(2), words))
    return drawn


def normal(reply: bytes) -> bytes:
    """Leave out what two servers may tell differently: who they are, and the order of a set."""
    if b"$5\r\nredis\r\n" in reply:
        return reply[:4]
    if b"unsubscribe\r\n" in reply:
        reply = reply[: reply.rindex(b":")]
    return b"\r\n".join(sorted(reply.split(b"\r\n")))


class Client:
    """One connection that knows whether it is inside MULTI."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.queueing = False

    def say(self, words: list[str], mark: bytes) -> list[bytes]:
        """Send a command and a PING; return what arrives before the answer to the PING."""
        if self.queueing and words[0].endswith("SUBSCRIBE"):
            words = ["PUBSUB", "NUMPAT"]  # inside EXEC nobody can tell where its replies end
        self.wire.send(*words)
        self.wire.send("PING", mark)
        if words[0].endswith("SUBSCRIBE") and not self.queueing:
            return self.until_answer(mark)  # its replies are messages too
        arrived = [self.wire.read()]
        while arrived[0].startswith(b">"):  # messages come before the reply
            arrived.insert(0, self.wire.read())
        if words == ["MULTI"]:
            self.queueing = self.queueing or arrived[0] == b"+OK\r\n"
        elif words[0] in {"EXEC", "DISCARD", "RESET"}:
            self.queueing = False
        return arrived + self.until_answer(mark)

    def look(self, mark: bytes) -> list[bytes]:
        """Send only a PING."""
        self.wire.send("PING", mark)
        return self.until_answer(mark)

    def until_answer(self, mark: bytes) -> list[bytes]:
        arrived: list[bytes] = []
        while True:
            reply = self.wire.read()
            if (reply == b"+QUEUED\r\n") if self.queueing else (mark in reply):
                return arrived
            arrived.append(reply)


def play(port: int, drawn: list[tuple[int, list[str]]]) -> list[list[list[bytes]]]:
    """Return, for each command, what arrived at the one who said it and at the other."""
    history = []
    with Wire("127.0.0.1", port) as first, Wire("127.0.0.1", port) as second:
        first("FLUSHALL")
        first("CONFIG", "SET", "notify-keyspace-events", "")
        clients = [Client(first), Client(second)]
        for number, (who, words) in enumerate(drawn):
            mark = b"<mark %d>" % number
            arrived = [clients[who].say(words, mark), clients[1 - who].look(mark)]
            history.append([sorted(map(normal, each)) for each in arrived])
    return history


@pytest.mark.slow
def test_what_arrives_is_what_redis_sends(ports: tuple[int, int], deep: bool) -> None:
    for seed in range(100 if deep else 8):
        drawn = script(random.Random(seed))
        ours, theirs = (play(port, drawn) for port in ports)
        for number, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            story = "\n".join(f"{who} {words}" for who, words in drawn[: number + 1])
            assert left == right, f"seed {seed}\n{story}"
