"""What there is: keys, values, deadlines, sources and patterns; and the effects that make it.

Guarantees:

* The effects of a run, given to ``apply`` one after the other, make an equal store; ``dump`` gives
  the shortest effects that do. Effects are absolute (a deadline, not a time to live), so replay is
  the same whenever it happens.
* ``check`` asserts the invariants; property tests call it after every step.

Effects (op, then arguments)::

    set key value [deadline_ms]   mst [key …] [value …]   app key bytes     ovr key offset bytes
    del key                       exp key deadline_ms|nil mrg key delta     ing header deltas   clr
    tab rows layout  (a run of sets, see `tables`)
    src …  (ledger)               pat …  (catalogue)  both written by ``dump`` alone

Recovery and compaction need no more than this; ``keyspace`` adds the time, the changes that clients
make, and who is told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, repeat
from operator import concat
from typing import Any, Final

from kvserver import together
from kvserver.catalogue import Catalogue
from kvserver.errors import CommandError, RecordError
from kvserver.expiry import Deadlines
from kvserver.feeds import ChangeFeed
from kvserver.ingest import parse_header, unpack_deltas
from kvserver.keybuckets import ENTRIES_AT_ONCE, KeyBuckets
from kvserver.ledger import Ledger
from kvserver.longstring import LongString, String, whole, written_over
from kvserver.tables import columns_of
from kvserver.untracked import untrack
from kvserver.values import FOLD_STEP_BYTES, SummaryValue, Value, appended, folded, is_folded
from parser.summary import SummaryError

__all__ = ["Effect", "Store"]

Effect = Sequence[Any]

_BYTES: Final[frozenset[type]] = frozenset([bytes])
_NONE: Final = SummaryValue()
"""Stands for the value of a key that is not there."""
_PLAIN_SET: Final = frozenset(["set", b"set"])
_SAMPLES: Final = 200


class Store:
    """The data of one database. Not thread-safe: everything happens in one task."""

    __slots__ = (
        "_appliers",
        "_feeds",
        "_garbage",
        "any_long",
        "buckets",
        "catalogue",
        "data",
        "deadlines",
        "ingests",
        "ledger",
        "merged",
    )

    def __init__(self, *, max_patterns: int = 10_000) -> None:
        self.data: dict[bytes, Value] = {}
        """Read it freely; a key that is here may be past its deadline."""
        self.deadlines = Deadlines()
        self.buckets = KeyBuckets()
        self.ledger = Ledger()
        self.catalogue = Catalogue(max_patterns=max_patterns)
        self.ingests = 0
        self.merged = 0
        self.any_long = False
        """Whether a value may be a `LongString`: only then anybody has to look for one."""
        self._feeds: list[ChangeFeed] = []
        self._garbage: list[dict[Any, Any] | list[bytes]] = []
        self._appliers: dict[str | bytes, Callable[..., Any]] = {}
        appliers: dict[str, Callable[..., Any]] = {
            "set": self._replay_set,
            "mst": self._replay_mst,
            "tab": self._replay_tab,
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
        data, deadlines, append = self.data, self.deadlines, self.buckets.arrivals.append
        for effect in effects:
            if len(effect) == 3 and effect[0] in _PLAIN_SET:
                key = effect[1]
                if type(key) is not bytes or type(effect[2]) is not bytes:
                    self.apply(effect)
                    continue
                if key not in data:
                    append(key)
                elif key in deadlines:
                    deadlines.drop(key)
                data[key] = effect[2]
            else:
                self.apply(effect)
                data, deadlines, append = self.data, self.deadlines, self.buckets.arrivals.append

    def _replay_set(self, key: bytes, value: String, deadline_ms: int | None = None) -> None:
        if type(value) is LongString:  # never of a file
            self.expect_long_strings()
            _only_bytes([key])
        else:
            _only_bytes([key, value])
        self._apply_set(key, value, deadline_ms)

    def _replay_mst(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        _only_bytes(keys)
        _only_bytes(values)
        self._apply_mst(keys, values)

    def _replay_tab(self, rows: bytes, layout: Sequence[int]) -> None:
        self._apply_mst(*columns_of(rows, layout))

    def _apply_set(self, key: bytes, value: String, deadline_ms: int | None = None) -> None:
        data = self.data
        size = len(data)
        data[key] = value
        if len(data) != size:
            self.buckets.arrivals.append(key)
        if deadline_ms is not None:
            self.deadlines.put(key, deadline_ms)
        elif key in self.deadlines:
            self.deadlines.drop(key)

    def _apply_mst(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        self._store_many(keys, values)
        self.deadlines.drop_many(keys)

    def _store_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        data = self.data
        before = len(data)
        together.store(data, keys, values)
        new = len(data) - before
        if new:  # a dict keeps its order: the new ones are the last
            self.buckets.arrivals += islice(reversed(data), new)

    def _apply_del(self, key: bytes) -> None:
        if self.data.pop(key, None) is not None:
            self.deadlines.drop(key)
            self.buckets.thin_out(self.data, len(self.data))

    def _apply_exp(self, key: bytes, deadline_ms: int | None) -> None:
        if key in self.data:
            if deadline_ms is None:
                self.deadlines.drop(key)
            else:
                self.deadlines.put(key, deadline_ms)

    def _apply_mrg(self, key: bytes, delta: bytes) -> None:
        _only_bytes([key, delta])
        self._add_deltas((key,), (delta,))

    def _apply_app(self, key: bytes, suffix: bytes) -> None:
        _only_bytes([key, suffix])
        self._write_part(key, None, suffix)

    def _apply_ovr(self, key: bytes, offset: int, part: bytes) -> None:
        _only_bytes([key, part])
        self._write_part(key, offset, part)

    def _write_part(self, key: bytes, offset: int | None, part: bytes) -> int:
        """Write over a part of a string, or (None) append to it; return its new length."""
        value = self.data.get(key)
        if value is None:
            self.buckets.arrivals.append(key)
            value = b""
        written = written_over(value, len(value) if offset is None else offset, part)
        self.data[key] = written
        if type(written) is LongString:
            self.expect_long_strings()
        return len(written)

    def expect_long_strings(self) -> None:
        """Look for long strings from now on: one has come."""
        self.any_long = True
        untrack(self.data)  # else each collection would look at every key

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
        self._garbage.extend(self.buckets.release())
        self.ledger.clear()
        self.catalogue.clear()
        for feed in self._feeds:
            feed.add(())
            feed.overflow = True

    def _add_deltas(self, keys: Sequence[bytes], deltas: Sequence[bytes]) -> None:
        """Add a delta to the summary of each key, column by column: half the time of one by one."""
        data: dict[bytes, Any] = self.data
        self.merged += len(keys)
        if len(set(keys)) != len(keys):  # a second delta of a key must see the first one
            for key, delta in zip(keys, deltas, strict=True):
                if key not in data:
                    self.buckets.arrivals.append(key)
                data[key] = appended(data.get(key, _NONE), delta)
            return
        values = list(map(data.get, keys, repeat(_NONE)))
        summaries = list(map(SummaryValue, map(concat, values, deltas)))
        sizes = list(map(len, summaries))
        if max(sizes, default=0) >= FOLD_STEP_BYTES:
            for at, size in enumerate(sizes):
                if size >= FOLD_STEP_BYTES:  # perhaps it is time to fold it
                    summaries[at] = appended(values[at], deltas[at])
        before = len(data)
        data.update(zip(keys, summaries, strict=True))
        if len(data) != before:
            self.buckets.arrivals += [
                key for key, value in zip(keys, values, strict=True) if value is _NONE
            ]

    def free_garbage(self, limit: int) -> bool:
        """Free up to ``limit`` entries of what was left behind; whether some is left."""
        while self._garbage and limit > 0:
            old = self._garbage[-1]
            n = min(limit, len(old))
            if isinstance(old, list):
                del old[-n:]
            else:
                for _ in range(n):
                    dict.popitem(old)
            limit -= n
            if not old:
                self._garbage.pop()
        return bool(self._garbage)

    def free_later(self, old: dict[Any, Any]) -> None:
        """Leave something large to ``free_garbage``."""
        self._garbage.append(old)

    @property
    def garbage_entries(self) -> int:
        """Keys and deadlines that were left behind and that are not freed yet."""
        return sum(len(old) for old in self._garbage if isinstance(old, dict))

    def string_bytes(self) -> int:
        """About how many bytes the strings and their keys are, from some of them at random.

        Summaries count nothing: what is left of one when it is folded is not known before.
        """
        if not self.data:
            return 0
        picked = [self.buckets.sample() for _ in range(_SAMPLES)]
        present = [(key, self.data[key]) for key in picked if key in self.data]
        found = sum(
            len(key) + len(value) for key, value in present if type(value) is not SummaryValue
        )
        return found * len(self.data) // max(1, len(present))

    def dump(self) -> Iterator[list[Any]]:
        """Yield the shortest effects that make an equal keyspace: summaries folded, one each.

        Change nothing while it runs.
        """
        for key, value in self.data.items():
            deadline_ms = self.deadlines.get(key)
            if type(value) is not SummaryValue:
                if deadline_ms is None:
                    yield ["set", key, whole(value)]
                else:
                    yield ["set", key, whole(value), deadline_ms]
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
        assert set(self.buckets) >= self.data.keys()
        assert len(self.buckets) <= 3 * len(self.data) + 2 * ENTRIES_AT_ONCE
        assert {type(key) for key in self.data} <= {bytes}
        assert {type(value) for value in self.data.values()} <= {bytes, SummaryValue, LongString}
        self.ledger.check()
        self.catalogue.check_invariants()


def _only_bytes(values: Sequence[object]) -> None:
    if set(map(type, values)) <= _BYTES:  # nearly always, and five times as fast as asking each
        return
    if not all(isinstance(value, bytes) for value in values):
        raise TypeError("something else where bytes should be")


def _shortest(value: bytes) -> bytes:
    """Return the folded form, or the value as it is when a delta in it is damaged."""
    if is_folded(value):
        return bytes(value)
    try:
        return bytes(folded(value))
    except SummaryError:
        return bytes(value)
