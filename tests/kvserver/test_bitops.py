"""Bits: every function against a string of 0 and 1."""

from __future__ import annotations

from operator import and_, or_, xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver import bitops
from kvserver.bitops import Field


def bits_of(value: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in value)


VALUES = st.binary(max_size=40) | st.lists(
    st.sampled_from([b"\0", b"\xff", b"\x10"]), max_size=40
).map(b"".join)


@given(VALUES, st.integers(0, 400), st.integers(0, 1))
def test_one_bit_is_read_and_written(value: bytes, offset: int, bit: int) -> None:
    padded = value.ljust(offset // 8 + 1, b"\0")
    assert bitops.get_bit(value, offset) == int(bits_of(padded)[offset])
    changed = bytearray(padded)
    changed[offset // 8] = bitops.byte_with_bit(value, offset, bit)
    expected = list(bits_of(padded))
    expected[offset] = str(bit)
    assert bits_of(bytes(changed)) == "".join(expected)


@given(VALUES.filter(bool), st.data())
def test_counting_and_finding_agree_with_a_string(value: bytes, data: st.DataObject) -> None:
    text = bits_of(value)
    first = data.draw(st.integers(0, len(text) - 1))
    last = data.draw(st.integers(first, len(text) - 1))
    part = text[first : last + 1]
    assert bitops.count_bits(value, first, last) == part.count("1")
    for bit in (0, 1):
        found = part.find(str(bit))
        assert bitops.find_bit(value, bit, first, last) == (found + first if found >= 0 else -1)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_values_combine_bit_by_bit(values: list[bytes]) -> None:
    length = max(map(len, values))
    padded = [value.ljust(length, b"\0") for value in values]
    for name, rule in ((b"AND", and_), (b"OR", or_), (b"XOR", xor)):
        expected = list(padded[0])
        for other in padded[1:]:
            expected = [rule(a, b) for a, b in zip(expected, other, strict=True)]
        assert bitops.combine(name, values, length) == bytes(expected)
    inverted = bytes(255 - byte for byte in values[0])
    assert bitops.combine(b"NOT", values[:1], len(values[0])) == inverted


FIELDS = st.builds(Field, st.just(True), st.integers(1, 64)) | st.builds(
    Field, st.just(False), st.integers(1, 63)
)


@given(VALUES, FIELDS, st.integers(0, 300), st.data())
def test_a_field_is_read_back_and_its_neighbours_stay(
    value: bytes, field: Field, offset: int, data: st.DataObject
) -> None:
    number = data.draw(st.integers(field.low, field.high))
    first, window = field.written(value, offset, number)
    padded = value.ljust(first + len(window), b"\0")
    changed = padded[:first] + window + padded[first + len(window) :]
    assert field.read(changed, offset) == number
    before, after = bits_of(padded), bits_of(changed)
    end = offset + field.bits
    assert before[:offset] == after[:offset]
    assert before[end:] == after[end:]


@given(FIELDS, st.integers(-(2**70), 2**70))
def test_overflow_wraps_saturates_or_fails(field: Field, number: int) -> None:
    wrapped = field.fit(number, "WRAP")
    assert wrapped is not None
    assert field.low <= wrapped <= field.high
    assert (wrapped - number) % (1 << field.bits) == 0
    assert field.fit(number, "SAT") == max(field.low, min(field.high, number))
    assert field.fit(number, "FAIL") == (number if field.low <= number <= field.high else None)


@pytest.mark.parametrize("raw", [b"", b"i", b"u64", b"i65", b"i0", b"x8", b"i08", b"u-1", b"i1_0"])
def test_what_is_no_field_type_is_refused(raw: bytes) -> None:
    assert bitops.parse_field(raw) is None
