"""Compressed content comes out whole, or as far as it goes, in small blocks."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from collections.abc import Callable

import pytest
import zstandard

from parser.streams import BLOCK_BYTES, BrokenStream, decompress, kind_of

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
}
TEXT = b"".join(b"line %d of many, %d\n" % (n, n * n) for n in range(3000))

kinds = pytest.mark.parametrize("kind", sorted(COMPRESS))


def blocks_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@kinds
@pytest.mark.parametrize("size", [1, 7, 1000, 10**9])
def test_content_comes_out_whatever_the_blocks(kind: str, size: int) -> None:
    packed = COMPRESS[kind](TEXT)
    assert kind_of(packed) == kind
    assert b"".join(decompress(kind, blocks_of(packed, size))) == TEXT


@kinds
def test_several_members_are_one_content(kind: str) -> None:
    packed = COMPRESS[kind](b"one\n") + COMPRESS[kind](b"") + COMPRESS[kind](TEXT)
    for size in (1, 5, 10**9):
        assert b"".join(decompress(kind, blocks_of(packed, size))) == b"one\n" + TEXT


@kinds
def test_a_file_cut_anywhere_gives_what_it_has_and_says_where(kind: str) -> None:
    packed = COMPRESS[kind](TEXT)
    for cut in random.Random(1).sample(range(1, len(packed)), 60):
        out: list[bytes] = []
        with pytest.raises(BrokenStream) as broken:
            out.extend(decompress(kind, blocks_of(packed[:cut], 100)))
        assert TEXT.startswith(b"".join(out))
        assert 0 <= broken.value.offset <= cut


@kinds
def test_damage_and_garbage_are_told(kind: str) -> None:
    packed = bytearray(COMPRESS[kind](TEXT))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(BrokenStream, match="at byte"):
        list(decompress(kind, blocks_of(bytes(packed), 64)))
    with pytest.raises(BrokenStream, match="something else follows"):
        list(decompress(kind, [COMPRESS[kind](TEXT) + b"garbage"]))
    assert b"".join(decompress(kind, [COMPRESS[kind](TEXT) + bytes(512)])) == TEXT


@kinds
def test_a_bomb_comes_out_in_small_blocks(kind: str) -> None:
    packed = COMPRESS[kind](bytes(64 << 20))
    sizes = [len(block) for block in decompress(kind, blocks_of(packed, BLOCK_BYTES))]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= (BLOCK_BYTES if kind != "zst" else 64 << 20)


def test_plain_blocks_pass_and_silence_is_passed_on() -> None:
    assert list(decompress("plain", [b"a", b"", b"b"])) == [b"a", b"", b"b"]
    assert list(decompress("gz", [b"", gzip.compress(b"x")])) == [b"", b"x"]
    assert kind_of(b"081109 203615") == kind_of(b"") == "plain"
