"""The index behind FIND, as plain data: slots, columns, postings, orders. Pure.

``IndexState`` says what the summaries said when it was last told; ``index.SummaryIndex`` tells it.

Layout. A key has a *slot*, a small number; a slot is never used again (a rebuild renumbers all when
half of them are dead)::

    slots      key -> slot            keys        slot -> key, None when it is gone
    columns    slot -> count, first, last, errors          arrays of 8 bytes
    levels, events, tags              property -> Posting (a set of slots, or bits)
    orders     column -> SortedList of (value << 32 | slot), made when first asked for

Memory for a million keys as an HDFS log gives them: about 120 MB, 44 MB more for each order that
queries have asked for; ``memory_bytes`` says how much it is, and STATS shows it. The values of a
tag are indexed while there are at most MAX_TAG_VALUES of them.

``errors`` counts events of the levels in ERROR_LEVELS; for a summary without levels, those with a
``status`` of 500 and above.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from typing import Final

import msgpack
from sortedcontainers import SortedList

from kvserver.postings import Posting

__all__ = [
    "COLUMNS",
    "ERROR_LEVELS",
    "MAX_CELL",
    "NO_FIRST",
    "NO_LAST",
    "SLOT_BITS",
    "SLOT_MASK",
    "IndexState",
    "Order",
    "read_summary",
]

COLUMNS: Final = ("count", "first", "last", "errors")
NO_FIRST: Final = 1 << 62
"""Stands for no time in ``first``: later than everything."""
NO_LAST: Final = -(1 << 62)
"""Stands for no time in ``last``: earlier than everything."""

ERROR_LEVELS: Final = frozenset(
    ("ERROR", "ERR", "SEVERE", "FATAL", "CRITICAL", "CRIT", "ALERT", "EMERG", "EMERGENCY", "PANIC")
)

MAX_TAG_VALUES: Final = 4096
"""Different values of one tag that are indexed; a tag with more is looked up key by key."""

SLOT_BITS: Final = 32
SLOT_MASK: Final = (1 << SLOT_BITS) - 1
MAX_CELL: Final = 1 << 62
_SHARDS: Final = 128
_NEW_SLOTS: Final = 200
"""So many slots a posting collects before it puts them in their place together."""


class Slots:
    """Key -> slot, in many small dicts: a large one stops everything for 50 ms when it grows."""

    __slots__ = ("shards",)

    def __init__(self) -> None:
        self.shards: list[dict[bytes, int]] = [{} for _ in range(_SHARDS)]

    def shard(self, key: bytes) -> dict[bytes, int]:
        """Return the dict in which a key is, if it is anywhere."""
        return self.shards[hash(key) & (_SHARDS - 1)]

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def items(self) -> Iterator[tuple[bytes, int]]:
        """All keys and their slots."""
        for shard in self.shards:
            yield from shard.items()


class Order:
    """Slots sorted by a column, the first ``upto`` of them so far."""

    __slots__ = ("column", "slots", "upto")

    def __init__(self, column: array[int]) -> None:
        self.column = column
        self.slots = SortedList()
        """``value << 32 | slot``; ties are in the order of slots."""
        self.upto = 0

    def grow(self, keys: list[bytes | None], steps: int) -> bool:
        """Enter up to so many slots more; whether all are in."""
        until = min(self.upto + steps, len(keys))
        for slot in range(self.upto, until):
            if keys[slot] is not None:
                self.slots.add(self.column[slot] << SLOT_BITS | slot)
        self.upto = until
        return until == len(keys)

    def entered(self, slot: int) -> None:
        """A new slot has got its value."""
        if slot == self.upto:
            self.slots.add(self.column[slot] << SLOT_BITS | slot)
            self.upto += 1

    def leave(self, slot: int) -> None:
        """The value of a slot is about to change, or its key has gone."""
        if slot < self.upto:
            self.slots.remove(self.column[slot] << SLOT_BITS | slot)

    def come_back(self, slot: int) -> None:
        """The value of a slot has changed."""
        if slot < self.upto:
            self.slots.add(self.column[slot] << SLOT_BITS | slot)


class IndexState:
    """The index itself, as of the last key read. Replaced as a whole by a rebuild."""

    __slots__ = (
        "columns",
        "crowded_tags",
        "dead",
        "events",
        "keys",
        "levels",
        "orders",
        "slots",
        "tags",
    )

    def __init__(self) -> None:
        self.slots = Slots()
        self.keys: list[bytes | None] = []
        self.dead = 0
        self.columns: dict[str, array[int]] = {name: array("q") for name in COLUMNS}
        self.levels: dict[str, Posting] = {}
        self.events: dict[int, Posting] = {}
        self.tags: dict[str, dict[str, Posting]] = {}
        self.crowded_tags: set[str] = set()
        """Tags with too many values."""
        self.orders: dict[str, Order] = {}

    def remove(self, key: bytes) -> None:
        """Forget a key; its slot stays dead."""
        slot = self.slots.shard(key).pop(key, None)
        if slot is None:
            return
        for every in self.orders.values():
            every.leave(slot)
        self.keys[slot] = None
        self.dead += 1

    def put(self, key: bytes, value: bytes) -> None:
        """Enter what a summary says now. Raises ValueError or TypeError when it is damaged."""
        count, first, last, levels, events, tags = read_summary(value)
        errors = _errors(levels, tags)
        if not type(count) is type(first) is type(last) is type(errors) is int:
            raise TypeError("a count or a time that is no integer")
        row = (min(count, MAX_CELL), first, last, min(errors, MAX_CELL))
        slots = self.slots.shard(key)
        slot = slots.get(key)
        if slot is None:
            slot = self._new_slot(row)
            slots[key] = slot
            self.keys.append(key)
            for order in self.orders.values():
                order.entered(slot)
        else:
            self._change(slot, row)
        universe = len(self.keys)
        known = self.events
        for event in events:
            posting = known.get(event)
            if posting is None:
                posting = known[event] = Posting()
            new = posting.new
            new.append(slot)
            if len(new) > _NEW_SLOTS:
                posting.settle(universe)
        for level in levels:
            post = self.levels.get(level)
            if post is None:
                post = self.levels[level] = Posting()
            post.new.append(slot)
            if len(post.new) > _NEW_SLOTS:
                post.settle(universe)
        if tags:
            for tag, values in tags.items():
                if tag not in self.crowded_tags:
                    self._put_tag(tag, values, slot, universe)

    def _new_slot(self, row: tuple[int, int, int, int]) -> int:
        slot = len(self.keys)
        count, first, last, errors = self.columns.values()
        count.append(row[0])  # raises for what does not fit, before anything has changed
        try:
            first.append(row[1])
            last.append(row[2])
            errors.append(row[3])
        except OverflowError:
            for column in self.columns.values():
                del column[slot:]
            raise
        return slot

    def _change(self, slot: int, row: tuple[int, int, int, int]) -> None:
        for (name, column), cell in zip(self.columns.items(), row, strict=True):
            if column[slot] != cell:
                order = self.orders.get(name)
                if order is None:
                    column[slot] = cell
                else:
                    order.leave(slot)
                    column[slot] = cell
                    order.come_back(slot)

    def _put_tag(self, tag: str, values: dict[str, int], slot: int, universe: int) -> None:
        known = self.tags.setdefault(tag, {})
        for value in values:
            posting = known.get(value)
            if posting is None:
                if len(known) >= MAX_TAG_VALUES:
                    del self.tags[tag]
                    self.crowded_tags.add(tag)
                    return
                posting = known[value] = Posting()
            posting.new.append(slot)
            if len(posting.new) > _NEW_SLOTS:
                posting.settle(universe)

    def postings(self) -> Iterator[Posting]:
        """All postings."""
        yield from self.levels.values()
        yield from self.events.values()
        for values in self.tags.values():
            yield from values.values()

    def memory_bytes(self) -> int:
        """About how much memory this takes; the keys themselves are the keyspace's."""
        size = sys.getsizeof
        slot_ints = 32 * len(self.keys)
        return (
            sum(size(shard) for shard in self.slots.shards)
            + size(self.keys)
            + slot_ints
            + sum(size(column) for column in self.columns.values())
            + sum(posting.memory_bytes() for posting in self.postings())
            + sum(44 * len(order.slots) for order in self.orders.values())
        )


