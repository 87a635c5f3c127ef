"""Sets of slots: which keys have a property, in as few bytes as that takes. Pure.

A slot is a small number that stands for a key. Few slots are kept as a set of the very integers
that the index holds anyway; many as one bit each. A million keys with a property are 125 kB, a
thousand of them about 60 kB, and combining two large ones is one AND of long integers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Final

__all__ = ["Posting", "bits_of", "slots_in"]

_DENSE_SHARE: Final = 400
"""More than one in so many slots: bits take less than a set (a set takes about 50 bytes a slot)."""
_DENSE_MIN: Final = 64

_BITS: Final = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))
_ANY_BIT: Final = re.compile(rb"[^\x00]", re.DOTALL)


class Posting:
    """The slots that have one property. Only grows; its owner forgets it as a whole."""

    __slots__ = ("bits", "few", "size")

    def __init__(self) -> None:
        self.size = 0
        self.few: set[int] | None = set()
        """The slots, while they are few."""
        self.bits = bytearray()
        """One bit a slot, once they are many."""

    def add(self, slot: int, universe: int) -> None:
        """Add a slot; ``universe`` is the number of slots there are."""
        few = self.few
        if few is not None:
            few.add(slot)
            self.size = len(few)
            if self.size > _DENSE_MIN and self.size * _DENSE_SHARE > universe:
                self._make_dense(universe)
            return
        at, bit = slot >> 3, 1 << (slot & 7)
        bits = self.bits
        if at >= len(bits):
            bits.extend(bytes(max(universe // 8 + 1, at + 1) - len(bits)))
        if not bits[at] & bit:
            bits[at] |= bit
            self.size += 1

    def _make_dense(self, universe: int) -> None:
        assert self.few is not None
        self.bits = bits_of(self.few, universe)
        self.few = None

    def __contains__(self, slot: int) -> bool:
        if self.few is not None:
            return slot in self.few
        at = slot >> 3
        return at < len(self.bits) and bool(self.bits[at] >> (slot & 7) & 1)

    def as_int(self, universe: int) -> int:
        """Return all slots as the bits of one integer; O(universe / 8), a fast eighth."""
        bits = self.bits if self.few is None else bits_of(self.few, universe)
        return int.from_bytes(bits, "little")

    def memory_bytes(self) -> int:
        """About how much memory this takes (the integers in a set belong to the index)."""
        return (
            sys.getsizeof(self)
            + sys.getsizeof(self.bits)
            + (0 if self.few is None else sys.getsizeof(self.few))
        )


def bits_of(slots: set[int], universe: int) -> bytearray:
    """Return slots as bits."""
    bits = bytearray(universe // 8 + 1)
    for slot in slots:
        bits[slot >> 3] |= 1 << (slot & 7)
    return bits


def slots_in(bits: bytes, at_once: int) -> Iterator[list[int]]:
    """Yield the slots of some bits in order, about ``at_once`` at a time; skips gaps quickly."""
    found: list[int] = []
    for match in _ANY_BIT.finditer(bits):
        at = match.start()
        found += [at * 8 + bit for bit in _BITS[bits[at]]]
        if len(found) >= at_once:
            yield found
            found = []
    if found:
        yield found
