"""The longest common subsequence of two strings, with the choices that Redis makes among equals.

Instead of a table of numbers each row is one big integer, whose zero bits are the places where the
length grows (Hyyrö's bit-parallel recurrence): 11,000 against 11,000 bytes, which is as far as the
limit on transient memory goes, take milliseconds and 15 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Match(NamedTuple):
    """A stretch that both strings share; ends included."""

    first_start: int
    first_end: int
    second_start: int
    second_end: int

    @property
    def length(self) -> int:
        """How many bytes they share here."""
        return self.first_end - self.first_start + 1


def rows(first: bytes, second: bytes) -> Iterator[int]:
    """Yield, for each prefix of ``first``, a number whose zero bits say where the length grows."""
    width = len(second)
    full = (1 << width) - 1
    masks = {byte: _places(second, byte) for byte in set(first)}
    row = full
    yield row
    for byte in first:
        hit = row & masks[byte]
        row = ((row + hit) | (row - hit)) & full
        yield row


def _places(text: bytes, byte: int) -> int:
    """Return a number with a bit for each place where ``byte`` stands in ``text``."""
    marks = text.translate(bytes(0x31 if other == byte else 0x30 for other in range(256)))
    return int(marks[::-1], 2) if marks else 0


def trace(first: bytes, second: bytes, table: Sequence[int]) -> Iterator[Match]:
    """Yield the shared stretches from the last to the first, as Redis reports them.

    ``table`` holds the ``rows`` of the two.
    """
    size = (len(second) + 7) // 8
    i, j = len(first), len(second)
    row = table[i].to_bytes(size, "little") if size else b""
    end_i = end_j = -1  # where the running stretch ends
    start_i = start_j = -1
    while i > 0 and j > 0:
        if first[i - 1] == second[j - 1]:
            i -= 1
            j -= 1
            if end_i < 0:
                end_i, end_j = i, j
            start_i, start_j = i, j
            row = table[i].to_bytes(size, "little")
            if i and j and first[i - 1] == second[j - 1]:
                continue
        elif row[(j - 1) >> 3] >> ((j - 1) & 7) & 1:
            j -= 1
        else:
            i -= 1
            row = table[i].to_bytes(size, "little")
        if end_i >= 0:
            yield Match(start_i, end_i, start_j, end_j)
            end_i = -1
