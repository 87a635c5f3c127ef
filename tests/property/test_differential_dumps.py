"""DUMP and RESTORE against a real Redis: the same replies, and each reads what the other wrote.

Payloads differ where Redis compresses, so both servers are given the same ones: their own, the
other's, and such as are cut, changed, or changed and given a checksum that is right.
"""

from __future__ import annotations

import random

import pytest

from tests.kvserver.test_dumped import VALUES, closed, restored
from tests.property.test_differential import same
from tests.wire import Wire

KEYS = [b"k1", b"k2", b"k3", b""]
BAD_FORMAT = b"-ERR Bad data format\r\n"
TTLS = [b"0"] * 9 + [b"1000000", b"99999999999"] * 3 + [b"-1", b"x", b"", b"+5", b"1.5", b"-0",
        b"9223372036854775808"]  # fmt: skip
MOMENTS = [b"1", b"1000000", b"9999999999999", b"99999999999999", b"0", b"-5", b"x"]
OPTIONS = [[b"REPLACE"], [b"replace"], [b"IDLETIME", b"5"], [b"IDLETIME", b"-1"],
           [b"idletime", b"x"], [b"FREQ", b"5"], [b"FREQ", b"255"], [b"FREQ", b"256"],
           [b"FREQ", b"-1"], [b"freq", b""], [b"foo"], [b""], [b"IDLETIME"], [b"FREQ"],
           [b"REPLACE", b"REPLACE"]]  # fmt: skip


def some_value(rng: random.Random) -> bytes:
    kind = rng.randrange(5)
    if kind == 0:
        return b"%d" % rng.randrange(-(2 ** rng.choice([8, 16, 32, 63])), 2**63 - 1)
    if kind == 1:
        return b"%d" % (rng.choice([-1, 1]) * (2 ** rng.choice([7, 15, 31]) + rng.randrange(-2, 2)))
    if kind == 2:
        return rng.randbytes(rng.choice([0, 1, 20, 21, 63, 64, 300, 16383, 16384]))
    if kind == 3:
        words = [b"block", b"received", b" ", b"\n", b"10.250.19.102", b"\0"]
        return b"".join(rng.choices(words, k=rng.choice([3, 30, 3000])))
    return rng.choice(list(VALUES.values()))


def payload_of(reply: bytes) -> bytes:
    head, _, rest = reply.partition(b"\r\n")
    assert head == b"$%d" % (len(rest) - 2)
    return rest[:-2]


def damaged(payload: bytes, rng: random.Random) -> bytes:
    """Cut or change a payload, most often so that its checksum is wrong."""
    wrong = bytearray(payload)
    match rng.randrange(8):
        case 0:
            del wrong[rng.randrange(len(wrong)) :]
        case 1:
            wrong[rng.randrange(len(wrong))] ^= 1 << rng.randrange(8)
        case 2:
            wrong += rng.randbytes(3)
        case 3:  # a version that nobody writes
            return closed(payload[:-10], 300)
        case _:
            at = rng.randrange(1, min(len(wrong) - 10, 12)) if len(wrong) > 11 else 1
            wrong[at] ^= 1 << rng.randrange(8)
            return closed(bytes(wrong[:-10]))
    return bytes(wrong)


def restore(payloads: list[bytes], rng: random.Random) -> list[bytes]:
    payload = rng.choice(payloads)
    if rng.random() < 0.35:
        payload = damaged(payload, rng)
    command = [b"RESTORE", rng.choice(KEYS), rng.choice(TTLS), payload]
    if rng.random() < 0.3:
        command[2:] = [rng.choice(MOMENTS), payload, rng.choice([b"ABSTTL", b"absttl"])]
    if rng.random() < 0.6:
        command.append(b"REPLACE")
    while rng.random() < 0.3:
        command += rng.choice(OPTIONS)
    return command


def both(wires: tuple[Wire, Wire], *command: bytes) -> tuple[bytes, bytes]:
    for wire in wires:
        wire.send(*command)
    ours, theirs = (wire.read() for wire in wires)
    return ours, theirs


def dump_on_both(wires: tuple[Wire, Wire], key: bytes) -> list[bytes]:
    """Return what the two say that a key holds, which are two forms of the same string."""
    ours, theirs = both(wires, b"DUMP", key)
    if ours == b"$-1\r\n":
        assert theirs == ours
        return []
    payloads = [payload_of(ours), payload_of(theirs)]
    assert restored(payloads[0]) == restored(payloads[1])
    if payloads[1][1] != 0xC3:
        assert payloads[0] == payloads[1]
    return payloads


def play(wires: tuple[Wire, Wire], seed: int) -> int:
    """Say a hundred commands to both; return how many keys were restored."""
    rng = random.Random(seed)
    both(wires, b"FLUSHALL")
    payloads = [closed(b"\0\x05hello")]
    done = 0
    for _ in range(100):
        key = rng.choice(KEYS)
        chance = rng.random()
        if chance < 0.2:
            ours, theirs = both(wires, b"SET", key, some_value(rng))
            assert ours == theirs
        elif chance < 0.3:
            ours, theirs = both(wires, b"DEL", key)
            assert ours == theirs
        elif chance < 0.4:
            ours, theirs = both(wires, rng.choice([b"DUMP", b"RESTORE"]), *[key] * rng.randrange(5))
            assert same([b"DUMP"], ours, theirs) or ours[:1] == theirs[:1] == b"$"
        elif chance < 0.6:
            payloads += dump_on_both(wires, key)
        else:
            command = restore(payloads, rng)
            key = command[1]
            ours, theirs = both(wires, *command)
            if ours == BAD_FORMAT and theirs == b"+OK\r\n":
                both(wires, b"DEL", key)  # it has bytes left over, or takes those of the footer
                continue
            assert ours == theirs, f"seed {seed}: {command}"
            done += ours == b"+OK\r\n"
        for question in ([b"GET", key], [b"PTTL", key]):
            ours, theirs = both(wires, *question)
            assert same(question, ours, theirs), f"seed {seed}: {question}"
    return done


@pytest.mark.slow
def test_replies_are_those_of_redis_and_payloads_are_read_by_both(
    wires: tuple[Wire, Wire], deep: bool
) -> None:
    scripts = 300 if deep else 25
    assert sum(play(wires, seed) for seed in range(scripts)) > 5 * scripts


@pytest.mark.slow
@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_long_strings_go_both_ways(wires: tuple[Wire, Wire], size: int) -> None:
    rng = random.Random(size)
    for value in (
        rng.randbytes(size),
        b"".join(rng.choices([b"0", b"1x", b"line\n"], k=size // 2)),
    ):
        both(wires, b"FLUSHALL")
        both(wires, b"SET", b"k", value)
        for payload in dump_on_both(wires, b"k"):
            assert both(wires, b"RESTORE", b"l", b"0", payload, b"REPLACE") == (
                b"+OK\r\n",
                b"+OK\r\n",
            )
            ours, theirs = both(wires, b"GET", b"l")
            assert ours == theirs == b"$%d\r\n%b\r\n" % (len(value), value)
