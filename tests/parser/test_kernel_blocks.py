"""What the kernel does to 64 bytes at once is what its plain description says."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from parser.kernel import blocks, scan
from parser.kernel.maps import CLASSES
from parser.kernel.memory import address_of
from parser.kernel.ops import JIT, compiled
from parser.patterns import mask_values

pytestmark = pytest.mark.skipif(not JIT, reason="about machine code")

# More classes than one table has flags; the last two tell bytes from 0x80 up apart.
WANTED = (
    *CLASSES.values(),
    ((10, 10),),
    ((0, 127),),
    ((0, 47), (58, 255)),
    ((195, 195),),
    ((130, 255),),
)
LITERALS = (b"\n", b"blk_", b"\xc3\xa9", b"session 0x")
STRIDE = 8


def text_of(seed: int) -> bytearray:
    """Every byte in some order, then pieces of literals; and three bytes to look ahead."""
    drawn = random.Random(seed)
    every = drawn.sample(range(256), 256)
    pieces = drawn.choices([b"blk_", b"blk", b"\xc3\xa9", b"session 0", b"sess", b"\n", b"9"], k=60)
    return bytearray(bytes(every) + b"".join(pieces))[:448] + bytearray(b"_ab")


@pytest.mark.parametrize("looks_up", [False, True], ids=["compared", "looked up"])
def test_bitmaps_tell_the_classes_and_literals_of_each_byte(
    looks_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if looks_up and not blocks.LOOKS_UP:
        pytest.skip("this processor compares")
    monkeypatch.setattr(blocks, "LOOKS_UP", looks_up)
    classify = blocks.make_classifier(WANTED, LITERALS)

    def classify_at(source: int, into: int, stride: int) -> None:
        classify(source, into, stride)  # numba compiles what calls an operation, not it itself

    run = compiled(classify_at)
    text = text_of(1)
    maps = bytearray(STRIDE * (len(WANTED) + len(LITERALS)))
    for block in range(0, len(text) - 64, 64):
        run(address_of(text) + block, address_of(maps), STRIDE)
        words = memoryview(maps).cast("Q").tolist()
        for number, ranges in enumerate(WANTED):
            there = [any(low <= byte <= high for low, high in ranges) for byte in text[block:][:64]]
            assert words[number] == sum(flag << at for at, flag in enumerate(there))
        for number, literal in enumerate(LITERALS, len(WANTED)):
            starts = [text.startswith(literal[:4], block + at) for at in range(64)]
            assert words[number] == sum(flag << at for at, flag in enumerate(starts))


def test_kept_bytes_move_together_and_zeros_follow() -> None:
    def keep(source: int, breaks: int, kept: int, into: int) -> None:
        blocks.keep_bytes(source, breaks, kept, into)

    run = compiled(keep)
    drawn = random.Random(2)
    text, into = text_of(3), bytearray(b"x" * 64)
    flags = [0, -1, 1, -(1 << 63), *(drawn.getrandbits(64) - (1 << 63) for _ in range(50))]
    for breaks in flags:
        for kept in flags:
            run(address_of(text), breaks, kept, address_of(into))
            lines = [10 if breaks >> at & 1 else text[at] for at in range(64)]
            expected = bytes(lines[at] for at in range(64) if kept >> at & 1)
            assert into == expected.ljust(64, b"\0")


@pytest.mark.parametrize("hashed", [scan.hash_packed, scan.hash_pieces], ids=["packed", "pieces"])
def test_two_messages_hash_alike_when_their_patterns_are_the_same(
    hashed: Callable[[int, int, int, int, int], int],
) -> None:
    drawn = random.Random(4)
    words = [b"a", b"block", b"x" * 40, b"y" * 17, b"1", b"10.0.0.1", b"7" * 90, b" ", b": ", b""]
    patterns: dict[int, set[bytes]] = {}
    hashes: dict[bytes, set[int]] = {}
    for _ in range(2000):
        message = b" ".join(drawn.choices(words, k=drawn.randrange(12)))
        pattern, values = mask_values(message)
        before = drawn.randrange(70)
        text, flags = bytearray(b"?" * before + message + b"?" * 80), 0
        place = 0
        for value in values:
            place = message.index(value, place)
            flags |= ((1 << len(value)) - 1) << before + place
            place += len(value)
        masked = bytearray(flags.to_bytes(len(text) // 8 + 80, "little"))
        room = bytearray(len(text) + 200)
        code = hashed(
            address_of(text), address_of(masked), before, before + len(message), address_of(room)
        )
        patterns.setdefault(code, set()).add(pattern)
        hashes.setdefault(pattern, set()).add(code)
    assert max(map(len, patterns.values())) == 1
    assert max(map(len, hashes.values())) == 1
    assert len(patterns) > 300
