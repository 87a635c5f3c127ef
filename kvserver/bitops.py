"""Bits of a byte string, counted from the most significant bit of the first byte, as Redis does.

Pure functions on strings. Everything that walks over a whole value does so in C (big integers,
``lstrip``), so that a bitmap of megabytes costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kvserver.longstring import String

Overflow = Literal["WRAP", "SAT", "FAIL"]

CHUNK_BYTES: Final = 1 << 16
"""Counting and searching in pieces of this size keeps them inside the processor's cache."""


def get_bit(value: String, offset: int) -> int:
    """Return bit ``offset``; what lies behind the end is 0."""
    at = offset >> 3
    return value[at] >> (7 - (offset & 7)) & 1 if at < len(value) else 0


def byte_with_bit(value: String, offset: int, bit: int) -> int:
    """Return the byte that holds bit ``offset``, after that bit has become ``bit``."""
    at = offset >> 3
    byte = value[at] if at < len(value) else 0
    mask = 1 << (7 - (offset & 7))
    return byte | mask if bit else byte & ~mask


def clip_range(start: int, end: int, length: int) -> tuple[int, int] | None:
    """Turn a range with negative indexes into one inside ``length``; None when it is empty."""
    if start < 0:
        start = max(start + length, 0)
    if end < 0:
        end = max(end + length, 0)
    end = min(end, length - 1)
    return None if start > end else (start, end)


def count_bits(value: String, first_bit: int, last_bit: int) -> int:
    """Count the bits set from ``first_bit`` to ``last_bit``, both included and inside the value."""
    first, last = first_bit >> 3, last_bit >> 3
    total = 0
    for at in range(first, last + 1, CHUNK_BYTES):
        piece = value[at : min(at + CHUNK_BYTES, last + 1)]
        total += int.from_bytes(piece, "little").bit_count()
    before = value[first] >> (8 - (first_bit & 7)) if first_bit & 7 else 0
    after = value[last] & ((1 << (7 - (last_bit & 7))) - 1)
    return total - before.bit_count() - after.bit_count()


def find_bit(value: String, bit: int, first_bit: int, last_bit: int) -> int:
    """Return the place of the first bit equal to ``bit`` in the range, or -1."""
    first, last = first_bit >> 3, last_bit >> 3
    blank = b"\xff" if bit == 0 else b"\x00"
    head = value[first]
    if first_bit & 7:  # what lies before the range must not be found
        keep = (1 << (8 - (first_bit & 7))) - 1
        head = head & keep if bit else head | (0xFF & ~keep)
    at, byte = first, head
    if head == blank[0]:
        for start in range(first + 1, last + 1, CHUNK_BYTES):
            piece = value[start : min(start + CHUNK_BYTES, last + 1)]
            rest = piece.lstrip(blank)
            if rest:
                at, byte = start + len(piece) - len(rest), rest[0]
                break
        else:
            return -1
    seen = byte if bit else byte ^ 0xFF
    place = at * 8 + 8 - seen.bit_length()
    return place if place <= last_bit else -1


def combine(operation: bytes, values: Sequence[bytes], length: int) -> bytes:
    """Return AND, OR, XOR of the values, padded with zeros to that length, or NOT of the one."""
    numbers = [int.from_bytes(value.ljust(length, b"\0"), "little") for value in values]
    result = numbers[0]
    if operation == b"NOT":
        result = (1 << 8 * length) - 1 - result
    elif operation == b"AND":
        for number in numbers[1:]:
            result &= number
    elif operation == b"OR":
        for number in numbers[1:]:
            result |= number
    else:
        for number in numbers[1:]:
            result ^= number
    return result.to_bytes(length, "little")


@dataclass(frozen=True, slots=True)
class Field:
    """An integer inside a bitmap: ``i8`` or ``u3`` at a bit offset."""

    signed: bool
    bits: int

    @property
    def low(self) -> int:
        """The smallest value it can hold."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest value it can hold."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def read(self, value: String | bytearray, offset: int) -> int:
        """Return the integer at a bit offset; bits behind the end are 0."""
        first, last = offset >> 3, (offset + self.bits - 1) >> 3
        window = value[first : last + 1].ljust(last - first + 1, b"\0")
        number = int.from_bytes(window, "big") >> (7 - ((offset + self.bits - 1) & 7))
        return self.wrap(number)

    def written(self, value: bytes | bytearray, offset: int, number: int) -> tuple[int, bytes]:
        """Return where, and which bytes, must replace those of the value to hold ``number``."""
        first, last = offset >> 3, (offset + self.bits - 1) >> 3
        window = value[first : last + 1].ljust(last - first + 1, b"\0")
        shift = 7 - ((offset + self.bits - 1) & 7)
        mask = ((1 << self.bits) - 1) << shift
        whole = int.from_bytes(window, "big") & ~mask | (number << shift & mask)
        return first, whole.to_bytes(last - first + 1, "big")

    def wrap(self, number: int) -> int:
        """Keep the lowest bits, as arithmetic of this width does."""
        number &= (1 << self.bits) - 1
        if self.signed and number >> (self.bits - 1):
            number -= 1 << self.bits
        return number

    def fit(self, number: int, overflow: Overflow) -> int | None:
        """Bring a number into the range by the rule given; None when the rule is to fail."""
        if self.low <= number <= self.high:
            return number
        if overflow == "FAIL":
            return None
        if overflow == "SAT":
            return self.high if number > self.high else self.low
        return self.wrap(number)


def parse_field(raw: bytes) -> Field | None:
    """Read ``i1`` … ``i64`` or ``u1`` … ``u63``; None when it is neither."""
    kind, digits = raw[:1], raw[1:]
    if kind not in {b"i", b"u"} or not digits.isdigit() or len(digits) > 2 or digits[:1] == b"0":
        return None
    bits = int(digits)
    limit = 64 if kind == b"i" else 63
    return Field(kind == b"i", bits) if bits <= limit else None
