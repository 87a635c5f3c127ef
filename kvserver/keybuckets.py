"""The keys in buckets by their hash: what SCAN, KEYS and RANDOMKEY walk, in slices.

A plain dict cannot be walked a slice at a time while it changes, and a copy of a million keys for
each SCAN is a stall. These lists cost 8 bytes a key and one append for each *new* key: it goes to
``arrivals``, and from there to its bucket when somebody needs it there. Deleting leaves a stale
entry behind; when half of all are stale, some arrivals are sorted into buckets, or the next bucket
is rewritten with each of its keys once, and so on while that is so: never all in one step.

A scan walks the arrivals, then from the last bucket to the first, each from its end to its
beginning: what comes later lands beyond where it is, so a scan ends however fast keys come, and its
cursor reaches 0 exactly when it is complete. A key that stays during a whole scan is never missed:
it moves at most from the arrivals to a bucket, which the scan sees later, and a bucket that is
rewritten keeps its old entries for scans that are inside it (up to ``KEPT_GENERATIONS`` of them; an
older scan starts again with that bucket, which repeats keys but misses none).
"""

from __future__ import annotations

import random
from collections.abc import Container, Iterator
from itertools import chain
from typing import Final

__all__ = ["ENTRIES_AT_ONCE", "KeyBuckets"]

BUCKETS: Final = 512
"""A power of two. With ten million keys, rewriting one of so many takes 3 ms."""
KEPT_GENERATIONS: Final = 16
ENTRIES_A_DELETION: Final = 8
SLACK: Final = 1024
"""Stale entries that are tolerated whatever the number of keys."""
ENTRIES_AT_ONCE: Final = 4096
"""So many are sorted or rewritten in one step, a millisecond, and the rest of a bucket."""
_MASK: Final = BUCKETS - 1
_INDEX_BITS: Final = 32
_GENERATION_BITS: Final = 20
_GENERATION_MASK: Final = (1 << _GENERATION_BITS) - 1


