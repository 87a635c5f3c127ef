"""Numbers as Redis reads and writes them: strict where Python's own ``int`` and ``float`` are not.

``int(b"1_0")``, ``int(b" 5")``, ``int(b"+5")`` and a number followed by a line end are all numbers
to Python and none to Redis. Everything that a client sends as a number goes through here.

INCRBYFLOAT computes in the 80-bit long double of x86: 64 bits of mantissa, rounded to nearest even.
Here that is done with exact integers, so that the digits are the same on every machine.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

_ZERO: Final = ord("0")
_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_DECIMAL: Final = re.compile(
    rb"(?P<sign>[+-]?)(?:"
    rb"(?P<infinite>inf(?:inity)?)|"
    rb"0x(?P<hex>[0-9a-f]*(?:\.[0-9a-f]*)?)(?:p(?P<hexexp>[+-]?[0-9]+))?|"
    rb"(?P<digits>[0-9]*(?:\.[0-9]*)?)(?:e(?P<exp>[+-]?[0-9]+))?)",
    re.IGNORECASE,
)
_MAX_FLOAT_BYTES: Final = 5 * 1024
_MANTISSA_BITS: Final = 64
_MAX_EXPONENT: Final = 16384
_MIN_EXPONENT: Final = -16445
_MAX_EXPONENT_CHARS: Final = 12
_MAX_DECIMAL_EXPONENT: Final = 20_000
"""Beyond it (either way) a number of at most 5 KiB of digits is certainly over or under."""


def parse_int(raw: bytes) -> int | None:
    """Return the signed 64-bit integer that ``raw`` spells in its only canonical form, or None."""
    if raw.isdigit() and len(raw) < 19:  # most are that; half the price of the pattern
        return int(raw) if raw[0] != _ZERO or raw == b"0" else None
    if _INTEGER.fullmatch(raw) is None:
        return None
    value = int(raw)
    return value if INT64_MIN <= value <= INT64_MAX else None


def fits_int64(value: int) -> bool:
    """Say whether ``value`` fits into 64 bits with a sign."""
    return INT64_MIN <= value <= INT64_MAX


def parse_long_double(raw: bytes) -> Fraction | float | None:
    """Return the value that ``strtold`` gives, or None where Redis says "not a valid float".

    A finite value is an exact fraction, already rounded to the precision of a long double; the only
    floats returned are the two infinities. What overflows or vanishes is refused as Redis does.
    """
    if not raw or len(raw) >= _MAX_FLOAT_BYTES:
        return None
    found = _DECIMAL.fullmatch(raw)
    if found is None:
        return None
    negative = found["sign"] == b"-"
    if found["infinite"]:
        return -math.inf if negative else math.inf
    magnitude = _hex_value(found) if found["hex"] is not None else _decimal_value(found)
    if magnitude is None:
        return None
    rounded = round_long_double(-magnitude if negative else magnitude)
    if rounded is None or (magnitude and not rounded):
        return None
    return rounded


def _decimal_value(found: re.Match[bytes]) -> Fraction | None:
    digits = found["digits"]
    whole, _, part = digits.partition(b".")
    if not whole and not part:
        return None
    number = _read_digits(whole + part)
    if number == 0:
        return Fraction(0)
    exponent = _read_exponent(found["exp"])
    if abs(exponent) > _MAX_DECIMAL_EXPONENT:
        return None
    exponent -= len(part)
    if exponent >= 0:
        return Fraction(number * 10**exponent)
    return Fraction(number, int(10**-exponent))


def _hex_value(found: re.Match[bytes]) -> Fraction | None:
    whole, _, part = found["hex"].partition(b".")
    if not whole and not part:
        return None
    number = int(whole + part, 16)
    if number == 0:
        return Fraction(0)
    exponent = _read_exponent(found["hexexp"])
    if abs(exponent) > 4 * _MAX_DECIMAL_EXPONENT:
        return None
    exponent -= 4 * len(part)
    if exponent >= 0:
        return Fraction(number << exponent)
    return Fraction(number, 1 << -exponent)


def _read_exponent(raw: bytes | None) -> int:
    if raw is None:
        return 0
    return int(raw) if len(raw) <= _MAX_EXPONENT_CHARS else 1 << 40  # too far to be worth reading


def _read_digits(digits: bytes) -> int:
    """``int`` for as many digits as a float may have; Python refuses more than 4,300 at once."""
    half = len(digits) - 4000
    if half <= 0:
        return int(digits)
    return int(digits[:half]) * 10**4000 + int(digits[half:])


def _write_digits(value: int) -> str:
    high, low = divmod(value, 10**4000)
    return f"{high}{low:04000d}" if high else str(low)


def round_long_double(value: Fraction) -> Fraction | None:
    """Round to the nearest long double, ties to even; None where it overflows."""
    if not value:
        return value
    numerator, denominator = abs(value.numerator), value.denominator
    # The exponent of the lowest bit kept; it never goes below that of the smallest denormal.
    shift = numerator.bit_length() - denominator.bit_length() - _MANTISSA_BITS
    shift = max(shift, _MIN_EXPONENT)
    mantissa = _divide_even(numerator, denominator, shift)
    if mantissa.bit_length() > _MANTISSA_BITS:
        shift += 1
        mantissa = _divide_even(numerator, denominator, shift)
    if mantissa.bit_length() + shift > _MAX_EXPONENT:
        return None
    rounded = Fraction(mantissa << shift) if shift >= 0 else Fraction(mantissa, 1 << -shift)
    return -rounded if value < 0 else rounded


def _divide_even(numerator: int, denominator: int, shift: int) -> int:
    """Return numerator / denominator / 2**shift, rounded half to even."""
    if shift >= 0:
        denominator <<= shift
    else:
        numerator <<= -shift
    quotient, rest = divmod(numerator, denominator)
    doubled = rest * 2
    if doubled > denominator or (doubled == denominator and quotient & 1):
        quotient += 1
    return quotient


def format_long_double(value: Fraction) -> bytes:
    """Write as ``%.17Lf`` does, without trailing zeros: how INCRBYFLOAT stores its result."""
    scaled = _divide_even(abs(value.numerator) * 10**17, value.denominator, 0)
    whole, part = divmod(scaled, 10**17)
    if not scaled:
        return b"0"
    text = f"{_write_digits(whole)}.{part:017d}".rstrip("0").rstrip(".")
    return (f"-{text}" if value < 0 else text).encode()


def parse_seconds(raw: bytes) -> float | None:
    """Read a non-negative decimal number of seconds, as DEBUG SLEEP and timeouts take it."""
    value = parse_long_double(raw)
    if value is None or isinstance(value, float):
        return None
    return float(value)
