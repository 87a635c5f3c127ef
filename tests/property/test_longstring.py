"""A string in blocks against ``bytes``, with blocks so small that every border is met."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvserver import bitops, longstring
from kvserver.keyspace import Keyspace
from kvserver.longstring import LongString, String, whole, written_over

WRITES = st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=20)), min_size=1, max_size=12)


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """Blocks of four bytes, used from ten bytes on."""
    with patch.multiple(longstring, BLOCK_BYTES=4, LONG_BYTES=10, _ZEROS=bytes(4)):
        yield


def expected(string: bytes, offset: int, part: bytes) -> bytes:
    if not part:
        return string
    wanted = bytearray(string.ljust(offset + len(part), b"\0"))
    wanted[offset : offset + len(part)] = part
    return bytes(wanted)


def made_by(start: bytes, writes: list[tuple[int, bytes]]) -> tuple[String, bytes]:
    string: String = start
    model = start
    for offset, part in writes:
        before, copy = string, whole(string)
        string = written_over(string, offset, part)
        model = expected(model, offset, part)
        assert whole(before) == copy, "what others hold has changed"
    return string, model


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="is about CPython's collector")
def test_the_collector_does_not_look_at_all_keys_because_of_a_long_string() -> None:
    space = Keyspace()
    space.set_many([b"%d" % n for n in range(100)], [b"value"] * 100)
    for _ in range(3):
        space.append(b"long", b"x" * 50)
        space.set(b"short", b"x")
        assert not gc.is_tracked(space.data)
    gc.collect()
    assert space.string(b"long") is not None
    assert whole(space.data[b"long"]) == b"x" * 150
    assert not gc.is_tracked(space.data)


@given(st.binary(max_size=30), WRITES)
@example(b"", [(0, b"x" * 12)])
@example(b"", [(40, b"x")])
@example(b"123456789", [(9, b"0"), (10, b"")])
@example(b"12345678", [(12, b"abcd"), (16, b"e")])
def test_writing_over_parts_is_what_it_is_with_bytes(
    start: bytes, writes: list[tuple[int, bytes]]
) -> None:
    string, model = made_by(start, writes)
    assert whole(string) == model
    assert len(string) == len(model)
    if isinstance(string, LongString):
        assert [len(block) for block in string.blocks[:-1]] == [4] * (len(string.blocks) - 1)
        assert 1 <= len(string.blocks[-1]) <= 4
    else:
        assert len(model) < 10 or model == start  # nothing was written


@given(st.binary(max_size=30), WRITES, st.integers(-45, 45), st.integers(-45, 45))
def test_bytes_and_slices_are_those_of_the_whole(
    start: bytes, writes: list[tuple[int, bytes]], low: int, high: int
) -> None:
    string, model = made_by(start, writes)
    assert string[low:high] == model[low:high]
    assert [string[at] for at in range(len(string))] == list(model)


@given(st.binary(max_size=30), WRITES, st.data())
def test_bits_are_counted_and_found_as_in_the_whole(
    start: bytes, writes: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    string, model = made_by(start, writes)
    if not model:
        return
    first = data.draw(st.integers(0, 8 * len(model) - 1))
    last = data.draw(st.integers(first, 8 * len(model) - 1))
    assert bitops.count_bits(string, first, last) == bitops.count_bits(model, first, last)
    for bit in (0, 1):
        assert bitops.find_bit(string, bit, first, last) == bitops.find_bit(model, bit, first, last)
        assert bitops.get_bit(string, first) == bitops.get_bit(model, first)
