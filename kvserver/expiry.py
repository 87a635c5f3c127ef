"""Which key expires when: deadlines in order, so that the next due keys are found at once.

Keys are held in buckets of 16 ms, and the buckets in a sorted dictionary. Many deadlines in one
bucket cost what a set costs; deadlines far apart cost O(log n) each. A bucket of one key holds the
key itself and no set, because that is the common case when deadlines are spread over days.

Exact: every key with a deadline is in exactly one bucket, no stale entries to clean up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sortedcontainers import SortedDict

__all__ = ["Deadlines"]

BUCKET_SHIFT: Final = 4
"""A bucket spans 2**4 ms: a sixth of the 100 ms within which an expired key must be gone."""


class Deadlines(dict[bytes, int]):
    """key -> deadline in epoch ms, for look-ups as quick as any; plus the order of the deadlines.

    Look up with the methods of dict; change only with ``put`` and ``drop``.
    """

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        super().__init__()
        self._buckets: SortedDict = SortedDict()  # bucket -> key | set of keys

    def put(self, key: bytes, deadline_ms: int) -> None:
        """Set the deadline of a key, whether it had one or not."""
        bucket = deadline_ms >> BUCKET_SHIFT
        old = self.get(key)
        self[key] = deadline_ms
        if old is not None:
            if old >> BUCKET_SHIFT == bucket:
                return
            self._leave(key, old >> BUCKET_SHIFT)
        held = self._buckets.get(bucket)
        if held is None:
            self._buckets[bucket] = key
        elif type(held) is set:
            held.add(key)
        else:
            self._buckets[bucket] = {held, key}

    def put_many(self, keys: Sequence[bytes], deadlines_ms: Sequence[int]) -> None:
        """The same as ``put`` of each, in this order; quicker where all fall into one bucket."""
        bucket = min(deadlines_ms) >> BUCKET_SHIFT
        if max(deadlines_ms) >> BUCKET_SHIFT != bucket:
            for key, deadline_ms in zip(keys, deadlines_ms, strict=True):
                self.put(key, deadline_ms)
            return
        for key in self.keys() & keys:
            old = self[key] >> BUCKET_SHIFT
            if old != bucket:
                self._leave(key, old)
        self.update(zip(keys, deadlines_ms, strict=True))
        held = self._buckets.get(bucket)
        if held is None:
            self._buckets[bucket] = set(keys) if len(keys) > 1 else keys[0]
        elif type(held) is set:
            held.update(keys)
        else:
            self._buckets[bucket] = {held, *keys}

    def drop_many(self, keys: Iterable[bytes]) -> None:
        """Forget the deadlines of keys, as far as they have one."""
        if self:
            for key in self.keys() & keys:
                self.drop(key)

    def drop(self, key: bytes) -> bool:
        """Forget the deadline of a key; whether it had one."""
        old = self.pop(key, None)
        if old is None:
            return False
        self._leave(key, old >> BUCKET_SHIFT)
        return True

    def _leave(self, key: bytes, bucket: int) -> None:
        held: Any = self._buckets[bucket]
        if type(held) is set:
            held.discard(key)
            if held:
                return
        del self._buckets[bucket]

    def due(self, now_ms: int, limit: int) -> list[bytes]:
        """Return up to ``limit`` keys whose deadline has passed, about the oldest first."""
        found: list[bytes] = []
        last = now_ms >> BUCKET_SHIFT
        for bucket in self._buckets:
            if bucket > last or len(found) >= limit:
                break
            held = self._buckets[bucket]
            if type(held) is not set:
                held = (held,)
            if bucket == last:
                held = [key for key in held if self[key] <= now_ms]
            for key in held:
                found.append(key)
                if len(found) >= limit:
                    break
        return found

    def soonest_first(self) -> Iterator[bytes]:
        """Yield keys in the order of their deadlines, to 16 ms. Change nothing meanwhile."""
        for held in self._buckets.values():
            if type(held) is set:
                yield from held
            else:
                yield held

    def release(self) -> list[dict[Any, Any]]:
        """Return the dictionaries inside, for whoever frees them a slice at a time."""
        return [self, self._buckets]

    def check(self) -> None:
        """Assert that buckets and deadlines say the same."""
        seen: dict[bytes, int] = {}
        for bucket, held in self._buckets.items():
            assert held != set(), bucket
            for key in held if type(held) is set else (held,):
                assert key not in seen, key
                seen[key] = bucket
        assert seen == {key: ms >> BUCKET_SHIFT for key, ms in self.items()}
