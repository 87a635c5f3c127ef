"""All keys and values, their deadlines, and what changed: the one place where data changes.

Guarantees:

* Every change goes through a method here and appends one *effect* to ``effects``. The effects of a
  run, given to ``apply`` one after the other, make an equal keyspace; ``dump`` gives the shortest
  effects that do. Effects are absolute (a deadline, not a time to live), so replay is the same
  whenever it happens.
* A key whose deadline has passed is gone for every reader at once; the first who meets it, or
  ``expire_due``, deletes it and says so with a ``del`` effect. A clock that jumps back therefore
  brings nothing back to life.
* ``check`` asserts the invariants; property tests call it after every step.

Effects (op, then arguments), the ones in the last line written by ``dump`` alone::

    set key value [deadline_ms]   mst [key …] [value …]   app key bytes     ovr key offset bytes
    del key                       exp key deadline_ms|nil mrg key delta     ing header deltas   clr
    src …  (ledger)               pat …  (catalogue)

The time is ``now``, epoch milliseconds, which the owner sets (once a turn) with ``tick``.

Hooks cost one test of a flag when nobody uses them: ``listen`` is told (key, event) of each change,
with the names of Redis's keyspace events; ``follow_summaries`` collects keys of changed summaries.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from kvserver.catalogue import Catalogue, PatternError
from kvserver.errors import CommandError, RecordError
from kvserver.expiry import Deadlines
from kvserver.ingest import check_deltas, parse_header, unpack_deltas
from kvserver.keyorder import KeyOrder
from kvserver.ledger import Ledger
from kvserver.values import SummaryValue, appended, folded, is_folded
from parser.summary import SummaryError

__all__ = ["ChangeFeed", "Effect", "Keyspace", "Listener", "wall_clock_ms"]

Effect = Sequence[Any]
Listener = Callable[[bytes, str], None]

WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
_PLAIN_SET: Final = frozenset(["set", b"set"])
_FEED_KEYS: Final = 4_000_000
_EXPIRY_TRIES: Final = 100


def wall_clock_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


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


class Keyspace:
    """One database. Not thread-safe: everything happens in one task."""

    __slots__ = (
        "_appliers",
        "_feeds",
        "_garbage",
        "_listeners",
        "bad_summaries",
        "catalogue",
        "clock",
        "data",
        "deadlines",
        "effects",
        "expired",
        "expiry_lag_max_ms",
        "expiry_lag_ms",
        "hits",
        "ingests",
        "ledger",
        "listening",
        "merged",
        "misses",
        "new_patterns",
        "now",
        "order",
    )

    def __init__(
        self, clock: Callable[[], int] = wall_clock_ms, *, max_patterns: int = 10_000
    ) -> None:
        self.clock = clock
        self.now = clock()
        """Epoch ms; stands still between two calls of ``tick``."""
        self.data: dict[bytes, bytes] = {}
        """Read it freely; a key that is here may be past its deadline (see ``alive``)."""
        self.deadlines = Deadlines()
        self.order = KeyOrder()
        self.effects: list[Effect] = []
        """What changed since the owner last cleared it."""
        self.ledger = Ledger()
        self.catalogue = Catalogue(max_patterns=max_patterns)
        self.listening = False
        self.new_patterns: list[int] = []
        """Pattern ids that INGEST saw for the first time; whoever announces them clears it."""
        self.hits = 0
        self.misses = 0
        self.expired = 0
        self.expiry_lag_ms = 0
        """By how much the last key that expired by itself was late."""
        self.expiry_lag_max_ms = 0
        self.ingests = 0
        self.merged = 0
        self.bad_summaries = 0
        self._listeners: list[Listener] = []
        self._feeds: list[ChangeFeed] = []
        self._garbage: list[dict[Any, Any]] = []
        self._appliers: dict[str | bytes, Callable[..., Any]] = {}
        appliers: dict[str, Callable[..., Any]] = {
            "set": self._apply_set,
            "mst": self._apply_mst,
            "del": self._apply_del,
            "exp": self._apply_exp,
            "mrg": self._apply_mrg,
            "app": self._apply_app,
            "ovr": self._apply_ovr,
            "ing": self._apply_ing,
            "clr": self._apply_clr,
        }
        self._appliers.update(appliers)
        self._appliers.update({name.encode(): method for name, method in appliers.items()})

    def __len__(self) -> int:
        """How many keys there are, those not yet noticed as expired included."""
        return len(self.data)

    # -------------------------------------------------------------------------------------- time

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

    # ----------------------------------------------------------------------------------- reading

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value, counting a hit or a miss; None when there is none."""
        value = self.data.get(key)
        if value is None or (key in self.deadlines and not self.alive(key)):
            self.misses += 1
            return None
        self.hits += 1
        return value

    def peek(self, key: bytes) -> bytes | None:
        """Return the value without counting."""
        value = self.data.get(key)
        if value is None or (key in self.deadlines and not self.alive(key)):
            return None
        return value

    def string(self, key: bytes) -> bytes | None:
        """Return the value of a string, counting; raises CommandError (WRONGTYPE) for a summary."""
        value = self.lookup(key)
        if value is not None and type(value) is not bytes:
            raise CommandError(WRONG_TYPE)
        return value

    def exists(self, key: bytes) -> bool:
        """Whether there is such a key."""
        return key in self.data and (key not in self.deadlines or self.alive(key))

    def deadline(self, key: bytes) -> int | None:
        """Return when a key that exists expires, None for never."""
        return self.deadlines.get(key)

    def read_summary(self, key: bytes, value: bytes) -> SummaryValue:
        """Return the folded form of a summary and keep it, so that the next reader finds it folded.

        Raises CommandError when a part of it is damaged.
        """
        if is_folded(value):
            return SummaryValue(value)
        try:
            short = folded(value)
        except SummaryError as error:
            self.bad_summaries += 1
            raise CommandError(f"ERR the summary is damaged: {error}") from error
        self.data[key] = short
        return short

    def random_key(self) -> bytes | None:
        """Return a key that exists, each with the same chance; None when there is none."""
        data, order, deadlines = self.data, self.order, self.deadlines
        while data:
            for _ in range(_EXPIRY_TRIES):
                key = order[random.randrange(len(order))]  # noqa: S311 - nothing to guess here
                if key in data and (key not in deadlines or self.alive(key)):
                    return key
                if not data:
                    return None
            self._renew_order()
            if self.expire_due(len(data)) == 0 and all(
                deadlines.get(key, self.now + 1) <= self.now for key in order
            ):
                return None
        return None

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor (0 at the end) and some keys; ``keyorder`` says which."""
        cursor, found = self.order.slice_at(cursor, count)
        data, deadlines = self.data, self.deadlines
        return cursor, [
            key for key in found if key in data and (key not in deadlines or self.alive(key))
        ]

    # ----------------------------------------------------------------------------------- changes

    def set(
        self, key: bytes, value: bytes, deadline_ms: int | None = None, event: str = "set"
    ) -> None:
        """Make the value of a key this string, with this deadline or none."""
        data = self.data
        size = len(data)
        data[key] = value
        if len(data) != size:
            self.order.append(key)
        if deadline_ms is None:
            if key in self.deadlines:
                self.deadlines.drop(key)
            self.effects.append(("set", key, value))
        else:
            self.deadlines.put(key, deadline_ms)
            self.effects.append(("set", key, value, deadline_ms))
        if self.listening:
            self.touched(key, event)

    def set_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Set many strings, without deadlines; a third of the price of one by one."""
        if self.listening or type(self.data) is not dict:
            for key, value in zip(keys, values, strict=True):
                self.set(key, value)
            return
        self._apply_mst(keys, values)
        self.effects.append(("mst", keys, values))

    def put(self, key: bytes, value: bytes, deadline_ms: int | None, event: str) -> None:
        """Make the value of a key this one, of whatever type (COPY, RENAME)."""
        if type(value) is bytes:
            self.set(key, value, deadline_ms, event)
            return
        if key in self.data:
            self._remove(key, None)
        self.data[key] = value
        self.order.append(key)
        self.effects.append(("mrg", key, value))
        if deadline_ms is not None:
            self.deadlines.put(key, deadline_ms)
            self.effects.append(("exp", key, deadline_ms))
        self._changed((key,))
        if self.listening:
            self.touched(key, event)

    def append(self, key: bytes, suffix: bytes) -> int:
        """Append to a string, keeping its deadline; return the new length."""
        value = self.string_or_none(key)
        if value is None:
            self.order.append(key)
        self.data[key] = joined = suffix if value is None else value + suffix
        self.effects.append(("app", key, suffix))
        if self.listening:
            self.touched(key, "append")
        return len(joined)

    def overwrite(self, key: bytes, offset: int, part: bytes, event: str) -> int:
        """Write over a part of a string, filled with NUL up to there, keeping its deadline.

        Returns the new length. The effect holds the part alone, however long the string is.
        """
        value = self.string_or_none(key)
        if value is None:
            self.order.append(key)
            value = b""
        self.data[key] = joined = _written_over(value, offset, part)
        self.effects.append(("ovr", key, offset, part))
        if self.listening:
            self.touched(key, event)
        return len(joined)

    def string_or_none(self, key: bytes) -> bytes | None:
        """Like ``string``, without counting."""
        value = self.peek(key)
        if value is not None and type(value) is not bytes:
            raise CommandError(WRONG_TYPE)
        return value

    def delete(self, key: bytes, event: str = "del") -> bool:
        """Delete a key; whether there was one."""
        if not self.exists(key):
            return False
        self._remove(key, event)
        return True

    def _remove(self, key: bytes, event: str | None) -> None:
        value = self.data.pop(key)
        if key in self.deadlines:
            self.deadlines.drop(key)
        self.effects.append(("del", key))
        if self._feeds and type(value) is not bytes:
            self._changed((key,))
        if len(self.order) > 2 * len(self.data) + 1024:
            self._renew_order()
        if self.listening and event is not None:
            self.touched(key, event)

    def tidy_order(self) -> None:
        """Let the order of keys hold each key once; 10 ms a million."""
        if len(self.order) != len(self.data):
            self._renew_order()

    def _renew_order(self) -> None:
        self.order.renew(list(self.data))

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

    def merge(self, key: bytes, delta: bytes) -> None:
        """Add a packed delta to a summary; the caller has made sure that it is one."""
        value = self.peek(key)
        if value is None:
            self.data[key] = SummaryValue(delta)
            self.order.append(key)
        elif type(value) is bytes:
            raise CommandError(WRONG_TYPE)
        else:
            self.data[key] = appended(value, delta)
        self.merged += 1
        self.effects.append(("mrg", key, delta))
        self._changed((key,))
        if self.listening:
            self.touched(key, "merge")

    def clear(self) -> None:
        """Delete everything, the books of sources and the patterns too."""
        self._apply_clr()
        self.effects.append(("clr",))
        if self.listening:
            self.touched(b"", "flushdb")

    def ingest(self, raw_header: bytes, deltas: bytes | Sequence[bytes]) -> int | None:
        """Apply all deltas of a piece of a log, or none; return how many keys are new.

        ``deltas`` is the packed array, or the flat list of keys and deltas. None: all of it was
        counted before and nothing changed. Raises CommandError, and changes nothing, when the
        header or a delta is wrong, when a key holds a string, or (OVERLAP) when a part of the
        ranges was counted before.
        """
        header = parse_header(raw_header)
        if isinstance(deltas, bytes):
            packed, flat = deltas, unpack_deltas(deltas)
        else:
            flat = list(deltas)
            check_deltas(flat)
            packed = pack_deltas(flat)
        try:
            verdict = self.ledger.verdict(header.source, header.ranges)
            patterns = self.catalogue.check(header.patterns)
        except (PatternError, ValueError, TypeError) as error:
            raise CommandError(f"ERR INGEST {error}") from error
        if verdict == "counted":
            if not header.ranges and self.ledger.learn(header.source, header.about):
                self.effects.append(("ing", raw_header, packed))
            return None
        if verdict == "overlap":
            raise CommandError("OVERLAP a part of these ranges was counted before")
        keys = flat[::2]
        self._make_room(keys)
        before = len(self.data)
        self._add_deltas(keys, flat[1::2])
        self.ledger.record(header.source, header.ranges, header.books, header.about)
        if patterns:
            self.new_patterns += self.catalogue.merge(header.patterns)
        self.ingests += 1
        self.effects.append(("ing", raw_header, packed))
        self._changed(keys)
        if self.listening:
            for key in keys:
                self.touched(key, "merge")
        return len(self.data) - before

    def _make_room(self, keys: Iterable[bytes]) -> None:
        """Refuse when a key holds a string; let due keys go."""
        data, deadlines = self.data, self.deadlines
        if bytes in set(map(type, map(data.get, keys))):
            for key in keys:
                if type(self.peek(key)) is bytes:
                    raise CommandError(WRONG_TYPE)
        if deadlines:
            for key in keys:
                if key in deadlines:
                    self.alive(key)

    def _add_deltas(self, keys: Sequence[bytes], deltas: Sequence[bytes]) -> None:
        data = self.data
        get, append = data.get, self.order.append
        for key, delta in zip(keys, deltas, strict=True):
            value = get(key)
            if value is None:
                data[key] = SummaryValue(delta)
                append(key)
            else:
                data[key] = appended(value, delta)
        self.merged += len(keys)

    # -------------------------------------------------------------------------------------- hooks

    def listen(self, listener: Listener) -> None:
        """Tell ``listener(key, event)`` of each change from now on."""
        self._listeners.append(listener)
        self.listening = True

    def unlisten(self, listener: Listener) -> None:
        """Tell it no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        self.listening = bool(self._listeners)

    def touched(self, key: bytes, event: str) -> None:
        """Tell the listeners; call it only when ``listening``."""
        for listener in self._listeners:
            listener(key, event)

    def follow_summaries(self) -> ChangeFeed:
        """Return a feed of the keys of summaries that change (or go) from now on."""
        feed = ChangeFeed()
        self._feeds.append(feed)
        return feed

    def _changed(self, keys: Sequence[bytes]) -> None:
        for feed in self._feeds:
            feed.add(keys)

    # ------------------------------------------------------------------------------------- replay

    def apply(self, effect: Effect) -> None:
        """Make the change that an effect says, without a new effect. Raises RecordError."""
        op = effect[0]
        applier = self._appliers.get(op)
        try:
            if applier is not None:
                applier(*effect[1:])
            elif op in {"src", b"src"}:
                self.ledger.restore(effect)
            elif op in {"pat", b"pat"}:
                self.catalogue.restore(list(effect))
            else:
                raise RecordError(f"unknown effect {op!r}")
        except (TypeError, ValueError, CommandError) as error:
            raise RecordError(f"effect {op!r} cannot be applied: {error}") from error

    def apply_many(self, effects: Sequence[Effect]) -> None:
        """Apply the effects of one record, the most frequent kind quickly. Raises RecordError."""
        data, deadlines, append = self.data, self.deadlines, self.order.append
        for effect in effects:
            if len(effect) == 3 and effect[0] in _PLAIN_SET:
                key = effect[1]
                if type(key) is not bytes or type(effect[2]) is not bytes:
                    raise RecordError("effect 'set' holds no bytes")
                if key not in data:
                    append(key)
                elif key in deadlines:
                    deadlines.drop(key)
                data[key] = effect[2]
            else:
                self.apply(effect)
                data, deadlines, append = self.data, self.deadlines, self.order.append

    def _apply_set(self, key: bytes, value: bytes, deadline_ms: int | None = None) -> None:
        data = self.data
        size = len(data)
        data[key] = value
        if len(data) != size:
            self.order.append(key)
        if deadline_ms is not None:
            self.deadlines.put(key, deadline_ms)
        elif key in self.deadlines:
            self.deadlines.drop(key)

    def _apply_mst(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        data = self.data
        before = len(data)
        data.update(zip(keys, values, strict=True))
        new = len(data) - before
        if new:  # a dict keeps its order: the new ones are the last
            added = list(islice(reversed(data), new))
            added.reverse()
            self.order += added
        deadlines = self.deadlines
        if deadlines:
            for key in keys:
                if key in deadlines:
                    deadlines.drop(key)

    def _apply_del(self, key: bytes) -> None:
        if self.data.pop(key, None) is not None:
            self.deadlines.drop(key)
            if self.order.crowded(len(self.data)):
                self._renew_order()

    def _apply_exp(self, key: bytes, deadline_ms: int | None) -> None:
        if key in self.data:
            if deadline_ms is None:
                self.deadlines.drop(key)
            else:
                self.deadlines.put(key, deadline_ms)

    def _apply_mrg(self, key: bytes, delta: bytes) -> None:
        self._add_deltas((key,), (delta,))

    def _apply_app(self, key: bytes, suffix: bytes) -> None:
        value = self.data.get(key)
        if value is None:
            self._apply_set(key, suffix)
        else:
            self.data[key] = value + suffix

    def _apply_ovr(self, key: bytes, offset: int, part: bytes) -> None:
        value = self.data.get(key)
        if value is None:
            self.order.append(key)
        self.data[key] = _written_over(value or b"", offset, part)

    def _apply_ing(self, raw_header: bytes, packed: bytes) -> None:
        header = parse_header(raw_header)
        flat = unpack_deltas(packed)
        self._add_deltas(flat[::2], flat[1::2])
        self.ledger.record(header.source, header.ranges, header.books, header.about)
        if header.patterns:
            self.catalogue.merge(header.patterns)
        self.ingests += 1

    def _apply_clr(self) -> None:
        if self.data:
            self._garbage.append(self.data)
        if self.deadlines:
            self._garbage.extend(self.deadlines.release())
        self.data = type(self.data)()  # a measured dict (see ``memory``) stays one
        self.deadlines = Deadlines()
        self.order.renew([])
        self.ledger.clear()
        self.catalogue.clear()
        for feed in self._feeds:
            feed.add(())
            feed.overflow = True

    def free_garbage(self, limit: int) -> bool:
        """Free up to ``limit`` entries of what ``clear`` left behind; whether some is left."""
        while self._garbage and limit > 0:
            old = self._garbage[-1]
            n = min(limit, len(old))
            for _ in range(n):
                dict.popitem(old)
            limit -= n
            if not old:
                self._garbage.pop()
        return bool(self._garbage)

    @property
    def garbage_entries(self) -> int:
        """Entries that ``clear`` left behind and that are not freed yet."""
        return sum(map(len, self._garbage))

    def dump(self) -> Iterator[list[Any]]:
        """Yield the shortest effects that make an equal keyspace: summaries folded, one each.

        Change nothing while it runs.
        """
        for key, value in self.data.items():
            deadline_ms = self.deadlines.get(key)
            if type(value) is bytes:
                if deadline_ms is None:
                    yield ["set", key, value]
                else:
                    yield ["set", key, value, deadline_ms]
                continue
            yield ["mrg", key, _shortest(value)]
            if deadline_ms is not None:
                yield ["exp", key, deadline_ms]
        yield from self.ledger.dump()
        yield from self.catalogue.dump()

    def check(self) -> None:
        """Assert the invariants; O(n)."""
        self.deadlines.check()
        assert self.deadlines.keys() <= self.data.keys()
        assert set(self.order) >= self.data.keys()
        assert not self.order.crowded(len(self.data))
        assert {type(key) for key in self.data} <= {bytes}
        assert {type(value) for value in self.data.values()} <= {bytes, SummaryValue}
        self.ledger.check()
        self.catalogue.check_invariants()


def _written_over(value: bytes, offset: int, part: bytes) -> bytes:
    return value[:offset].ljust(offset, b"\0") + part + value[offset + len(part) :]


def pack_deltas(flat: Sequence[bytes]) -> bytes:
    """Return the packed form of a flat list of keys and deltas."""
    import msgpack

    packed: bytes = msgpack.packb(flat)
    return packed


def _shortest(value: bytes) -> bytes:
    """Return the folded form, or the value as it is when a delta in it is damaged."""
    if is_folded(value):
        return bytes(value)
    try:
        return bytes(folded(value))
    except SummaryError:
        return bytes(value)
