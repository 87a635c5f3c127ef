"""Clients that cache, change and read keys: who is told that which key changed is as with Redis.

Redis tells of one key at a time, this server of all keys of a turn; so what is compared is the set
of keys that a client was told of after each command.
"""

from __future__ import annotations

import random
import re

import pytest

from tests.wire import Wire

LINES = """
GET {k}
GET {k}
MGET {k} {k}
EXISTS {k} {k}
STRLEN {k}
TTL {k}
GETRANGE {k} 0 1
SET {k} {v}
SET {k} {v}
MSET {k} {v} {k} {v}
APPEND {k} {v}
GETDEL {k}
GETEX {k}
GETEX {k} EX 1000
DEL {k} {k}
RENAME {k} {k}
COPY {k} {k} REPLACE
EXPIRE {k} 1000
EXPIRE {k} -1
PERSIST {k}
SETNX {k} {v}
MSETNX {k} {v} {k} {v}
INCR {k}
SETBIT {k} 1 1
GETBIT {k} 1
BITOP NOT {k} {k}
TOUCH {k}
TYPE {k}
OBJECT FREQ {k}
FLUSHALL
MULTI
EXEC
EXEC
DISCARD
WATCH {k}
RESET
HELLO 2
HELLO 3
HELLO 3
SUBSCRIBE __redis__:invalidate
UNSUBSCRIBE
CLIENT TRACKING on
CLIENT TRACKING on
CLIENT TRACKING ON NOLOOP
CLIENT TRACKING on REDIRECT {id}
CLIENT TRACKING on REDIRECT {id}
CLIENT TRACKING on REDIRECT {id} REDIRECT {id}
CLIENT TRACKING on BCAST
CLIENT TRACKING on bcast NOLOOP PREFIX a
CLIENT TRACKING on BCAST PREFIX a PREFIX b
CLIENT TRACKING on BCAST PREFIX a PREFIX ab
CLIENT TRACKING on BCAST PREFIX c REDIRECT {id}
CLIENT TRACKING on PREFIX a
CLIENT TRACKING on PREFIX
CLIENT TRACKING on REDIRECT
CLIENT TRACKING on REDIRECT x
CLIENT TRACKING on REDIRECT 999999
CLIENT TRACKING on OPTIN
CLIENT TRACKING on optin
CLIENT TRACKING on OPTOUT
CLIENT TRACKING on OPTIN OPTOUT
CLIENT TRACKING on BCAST OPTIN
CLIENT TRACKING off
CLIENT TRACKING off
CLIENT TRACKING maybe
CLIENT TRACKING
CLIENT CACHING YES
CLIENT CACHING yes
CLIENT CACHING NO
CLIENT CACHING
CLIENT CACHING perhaps
CLIENT GETREDIR
CLIENT TRACKINGINFO
CLIENT TRACKINGINFO
CLIENT KILL ID {target}
""".strip().split("\n")
KEYS = ["a", "ab", "b", "c"]
VALUES = ["1", "2", "x"]

_NOT_IN_MULTI = (["FLUSHALL"], ["CLIENT", "TRACKING"], ["SUBSCRIBE", "__redis__:invalidate"])
"""This server tells nothing of what changed in a turn before the first two; and Redis may put what
it tells a new subscriber into the reply of EXEC."""
_INVALIDATION = re.compile(
    rb"(>2\r\n\$10\r\ninvalidate\r\n|\*3\r\n\$7\r\nmessage\r\n\$20\r\n__redis__:invalidate\r\n)"
)


def script(rng: random.Random) -> list[tuple[int, list[str]]]:
    """Draw commands and which of the two clients says each."""
    drawn = []
    for _ in range(80):
        words = rng.choice(LINES).split(" ")
        for at, word in enumerate(words):
            if word in {"{k}", "{v}"}:
                words[at] = rng.choice(KEYS if word == "{k}" else VALUES)
            elif word == "{id}":
                words[at] = rng.choice(["{0}", "{1}", "{target}", "{target}"])
        drawn.append((rng.randrange(2), words))
    return drawn


