"""The quick checksum against the definition, bit by bit, and against the published check value."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from kvserver.crc64 import BLOCK_BYTES, crc64


def by_definition(data: bytes, crc: int = 0) -> int:
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc


def test_the_check_value() -> None:
    assert crc64(b"123456789") == by_definition(b"123456789") == 0xE9C6D914C4B8D9CA
    assert crc64(b"") == 0


@given(st.binary(max_size=400), st.integers(0, 2**64 - 1))
def test_it_is_the_definition(data: bytes, crc: int) -> None:
    assert crc64(data, crc) == crc64(memoryview(data), crc) == by_definition(data, crc)


def test_at_every_size_where_something_changes() -> None:
    data = random.Random(1).randbytes(2 * BLOCK_BYTES + 100)
    for power in range(3, 17):
        for size in range((1 << power) - 1, (1 << power) + 10):
            assert crc64(data[:size], 7) == by_definition(data[:size], 7)
    assert crc64(data) == by_definition(data)


@given(st.binary(max_size=3 * 1000), st.integers(0, 3000))
def test_it_can_go_on_anywhere(data: bytes, at: int) -> None:
    assert crc64(data[at:], crc64(data[:at])) == crc64(data)
