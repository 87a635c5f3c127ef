"""Indexes over summaries, for FIND: by level, pattern, tag, time and count. Pure, synchronous.

Guarantees:

* Costs the writers nothing: the keyspace notes which keys changed (one append for a whole INGEST),
  and the next query reads those keys before it answers. Until the first query there is no index.
* All work is done in steps of well under a millisecond; a query that has much to catch up with is a
  generator that its owner advances between the commands of others.
* A query sees every change made before it began. What changes while it runs it may see or not;
  a key that is gone is never shown, because rows are read from the keyspace, not from here.
* ``check`` asserts that everything here says what the summaries say; tests call it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import msgpack
from sortedcontainers import SortedList

from kvserver.feeds import ChangeFeed
from kvserver.indexstate import MAX_CELL, SLOT_BITS, IndexState, Order, read_summary
from kvserver.keyspace import Keyspace
from kvserver.values import SummaryValue

__all__ = ["SummaryIndex"]

_DAMAGE: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    msgpack.UnpackException,
)
"""What reading bytes that are no summary may raise."""
_STEP_KEYS: Final = 64
_MIN_DEAD: Final = 4096
_MIN_FEED: Final = 200_000


class SummaryIndex:
    """Keeps an IndexState up to date with a keyspace, when asked to."""

    def __init__(self, keyspace: Keyspace) -> None:
        self.keyspace = keyspace
        self.state = IndexState()
        self.rebuilds = 0
        self.damaged = 0
        """Summaries that could not be read, since the last rebuild."""
        self._feed: ChangeFeed | None = None
        self._work: deque[Iterator[Sequence[bytes]]] = deque()
        self._given = 0
        """Pieces of work that were ever queued; the n-th is done once ``_done`` is n or more."""
        self._done = 0
        self._whole_from = 0
        """The piece of work that completes the last rebuild."""

    def catch_up(self) -> Generator[None, None, int]:
        """Read the keys changed before this was called; yields between steps, returns how many.

        Several may run at once: they share the work.
        """
        self._collect()
        target = self._given
        read = 0
        # A rebuild that another query starts meanwhile takes over what was left to do.
        while self._done < max(target, self._whole_from):
            read += self._step()
            yield
        return read

    def order(self, state: IndexState, name: str) -> Generator[None, None, SortedList]:
        """Return the slots in the order of a column, sorting them if nobody asked for it before.

        Other queries may read keys meanwhile: an order is kept right from its first slot on.
        """
        order = state.orders.get(name)
        if order is None:
            order = state.orders[name] = Order(state.columns[name])
        while not order.grow(state.keys, _STEP_KEYS):
            yield
        return order.slots

    def statistics(self) -> dict[str, Any]:
        """Figures for STATS."""
        state = self.state
        return {
            "find_indexed_keys": len(state.slots),
            "find_index_bytes": state.memory_bytes() if self._feed is not None else 0,
            "find_orders": ",".join(sorted(state.orders)),
            "find_waiting": sum(1 for _ in self._work),
            "find_rebuilds": self.rebuilds,
            "find_damaged": self.damaged,
        }

    def check(self) -> None:
        """Assert that the index says what the summaries say; call it caught up. O(everything)."""
        state, data = self.state, self.keyspace.data
        live = {key: value for key, value in data.items() if type(value) is SummaryValue}
        slots = dict(state.slots.items())
        assert slots.keys() >= live.keys() or self.damaged
        assert len(state.keys) == len(slots) + state.dead
        for key, slot in slots.items():
            assert state.keys[slot] == key
            if key not in live:
                continue
            count, first, last, levels, events, tags = read_summary(live[key])
            assert state.columns["count"][slot] == min(count, MAX_CELL)
            assert state.columns["first"][slot] == first
            assert state.columns["last"][slot] == last
            assert all(slot in state.levels[level] for level in levels)
            assert all(slot in state.events[event] for event in events)
            for tag, values in tags.items():
                assert tag in state.crowded_tags or all(
                    slot in state.tags[tag][value] for value in values
                )
        for name, order in state.orders.items():
            column = state.columns[name]
            assert list(order.slots) == sorted(
                column[slot] << SLOT_BITS | slot for slot in slots.values() if slot < order.upto
            )

    def _collect(self) -> None:
        """Queue what changed since the last time."""
        if self._feed is None:
            self._feed = self.keyspace.follow_summaries()
            self._rebuild()
            return
        batches, lost = self._feed.take()
        if lost or self.state.dead > max(_MIN_DEAD, len(self.state.slots)):
            self._rebuild()
        else:
            for batch in batches:
                self._give(_in_steps(batch))
        # More changes than there are keys are not worth remembering: reading all is no dearer.
        self._feed.bound = max(_MIN_FEED, len(self.state.slots))

    def _rebuild(self) -> None:
        self.rebuilds += 1
        self.damaged = 0
        self.state = IndexState()
        self._done += len(self._work)
        self._work.clear()
        self._give(self._all_keys())
        self._whole_from = self._given

    def _give(self, work: Iterator[Sequence[bytes]]) -> None:
        self._work.append(work)
        self._given += 1

    def _all_keys(self) -> Iterator[Sequence[bytes]]:
        cursor = 0
        while True:
            cursor, keys = self.keyspace.buckets.slice_at(cursor, _STEP_KEYS)
            yield keys
            if not cursor:
                return

    def _step(self) -> int:
        """Do a little of the first piece of work; return how many keys were read."""
        keys = next(self._work[0], None)
        if keys is None:
            self._work.popleft()
            self._done += 1
            return 0
        data, state = self.keyspace.data, self.state
        for key in keys:
            value = data.get(key)
            if type(value) is not SummaryValue:
                state.remove(key)
                continue
            try:
                state.put(key, value)
            except _DAMAGE:
                self.damaged += 1
                state.remove(key)
        return len(keys)


def _in_steps(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    rest = iter(keys)
    while step := tuple(islice(rest, _STEP_KEYS)):
        yield step
