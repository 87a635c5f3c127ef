"""Which summaries changed, for whoever keeps an index of them: O(1) a change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["ChangeFeed"]

_FEED_KEYS: Final = 4_000_000


class ChangeFeed:
    """Keys of summaries that changed since ``take`` was last called, in batches as they came."""

    __slots__ = ("_batches", "_size", "bound", "overflow")

    def __init__(self) -> None:
        self._batches: list[Sequence[bytes]] = []
        self._size = 0
        self.bound = _FEED_KEYS
        """Keys that are remembered; the follower may set it."""
        self.overflow = False
        """More changed than is remembered: the follower must look at all keys."""

    def add(self, keys: Sequence[bytes]) -> None:
        """Remember one batch; O(1)."""
        self._size += len(keys)
        if self._size > self.bound:
            self._batches.clear()
            self.overflow = True
        else:
            self._batches.append(keys)

    def take(self) -> tuple[list[Sequence[bytes]], bool]:
        """Return the batches and whether some were lost, and start again."""
        batches, lost = self._batches, self.overflow
        self._batches, self._size, self.overflow = [], 0, False
        return batches, lost
