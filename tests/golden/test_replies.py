"""Replies that a real Redis 7.0.15 gave, kept in a file: the same from here, byte for byte.

The file is a script of one connection. To record it anew, with a redis-server 7.0 in the path::

    python -m tests.golden.test_replies
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from tests.kvserver.commands.support import Server
from tests.property.test_differential import KEYS, commands, same
from tests.wire import Wire, real_redis

FILE = Path(__file__).with_name("redis_replies.jsonl")
FAMILIES = frozenset(
    b"SET GET GETDEL GETSET SETNX MSET MSETNX MGET APPEND STRLEN GETRANGE SUBSTR SETRANGE INCR "
    b"DECR INCRBY DECRBY INCRBYFLOAT LCS SETBIT GETBIT BITCOUNT BITPOS BITOP BITFIELD "
    b"BITFIELD_RO DEL UNLINK EXISTS TOUCH TYPE RENAME RENAMENX COPY EXPIREAT PEXPIREAT EXPIRETIME "
    b"PEXPIRETIME PERSIST KEYS SCAN GETEX MULTI EXEC DISCARD ECHO NOSUCH SELECT".split()
)
RELATIVE = frozenset([b"EX", b"PX"])
HUGE = frozenset([b"536870912", b"4294967295", b"4294967296", b"99999999999"])


def script() -> list[list[bytes]]:
    """About 1,500 commands in which no time plays a part and no string is huge."""
    drawn = commands(random.Random(42), 4000)
    return [
        command
        for command in drawn
        if command[0].upper() in FAMILIES
        and not any(word.upper() in RELATIVE for word in command[1:])
        and not HUGE & set(command)
    ]


def test_replies_are_those_that_redis_gave() -> None:
    server = Server()
    unlike = []
    lines = FILE.read_text("ascii").splitlines()
    assert len(lines) > 1000
    for number, line in enumerate(lines, 1):
        *words, theirs = [word.encode("latin-1") for word in json.loads(line)]
        ours = server(*words)
        if not same(words, ours, theirs):
            unlike.append(f"line {number} {words}: {ours!r} != {theirs!r}")
    assert not unlike, "\n".join(unlike[:20])
    server.check()
    assert server.keyspace.data.keys() <= set(KEYS)


def record() -> None:
    """Ask a real Redis."""
    wanted = script()
    with (
        tempfile.TemporaryDirectory() as directory,
        real_redis(Path(directory)) as port,
        Wire("127.0.0.1", port) as wire,
    ):
        replies = wire.many(wanted)
    lines = [
        json.dumps([word.decode("latin-1") for word in (*command, reply)])
        for command, reply in zip(wanted, replies, strict=True)
    ]
    FILE.write_text("\n".join(lines) + "\n", "ascii")


if __name__ == "__main__":
    record()