class KeyBuckets:
    """Keys by their hash; may hold keys that are gone, and keys that are here twice."""

    __slots__ = (
        "_buckets",
        "_generations",
        "_next",
        "_owed",
        "_retired",
        "_scanned",
        "_sorted",
        "arrivals",
    )

    def __init__(self) -> None:
        self._generations = [1] * (BUCKETS + 1)
        """How often each bucket was rewritten; the last one stands for the arrivals."""
        self._next = self._owed = 0
        self._begin()

    def _begin(self) -> None:
        self.arrivals: list[bytes] = []
        """Whoever stores a key that was not there appends it here."""
        self._buckets: list[list[bytes]] = [[] for _ in range(BUCKETS)]
        self._sorted = 0
        """Entries in buckets."""
        self._scanned: set[int] = set()
        """Buckets that a scan is inside of."""
        self._retired: dict[tuple[int, int], list[bytes]] = {}

    def release(self) -> list[list[bytes]]:
        """Forget all keys; return the lists, for whoever frees them a slice at a time."""
        lists = [self.arrivals, *self._buckets, *self._retired.values()]
        self._begin()
        return list(filter(None, lists))

    def __len__(self) -> int:
        """How many entries there are, stale ones included."""
        return self._sorted + len(self.arrivals)

    def __iter__(self) -> Iterator[bytes]:
        return chain(self.arrivals, *self._buckets)

    def crowded(self, keys: int) -> bool:
        """Whether more than half of the entries are stale, when there are so many keys."""
        return self._sorted + len(self.arrivals) > 2 * keys + SLACK

    def thin_out(self, data: Container[bytes], keys: int) -> None:
        """Do a little against stale entries if half of them are; ``data`` holds so many keys.

        To be called for every key that goes. While there are too many, it looks at
        ``ENTRIES_A_DELETION`` entries a call, in steps of ``ENTRIES_AT_ONCE``.
        """
        if not self.crowded(keys):
            return
        if len(self) <= ENTRIES_AT_ONCE:
            self.rewrite(data)
            return
        self._owed += ENTRIES_A_DELETION
        if self._owed < ENTRIES_AT_ONCE:
            return
        while self._owed > 0:
            if self.arrivals:
                self._owed -= self.sort_some(data)
            else:
                self._owed -= len(self._buckets[self._next]) + 1
                self.bucket(self._next, data)
                self._next = (self._next + 1) & _MASK

    def sort_some(self, data: Container[bytes]) -> int:
        """Sort some of the arrivals, as far as they are in ``data``; return how many it took."""
        buckets = self._buckets
        some = self.arrivals[-ENTRIES_AT_ONCE:]
        del self.arrivals[-ENTRIES_AT_ONCE:]
        for key in some:
            if key in data:
                buckets[hash(key) & _MASK].append(key)
                self._sorted += 1
        return len(some)

    def filled(self) -> list[int]:
        """Return the numbers of the buckets that hold something."""
        return [number for number, bucket in enumerate(self._buckets) if bucket]

    def rewrite(self, data: Container[bytes]) -> None:
        """Rewrite all buckets; O(n)."""
        while self.arrivals:
            self.sort_some(data)
        for number in self.filled():
            self.bucket(number, data)

    def bucket(self, number: int, data: Container[bytes]) -> list[bytes]:
        """Rewrite a bucket with each key that is in ``data`` once, and return it: for reading."""
        old = self._buckets[number]
        new = [key for key in dict.fromkeys(old) if key in data]
        if len(new) == len(old):
            return old
        if number in self._scanned:
            self._scanned.remove(number)
            self._retired[number, self._generations[number]] = old
            while len(self._retired) > KEPT_GENERATIONS:
                del self._retired[next(iter(self._retired))]
        self._generations[number] = self._generations[number] % _GENERATION_MASK + 1
        self._buckets[number] = new
        self._sorted += len(new) - len(old)
        return new

    def choose(self) -> bytes:
        """Return an entry, each with the same chance; there must be one. O(buckets)."""
        index = random.randrange(len(self))  # noqa: S311 - nothing to guess here
        for entries in (self.arrivals, *self._buckets):
            if index < len(entries):
                return entries[index]
            index -= len(entries)
        raise AssertionError("more entries are counted than there are")

    def sample(self) -> bytes:
        """Return an entry, each with about the same chance; there must be one. O(1)."""
        index = random.randrange(len(self))  # noqa: S311 - nothing to guess here
        if index < len(self.arrivals):
            return self.arrivals[index]
        number = random.randrange(BUCKETS)  # noqa: S311 - nothing to guess here
        while not self._buckets[number]:
            number = (number + 1) & _MASK
        return random.choice(self._buckets[number])  # noqa: S311 - nothing to guess here

    def slice_at(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor (0 at the end) and up to ``count`` entries from ``cursor`` on.

        Entries may be stale or repeated. 0 begins a scan, and what is no cursor of ours a bucket.
        """
        place = min(cursor >> _INDEX_BITS + _GENERATION_BITS, BUCKETS) if cursor else BUCKETS
        generation = cursor >> _INDEX_BITS & _GENERATION_MASK
        index = cursor & (1 << _INDEX_BITS) - 1
        entries = self.arrivals if place == BUCKETS else self._buckets[place]
        if generation != self._generations[place]:
            retired = self._retired.get((place, generation))
            if retired is not None:
                entries = retired
            else:
                generation, index = self._generations[place], len(entries)
        found: list[bytes] = []
        while True:
            index = min(index, len(entries))
            start = max(0, index - count + len(found))
            found += entries[start:index]
            if start:
                if generation == self._generations[place]:
                    self._scanned.add(place)
                return self._cursor(place, generation, start), found
            self._retired.pop((place, generation), None)
            place -= 1
            while place >= 0 and not self._buckets[place]:
                place -= 1
            if place < 0:
                return 0, found
            entries = self._buckets[place]
            generation, index = self._generations[place], len(entries)
            if len(found) >= count:
                return self._cursor(place, generation, index), found

    @staticmethod
    def _cursor(place: int, generation: int, index: int) -> int:
        return (place << _GENERATION_BITS | generation) << _INDEX_BITS | index