def read_summary(
    value: bytes,
) -> tuple[int, int, int, dict[str, int], dict[int, int], dict[str, dict[str, int]]]:
    """Read what the index wants to know of a summary of one or more parts.

    A fifth of the cost of folding; whether everything in it is right is for the reader of the
    summary to say.
    """
    rest = value
    total, first, last = 0, NO_FIRST, NO_LAST
    levels: dict[str, int] = {}
    events: dict[int, int] = {}
    tags: dict[str, dict[str, int]] = {}
    single = True
    while True:
        try:
            part = msgpack.unpackb(
                rest, use_list=False, strict_map_key=False, unicode_errors="surrogateescape"
            )
            rest = b""
        except msgpack.ExtraData as extra:
            part, rest = extra.unpacked, extra.extra
        size = len(part)
        total += part[0]
        if size > 1 and part[1] is not None and part[1][0] is not None:
            first = min(first, part[1][0])
        if size > 2 and part[2] is not None and part[2][0] is not None:
            last = max(last, part[2][0])
        if single and not rest:
            return (
                total,
                first,
                last,
                (part[3] if size > 3 else None) or levels,
                (part[4] if size > 4 else None) or events,
                (part[5] if size > 5 else None) or tags,
            )
        single = False
        if size > 3 and part[3]:
            for name, n in part[3].items():
                levels[name] = levels.get(name, 0) + n
        if size > 4 and part[4]:
            events.update(part[4])
        if size > 5 and part[5]:
            for name, values in part[5].items():
                held = tags.setdefault(name, {})
                for word, n in values.items():
                    held[word] = held.get(word, 0) + n
        if not rest:
            return total, first, last, levels, events, tags


def _errors(levels: dict[str, int], tags: dict[str, dict[str, int]]) -> int:
    if levels:
        return sum(n for level, n in levels.items() if level.upper() in ERROR_LEVELS)
    return sum(
        n for status, n in tags.get("status", {}).items() if status >= "5" and len(status) == 3
    )
