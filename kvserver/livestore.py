"""Keys, strings and deadlines as clients see and change them, and what changed.

Guarantees:

* Every change goes through a method here (or of `Keyspace`, for summaries) and appends one *effect*
  (see ``store``) to ``effects``.
* A key whose deadline has passed is gone for every reader at once; the first who meets it, or
  ``expire_due``, deletes it and says so with a ``del`` effect. A clock that jumps back therefore
  brings nothing back to life.

The time is ``now``, epoch milliseconds, which the owner sets (once a turn) with ``tick``.

Listeners cost one test of a flag when nobody uses them: ``listen`` is told (key, event) of each
change, with the names of Redis's keyspace events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from itertools import repeat
from typing import Final

from kvserver.errors import CommandError
from kvserver.keybuckets import ENTRIES_AT_ONCE
from kvserver.longstring import LongString, String
from kvserver.store import Effect, Store
from kvserver.values import SummaryValue, Value

__all__ = ["WRONG_TYPE", "Effect", "Event", "Listener", "LiveStore", "wall_clock_ms"]

Listener = Callable[[bytes, str], None]
ListenerToMany = Callable[[Sequence[bytes], str], None]
Event = tuple[bytes, str | bytes]
"""A key and what happened to it; or a channel and a message to it."""

WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
_EXPIRY_TRIES: Final = 100


def wall_clock_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


class LiveStore(Store):
    """Keys with strings or summaries, a clock, and listeners."""

    __slots__ = (
        "_listeners",
        "any_gaps",
        "clock",
        "diverted",
        "effects",
        "expired",
        "expiry_lag_max_ms",
        "expiry_lag_ms",
        "hits",
        "listening",
        "misses",
        "now",
        "packed_effects",
    )

    def __init__(
        self, clock: Callable[[], int] = wall_clock_ms, *, max_patterns: int = 10_000
    ) -> None:
        super().__init__(max_patterns=max_patterns)
        self.clock = clock
        self.now = clock()
        """Epoch ms; stands still between two calls of ``tick``."""
        self.effects: list[Effect] = []
        """What changed since the owner last cleared it."""
        self.packed_effects: list[bytes] = []
        """The same of long writes, packed for the journal; ``effects`` come after them."""
        self.listening = False
        self.diverted: list[Event] | None = None
        """Where changes are noted for later, while it is a list, and nobody is told."""
        self.any_gaps = False
        """Whether the last look-up of several keys missed one: the next may well miss one too."""
        self.hits = 0
        self.misses = 0
        self.expired = 0
        self.expiry_lag_ms = 0
        """By how much the last key that expired by itself was late."""
        self.expiry_lag_max_ms = 0
        self._listeners: list[tuple[Listener, ListenerToMany]] = []

    def clear_effects(self) -> None:
        """Forget what changed: it is in the journal."""
        self.effects.clear()
        self.packed_effects.clear()

    def tick(self) -> int:
        """Look at the clock; return and keep what it says."""
        self.now = self.clock()
        return self.now

    def alive(self, key: bytes) -> bool:
        """Whether a key *that has a deadline* is still here; deletes it when it is due."""
        if self.deadlines[key] > self.now:
            return True
        self._expire(key)
        return False

    def expire_due(self, limit: int) -> int:
        """Delete up to ``limit`` keys that are due; return how many were."""
        due = self.deadlines.due(self.now, limit)
        for key in due:
            lag_ms = self.now - self.deadlines[key]
            self.expiry_lag_max_ms = max(self.expiry_lag_max_ms, lag_ms)
            self.expiry_lag_ms = lag_ms
            self._expire(key)
        return len(due)

    def _expire(self, key: bytes) -> None:
        self.expired += 1
        self._remove(key, "expired")

    def lookup(self, key: bytes) -> Value | None:
        """Return the value, counting a hit or a miss; None when there is none."""
        value = self.data.get(key)
        if value is None or (key in self.deadlines and not self.alive(key)):
            self.misses += 1
            return None
        self.hits += 1
        return value

    def peek(self, key: bytes) -> Value | None:
        """Return the value without counting."""
        value = self.data.get(key)
        if value is None or (key in self.deadlines and not self.alive(key)):
            return None
        return value

    def string(self, key: bytes) -> String | None:
        """Return the value of a string, counting; raises CommandError (WRONGTYPE) for a summary."""
        value = self.lookup(key)
        if type(value) is SummaryValue:
            raise CommandError(WRONG_TYPE)
        return value

    def exists(self, key: bytes) -> bool:
        """Whether there is such a key."""
        return key in self.data and (key not in self.deadlines or self.alive(key))

    def deadline(self, key: bytes) -> int | None:
        """Return when a key that exists expires, None for never."""
        return self.deadlines.get(key)

    def random_key(self) -> bytes | None:
        """Return a key that exists, each with the same chance; None when there is none."""
        data, buckets, deadlines = self.data, self.buckets, self.deadlines
        while data:
            for _ in range(_EXPIRY_TRIES):
                key = buckets.choose()
                if key in data and (key not in deadlines or self.alive(key)):
                    return key
                if not data:
                    return None
            buckets.rewrite(data)
            if self.expire_due(len(data)) == 0 and all(
                deadlines.get(key, self.now + 1) <= self.now for key in buckets
            ):
                return None
        return None

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor (0 at the end) and some keys; ``keybuckets`` says which."""
        cursor, found = self.buckets.slice_at(cursor, count)
        return cursor, self._present(found)

    def sort_arrivals(self) -> Generator[None]:
        """Sort new keys into their buckets, with a yield between steps; the last leaves none."""
        buckets = self.buckets
        for _ in range(len(buckets.arrivals) // ENTRIES_AT_ONCE):
            buckets.sort_some(self.data)  # which is another one after FLUSHALL
            yield
        while buckets.arrivals:  # a few, and what came meanwhile
            buckets.sort_some(self.data)

    def in_bucket(self, number: int) -> list[bytes]:
        """Return the keys of a bucket, each once."""
        return self._present(self.buckets.bucket(number, self.data))

    def _present(self, keys: list[bytes]) -> list[bytes]:
        data, deadlines = self.data, self.deadlines
        if not deadlines:
            return [key for key in keys if key in data]
        return [key for key in keys if key in data and (key not in deadlines or self.alive(key))]

    def set(
        self, key: bytes, value: String, deadline_ms: int | None = None, event: str = "set"
    ) -> None:
        """Make the value of a key this string, with this deadline or none."""
        data = self.data
        size = len(data)
        data[key] = value
        if len(data) != size:
            self.buckets.arrivals.append(key)
        if deadline_ms is None:
            if key in self.deadlines:
                self.deadlines.drop(key)
            self.effects.append(("set", key, value))
        else:
            self.deadlines.put(key, deadline_ms)
            self.effects.append(("set", key, value, deadline_ms))
        if self.listening:
            self.touched(key, event)

    def set_many(
        self, keys: Sequence[bytes], values: Sequence[bytes], tables: Sequence[Effect] = ()
    ) -> None:
        """Set many strings, without deadlines; a third of the price of one by one.

        ``tables`` are effects that say the same, if there are any already.
        """
        if not self.listening and keys[0] == keys[-1] and keys.count(keys[0]) == len(keys):
            # A record is applied whole: what it writes to a key but the last cannot be seen again.
            keys, values, tables = keys[-1:], values[-1:], ()
        self._apply_mst(keys, values)
        self.effects += tables or (("mst", keys, values),)
        if self.listening:
            self.touched_many(keys, "set")

    def set_many_until(
        self, keys: Sequence[bytes], values: Sequence[bytes], deadlines_ms: Sequence[int]
    ) -> None:
        """Set many strings with deadlines that are to come, while nobody listens."""
        self._store_many(keys, values)
        self.deadlines.put_many(keys, deadlines_ms)
        self.effects += zip(repeat("set"), keys, values, deadlines_ms)

    def put(self, key: bytes, value: Value, deadline_ms: int | None, event: str) -> None:
        """Make the value of a key this one, of whatever type (COPY, RENAME, BITOP)."""
        if type(value) is LongString:
            self.expect_long_strings()
        if type(value) is not SummaryValue:
            self.set(key, value, deadline_ms, event)
            return
        if key in self.data:
            self._remove(key, None)
        self.data[key] = value
        self.buckets.arrivals.append(key)
        self.effects.append(("mrg", key, value))
        if deadline_ms is not None:
            self.deadlines.put(key, deadline_ms)
            self.effects.append(("exp", key, deadline_ms))
        self._changed((key,))
        if self.listening:
            self.touched(key, event)

    def append(self, key: bytes, suffix: bytes) -> int:
        """Append to a string, keeping its deadline; return the new length."""
        self.string_or_none(key)
        length = self._write_part(key, None, suffix)
        self.effects.append(("app", key, suffix))
        if self.listening:
            self.touched(key, "append")
        return length

    def overwrite(self, key: bytes, offset: int, part: bytes, event: str) -> int:
        """Write over a part of a string, filled with NUL up to there, keeping its deadline.

        Returns the new length. The effect holds the part alone, however long the string is.
        """
        self.string_or_none(key)
        length = self._write_part(key, offset, part)
        self.effects.append(("ovr", key, offset, part))
        if self.listening:
            self.touched(key, event)
        return length

    def replace_by_equal(self, key: bytes, string: String, equal: LongString) -> None:
        """Keep the same string in blocks from now on, if it is still there."""
        if self.data.get(key) is string:
            self.expect_long_strings()
            self.data[key] = equal

    def string_or_none(self, key: bytes) -> String | None:
        """Like ``string``, without counting."""
        value = self.peek(key)
        if type(value) is SummaryValue:
            raise CommandError(WRONG_TYPE)
        return value

    def delete(self, key: bytes, event: str = "del") -> bool:
        """Delete a key; whether there was one."""
        if not self.exists(key):
            return False
        self._remove(key, event)
        return True

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Delete keys that are all there, each named once, while nobody listens."""
        values = list(map(self.data.pop, keys))
        if self._feeds and any(type(value) is SummaryValue for value in values):
            self._changed(keys)
        self.deadlines.drop_many(keys)
        self.effects += zip(repeat("del"), keys)
        if self.buckets.crowded(len(self.data)):
            for _ in keys:
                self.buckets.thin_out(self.data, len(self.data))

    def _remove(self, key: bytes, event: str | None) -> None:
        value = self.data.pop(key)
        if key in self.deadlines:
            self.deadlines.drop(key)
        self.effects.append(("del", key))
        if self._feeds and type(value) is SummaryValue:
            self._changed((key,))
        if self.buckets.crowded(len(self.data)):
            self.buckets.thin_out(self.data, len(self.data))
        if self.listening and event is not None:
            self.touched(key, event)

    def expire(self, key: bytes, deadline_ms: int | None) -> bool:
        """Set the deadline of a key, or take it away; whether there is such a key.

        A deadline that has passed deletes the key at once.
        """
        if not self.exists(key):
            return False
        if deadline_ms is None:
            if self.deadlines.drop(key):
                self.effects.append(("exp", key, None))
                if self.listening:
                    self.touched(key, "persist")
        elif deadline_ms <= self.now:
            self._remove(key, "del")
        else:
            self.deadlines.put(key, deadline_ms)
            self.effects.append(("exp", key, deadline_ms))
            if self.listening:
                self.touched(key, "expire")
        return True

    def expire_many(self, keys: Sequence[bytes], deadlines_ms: Sequence[int]) -> None:
        """Set deadlines that are to come, of keys that are all there, while nobody listens."""
        if keys:
            self.deadlines.put_many(keys, deadlines_ms)
            self.effects += zip(repeat("exp"), keys, deadlines_ms)

    def clear(self) -> None:
        """Delete everything, the books of sources and the patterns too."""
        self._apply_clr()
        self.effects.append(("clr",))
        if self.listening:
            self.touched(b"", "flushdb")

    def listen(self, listener: Listener, to_many: ListenerToMany | None = None) -> None:
        """Tell ``listener(key, event)`` of each change from now on.

        ``to_many(keys, event)`` is told of an event of many keys at once, if that is any quicker.
        """

        def one_by_one(keys: Sequence[bytes], event: str) -> None:
            for key in keys:
                listener(key, event)

        self._listeners.append((listener, to_many or one_by_one))
        self.listening = True

    def unlisten(self, listener: Listener) -> None:
        """Tell it no more."""
        self._listeners = [each for each in self._listeners if each[0] != listener]
        self.listening = bool(self._listeners)

    def touched(self, key: bytes, event: str) -> None:
        """Tell the listeners; call it only when ``listening``."""
        if self.diverted is not None:
            self.diverted.append((key, event))
            return
        for listener, _ in self._listeners:
            listener(key, event)

    def touched_many(self, keys: Sequence[bytes], event: str) -> None:
        """The same of many keys to which the same happened, in this order."""
        if self.diverted is not None:
            self.diverted += zip(keys, repeat(event))
            return
        for _, listener in self._listeners:
            listener(keys, event)

    def _changed(self, keys: Sequence[bytes]) -> None:
        for feed in self._feeds:
            feed.add(keys)
