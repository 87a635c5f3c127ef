"""Numbers: what Redis takes for one and what not, and the long double of INCRBYFLOAT."""

from __future__ import annotations

import math
import platform
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.numbers import (
    INT64_MAX,
    INT64_MIN,
    format_long_double,
    parse_int,
    parse_long_double,
    round_long_double,
)


@given(st.integers(INT64_MIN, INT64_MAX))
def test_every_64_bit_integer_is_read_back(value: int) -> None:
    assert parse_int(b"%d" % value) == value


@pytest.mark.parametrize(
    "raw",
    [b"", b"1_0", b" 5", b"5 ", b"+5", b"1\n", b"05", b"-0", b"-", b"0x10", b"1.0", b"1e3", b"nan",
     b"9223372036854775808", b"-9223372036854775809", b"1" * 5000, b"00", "٣".encode(), b"--1"],
)  # fmt: skip
def test_what_is_no_integer_is_refused(raw: bytes) -> None:
    assert parse_int(raw) is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"1_0.5", b" 5", b"5 ", b"1\n", b"nan", b"-nan", b"e5", b".", b"1e", b"0x", b"1e5000",
     b"1e-5000", b"1e99999999999999999999", b"1,5", b"abc", b"9" * 6000, b"1..2"],
)  # fmt: skip
def test_what_is_no_float_is_refused(raw: bytes) -> None:
    assert parse_long_double(raw) is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"3.0e3", b"3000"),
        (b"+5", b"5"),
        (b".5", b"0.5"),
        (b"5.", b"5"),
        (b"0x10", b"16"),
        (b"0x1p-1", b"0.5"),
        (b"-0", b"0"),
        (b"0.1", b"0.1"),
        (b"10.5", b"10.5"),
        (b"1e-18", b"0"),
        (b"-1e-30", b"0"),
        (b"9007199254740993", b"9007199254740993"),
        (b"1e20", b"100000000000000000000"),
    ],
)
def test_floats_are_written_as_redis_writes_them(raw: bytes, expected: bytes) -> None:
    value = parse_long_double(raw)
    assert isinstance(value, Fraction)
    assert format_long_double(value) == expected


def test_numbers_of_thousands_of_digits_are_read_and_written() -> None:
    value = parse_long_double(b"1e4900")
    assert isinstance(value, Fraction)
    assert len(format_long_double(value)) == 4901
    assert parse_long_double(b"0." + b"0" * 4800 + b"1") == round_long_double(Fraction(1, 10**4801))
    assert parse_long_double(b"1" * 5000) is None


def test_the_infinities_are_read() -> None:
    assert parse_long_double(b"inf") == math.inf
    assert parse_long_double(b"-Infinity") == -math.inf


X87 = platform.machine() in {"x86_64", "i686"} and np.finfo(np.longdouble).nmant == 63


@pytest.mark.skipif(not X87, reason="this machine has no 80-bit long double to compare with")
@given(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30),
)
def test_sums_are_those_of_the_machine(left: object, right: object) -> None:
    texts = [f"{left:f}"[:60], f"{right:f}"[:60]]
    values = [parse_long_double(text.encode()) for text in texts]
    if any(value is None for value in values):
        return  # vanished: refused
    a, b = values
    assert isinstance(a, Fraction)
    assert isinstance(b, Fraction)
    ours = round_long_double(a + b)
    assert ours is not None
    theirs = np.longdouble(texts[0]) + np.longdouble(texts[1])
    mantissa, exponent = np.frexp(theirs)
    exact = Fraction(int(np.ldexp(mantissa, 64))) * Fraction(2) ** (int(exponent) - 64)
    assert ours == exact
