"""Strings that are written in part, beside a real Redis: long enough to be kept in blocks here."""

from __future__ import annotations

import random

import pytest

from tests.wire import Wire

KEYS = [b"k1", b"k2", b"k3"]
LENGTHS = [0, 1, 3, 1000, (1 << 15) - 1, 1 << 15, (1 << 17) - 1, 1 << 17, 150_000, 400_000]


def some_offset(rng: random.Random) -> int:
    """Return a place in a string, often beside the border of a block."""
    if rng.random() < 0.5:
        return max(0, rng.randrange(14) * (1 << 15) + rng.randrange(-2, 3))
    return rng.randrange(400_000)


def some_text(rng: random.Random) -> bytes:
    length = rng.choice(LENGTHS)
    return rng.choice([rng.randbytes(length), bytes(length), b"\xff" * length])


def some_command(rng: random.Random) -> list[bytes]:
    key, other = rng.choice(KEYS), rng.choice(KEYS)
    offset, end = b"%d" % some_offset(rng), b"%d" % rng.choice([some_offset(rng), -1, -40_000])
    bit = b"%d" % (8 * int(offset) + rng.randrange(8))
    field = rng.choice([b"u8", b"i13", b"u32", b"i64"])
    unit = rng.choice([b"BYTE", b"BIT"])
    text = some_text(rng)
    return rng.choice([
        [b"SETBIT", key, bit, rng.choice([b"0", b"1"])],
        [b"SETRANGE", key, offset, text],
        [b"APPEND", key, text],
        [b"BITFIELD", key, b"INCRBY", field, bit, b"77", b"GET", b"u8", bit],
        [b"BITFIELD", key, b"SET", field, bit, b"5", b"SET", b"u4", b"#9", b"3"],
        [b"SET", key, text],
        [b"BITOP", rng.choice([b"AND", b"OR", b"XOR"]), key, *rng.choices(KEYS, k=2)],
        [b"BITOP", b"NOT", key, other],
        [b"COPY", key, other, b"REPLACE"] if key != other else [b"STRLEN", key],
        [b"RENAME", key, other],
        [b"DEL", key],
        [b"GETRANGE", key, offset, end],
        [b"GETBIT", key, bit],
        [b"BITFIELD_RO", key, b"GET", field, bit],
        [b"BITCOUNT", key, offset, end, unit],
        [b"BITPOS", key, rng.choice([b"0", b"1"]), offset, end, unit],
        [b"BITPOS", key, rng.choice([b"0", b"1"])],
        [b"STRLEN", key],
        [b"GET", key],
        [b"MGET", *KEYS],
        [b"INCR", key],
        [b"INCRBYFLOAT", key, b"1.5"],
        [b"GETEX", key, b"PERSIST"],
        [b"GETSET", key, text],
        [b"SET", key, text, b"GET"],
        [b"GETDEL", key],
        [b"TYPE", key],
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_replies_are_those_of_redis(wires: tuple[Wire, Wire], seed: int) -> None:
    rng = random.Random(seed)
    for wire in wires:
        wire(b"FLUSHALL")
    for _ in range(400):
        command = some_command(rng)
        ours, theirs = (wire(*command) for wire in wires)
        assert ours == theirs, (command[0], command[1:3], ours[:80], theirs[:80])
    in_transaction = [some_command(rng) for _ in range(4)]
    replies = []
    for wire in wires:
        wire(b"MULTI")
        for command in in_transaction:
            assert wire(*command) == b"+QUEUED\r\n"
        replies.append(wire(b"EXEC"))
    assert replies[0] == replies[1], [command[0] for command in in_transaction]
