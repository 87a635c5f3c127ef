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
    """The slots that have one property. Only grows; its owner forgets it as a whole.

    To add a slot append it to ``new`` and call ``settle`` when that has become long: in the hot
    loop of the index this is a fifth of the cost of a method call a slot.
    """

    __slots__ = ("_bits", "_few", "new")

    def __init__(self) -> None:
        self.new: list[int] = []
        """Slots that were added and are not in their place yet; may repeat."""
        self._few: set[int] | None = set()
        self._bits = bytearray()

    def settle(self, universe: int) -> None:
        """Put new slots in their place; ``universe`` is the number of slots there are."""
        new, few = self.new, self._few
        if not new:
            return
        if few is not None:
            few.update(new)
            if len(few) > _DENSE_MIN and len(few) * _DENSE_SHARE > universe:
                self._bits = bits_of(few, universe)
                self._few = None
        else:
            bits = self._bits
            missing = (max(new) >> 3) + 1 - len(bits)
            if missing > 0:
                # An eighth more than needed, so that growing by appending costs O(1) a slot.
                bits.extend(bytes(missing + len(bits) // 8))
            for slot in new:
                bits[slot >> 3] |= 1 << (slot & 7)
        new.clear()

    def few(self, universe: int) -> set[int] | None:
        """Return the slots while they are few, None once they are many. Do not change it."""
        self.settle(universe)
        return self._few

    def bits(self, universe: int) -> int:
        """Return the slots as the bits of one integer."""
        self.settle(universe)
        if self._few is not None:
            return int.from_bytes(bits_of(self._few, universe), "little")
        return int.from_bytes(self._bits, "little")

    def __contains__(self, slot: int) -> bool:
        if slot in self.new:
            return True
        if self._few is not None:
            return slot in self._few
        at = slot >> 3
        return at < len(self._bits) and bool(self._bits[at] >> (slot & 7) & 1)

    def memory_bytes(self) -> int:
        """About how much memory this takes (the integers in a set belong to the index)."""
        return (
            sys.getsizeof(self)
            + sys.getsizeof(self.new)
            + sys.getsizeof(self._bits)
            + (0 if self._few is None else sys.getsizeof(self._few))
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
