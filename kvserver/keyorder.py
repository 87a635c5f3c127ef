"""The keys in the order in which they came: what SCAN, KEYS and RANDOMKEY walk, in slices.

A plain dict cannot be walked a slice at a time while it changes, and a copy of a million keys for
each SCAN is a stall. This list costs 8 bytes a key and one append for each *new* key; deleting
leaves a stale entry behind, and when half is stale the list is renewed from the dict.

A scan walks from the end down to the beginning: what comes later lands beyond its start, so a scan
ends however fast keys come, and its cursor reaches 0 exactly when it is complete. A key that stays
during a whole scan is never missed: renewing the list keeps the old one for scans that are under
way (up to ``KEPT_GENERATIONS`` of them; an older scan starts again, which repeats keys but misses
none).
"""

from __future__ import annotations

from typing import Final

__all__ = ["KeyOrder"]

KEPT_GENERATIONS: Final = 4
_INDEX_BITS: Final = 40
_GENERATION_MASK: Final = (1 << 23) - 1
SLACK: Final = 1024
"""Stale entries that are tolerated whatever the number of keys."""


class KeyOrder(list[bytes]):
    """Keys, oldest first; may hold keys that are gone and keys that are here twice."""

    __slots__ = ("_generation", "_retired", "_scanned")

    def __init__(self) -> None:
        super().__init__()
        self._generation = 1
        self._retired: dict[int, list[bytes]] = {}
        self._scanned = False

    def crowded(self, keys: int) -> bool:
        """Whether more than half of the list is stale."""
        return len(self) > 2 * keys + SLACK

    def renew(self, keys: list[bytes]) -> None:
        """Start a new generation with exactly these keys; O(n)."""
        if self._scanned:
            self._retired[self._generation] = list(self)
            while len(self._retired) > KEPT_GENERATIONS:
                del self._retired[next(iter(self._retired))]
        self._generation = (self._generation + 1) & _GENERATION_MASK
        self._scanned = False
        self[:] = keys

    def slice_at(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor (0 at the end) and up to ``count`` entries before ``cursor``.

        Entries may be stale or repeated; an unknown cursor starts again from the end.
        """
        generation, index = cursor >> _INDEX_BITS, cursor & ((1 << _INDEX_BITS) - 1)
        keys: list[bytes] = self
        if generation != self._generation:
            retired = self._retired.get(generation)
            if retired is None or cursor == 0:
                generation, index = self._generation, len(self)
            else:
                keys = retired
        index = min(index, len(keys))
        start = max(0, index - count)
        found = keys[start:index]
        if start == 0:
            self._retired.pop(generation, None)
            return 0, found
        if generation == self._generation:
            self._scanned = True
        return generation << _INDEX_BITS | start, found
