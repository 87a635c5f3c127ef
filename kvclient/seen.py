"""Which keys were seen before, in about 30 bytes a key.

SCAN never misses a key that stays, at the price that a key which was removed and written again may
come twice. Whoever must not repeat a key asks here. A set of the keys themselves would take four
times the memory and more for long keys.

Keys are told apart by 128 bits of a keyed hash: among a thousand million keys the odds that any two
are taken for one are below one in 10^20.
"""

from __future__ import annotations

import secrets
from array import array
from hashlib import blake2b
from typing import Final

__all__ = ["Seen"]

FIRST_SLOTS: Final = 1024


class Seen:
    """A set of keys that only grows. ``add`` is O(1) on average."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(16)
        self._slots = FIRST_SLOTS
        self._table = array("Q", bytes(16 * FIRST_SLOTS))
        """Pairs of words; 0, 0 is a free slot."""
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, key: bytes) -> bool:
        """Take a key and tell whether it is new."""
        low, high = self._words(key)
        at = self._find(low, high)
        if self._table[at + 1]:
            return False
        self._table[at] = low
        self._table[at + 1] = high
        self._n += 1
        if self._n * 3 > self._slots * 2:
            self._grow()
        return True

    def __contains__(self, key: bytes) -> bool:
        """Whether a key was added."""
        return bool(self._table[self._find(*self._words(key)) + 1])

    def _words(self, key: bytes) -> tuple[int, int]:
        digest = blake2b(key, digest_size=16, key=self._secret).digest()
        low = int.from_bytes(digest[:8], "little")
        return low, int.from_bytes(digest[8:], "little") | 1  # never the mark of a free slot

    def _find(self, low: int, high: int) -> int:
        """Return where the pair is, or the free slot where it belongs."""
        table, mask = self._table, self._slots - 1
        slot = low & mask
        while (held := table[2 * slot + 1]) and (held != high or table[2 * slot] != low):
            slot = (slot + 1) & mask
        return 2 * slot

    def _grow(self) -> None:
        old = self._table
        self._slots *= 2
        self._table = array("Q", bytes(16 * self._slots))
        for at in range(0, len(old), 2):
            if old[at + 1]:
                to = self._find(old[at], old[at + 1])
                self._table[to] = old[at]
                self._table[to + 1] = old[at + 1]