def apart(message: bytes) -> list[bytes]:
    """Return a message about several keys as one for each."""
    found = _INVALIDATION.match(message)
    if found is None or not message.startswith(b"*", found.end()):
        return [message]
    keys = message[found.end() :].split(b"\r\n")[2::2]
    return [found[0] + key for key in keys]


class Clients:
    """Two clients that speak, one that they may redirect to, and one that only tracks."""

    def __init__(self, port: int) -> None:
        while True:  # so that ids are no numbers that replies have in other places
            with Wire("127.0.0.1", port) as wire:
                if int(wire("CLIENT", "ID")[1:-2]) > 100:
                    break
        self.wires = [Wire("127.0.0.1", port) for _ in range(4)]
        self.queueing = [False, False, False]
        self.ids = [int(wire("CLIENT", "ID")[1:-2]) for wire in self.wires]
        self.wires[2]("HELLO", 3)
        # While nobody tracks, Redis remembers what was read before, and this server does not.
        self.wires[3]("CLIENT", "TRACKING", "on", "BCAST", "PREFIX", "nothing")
        self.wires[0]("FLUSHALL")

    def say(self, who: int, words: list[str]) -> list[list[bytes]]:
        """Send a command; return what came of it: to who said it, and then to everybody."""
        if self.queueing[who] and words[:2] in _NOT_IN_MULTI:
            words = ["DBSIZE"]
        names = {"{0}": self.ids[0], "{1}": self.ids[1], "{target}": self.ids[2]}
        wire = self.wires[who]
        wire.send(*[str(names.get(word, word)) for word in words])
        first = [wire.read()]
        while _INVALIDATION.match(first[-1]) and words[0] != "UNSUBSCRIBE":
            first.append(wire.read())  # what the turn before left
        replied = first[-1]
        if words == ["MULTI"]:
            self.queueing[who] = self.queueing[who] or replied == b"+OK\r\n"
        elif words[0] in {"EXEC", "DISCARD", "RESET"}:
            self.queueing[who] = False
        arrived = [self.until_mark(number) for number in range(3)]
        arrived[who] += first
        return [
            sorted({self.known(part) for each in one for part in apart(each)}) for one in arrived
        ]

    def until_mark(self, who: int) -> list[bytes]:
        """Return what has arrived at a client that may be gone."""
        arrived: list[bytes] = []
        try:
            self.wires[who].send("PING", "<mark>")
            while True:
                reply = self.wires[who].read()
                if (reply == b"+QUEUED\r\n") if self.queueing[who] else (b"<mark>" in reply):
                    return arrived
                arrived.append(reply)
        except (OSError, EOFError):
            return [*arrived, b"gone"]

    def known(self, reply: bytes) -> bytes:
        """Leave out what two servers may tell differently: who they are, and ids."""
        if b"$5\r\nredis\r\n" in reply:
            return reply[:4]
        for number, session_id in enumerate(self.ids):
            reply = reply.replace(b":%d\r\n" % session_id, b"<id of %d>" % number)
        return reply

    def close(self) -> None:
        for wire in self.wires:
            wire.socket.close()


def play(port: int, drawn: list[tuple[int, list[str]]]) -> list[list[list[bytes]]]:
    """Return, for each command, what arrived at whom."""
    clients = Clients(port)
    try:
        return [clients.say(who, words) for who, words in drawn]
    finally:
        clients.close()


@pytest.mark.slow
def test_clients_are_told_of_what_redis_tells_them(ports: tuple[int, int], deep: bool) -> None:
    for seed in range(300 if deep else 20):
        drawn = script(random.Random(seed))
        ours, theirs = (play(port, drawn) for port in ports)
        for number, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            story = "\n".join(f"{who} {' '.join(words)}" for who, words in drawn[: number + 1])
            assert left == right, f"seed {seed}\n{story}"
