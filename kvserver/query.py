"""What FIND asks, and how the index answers it. Pure; the commands module reads the arguments.

The answer is that of looking at every summary (property-tested); only the way there is chosen:

1. Each condition that has a posting becomes a set of slots or bits; all bits are ANDed at once.
2. The smallest of them leads: its slots are the candidates, all else is asked of each candidate.
3. When even that is wide, a time or count condition may lead through its order instead; and when
   only the best few are wanted, the order they are wanted in is walked from its better end.

Everything happens in steps of less than a millisecond, between which other clients are served.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nlargest, nsmallest
from itertools import islice
from typing import Final, cast

from sortedcontainers import SortedList

from kvserver.errors import CommandError
from kvserver.glob import compile_glob, is_literal
from kvserver.index import SummaryIndex
from kvserver.indexstate import NO_FIRST, NO_LAST, SLOT_BITS, SLOT_MASK, IndexState
from kvserver.postings import Posting, bits_of, slots_in
from kvserver.values import SummaryValue

__all__ = ["SORTS", "Found", "Query", "find"]

SORTS: Final = {"count": True, "first": False, "last": True, "errors": True}
"""Column -> whether the greatest come first."""

_STEP: Final = 1024
_SPARE: Final = 256
"""So many more than are wanted are ranked, in case that keys of some are gone."""
_WIDE: Final = 10_000
"""So many candidates are looked at one by one; for more it is worth to use an order."""


@dataclass(frozen=True, slots=True)
class Query:
    """All conditions must hold."""

    pattern: bytes | None = None
    levels: frozenset[str] = frozenset()
    """In capital letters; at least one must occur."""
    since_ms: int | None = None
    """Something happened at this time or later."""
    until_ms: int | None = None
    """Something happened at this time or earlier."""
    min_count: int = 0
    templates: frozenset[int] = frozenset()
    """Pattern ids; at least one must occur."""
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """For each of these tags, at least one of the values must occur."""
    texts: tuple[bytes, ...] = ()
    """In small letters; each must occur in a pattern of the key."""
    sort: str | None = None
    limit: int = 100
    """0: no limit."""


@dataclass(slots=True)
class Found:
    """The answer, and how it came about."""

    keys: list[bytes] = field(default_factory=list)
    index: list[str] = field(default_factory=list)
    """What was used, in the order of use."""
    candidates: int = 0
    """Slots the leading index held."""
    examined: int = 0
    caught_up: int = 0
    """Changed keys read before the search began."""
    catch_up_ns: int = 0
    search_ns: int = 0
    """From the end of catching up to the answer, the time that others got in between included."""


def find(index: SummaryIndex, query: Query) -> Generator[None, None, Found]:
    """Return the keys that the query asks for, best first when it sorts."""
    found = Found()
    began = time.perf_counter_ns()
    found.caught_up = yield from index.catch_up()
    found.catch_up_ns = time.perf_counter_ns() - began
    yield from _Search(index, query, found).run()
    found.search_ns = time.perf_counter_ns() - began - found.catch_up_ns
    return found


class _Search:
    def __init__(self, index: SummaryIndex, query: Query, found: Found) -> None:
        self.index = index
        self.state: IndexState = index.state
        self.query = query
        self.found = found
        self.universe = len(self.state.keys)
        self.sets: list[tuple[str, set[int]]] = []
        self.dense: list[tuple[str, int]] = []
        self.checks: list[tuple[str, frozenset[str]]] = []
        """Tags that are not indexed."""
        self.glob: Callable[[bytes], bool] | None = None
        self.mask = b""
        """The AND of all bits, as bytes; empty when there are none."""

    def run(self) -> Generator[None, None, None]:
        """Fill ``found``."""
        query, state = self.query, self.state
        if query.pattern is not None and query.pattern != b"*":
            self.glob = compile_glob(query.pattern)
        if not (yield from self._postings()):
            return
        lead, size, slots = self._lead()
        if query.pattern is not None and is_literal(query.pattern):
            slot = state.slots.shard(query.pattern).get(query.pattern)
            lead, slots = "key", lambda: iter([[slot]] if slot is not None else [])
            size = int(slot is not None)
        if size > _WIDE:
            for name, low, high in self._ranges():
                order = yield from self.index.order(state, name)
                inside = order.bisect_left(high) - order.bisect_left(low)
                if inside < size:
                    lead, size = f"order:{name}", inside
                    slots = _walk(order, low, high, backwards=False)
        self.found.candidates = size
        if query.sort is None:
            self.found.index.append(lead)
            yield from self._take(slots(), query.limit)
            return
        if size > _WIDE:
            # Walking costs about limit * universe / matches, looking at all costs matches.
            order = yield from self.index.order(state, query.sort)
            self.found.index.append(f"sorted by {query.sort}")
            walk = _walk(order, None, None, backwards=SORTS[query.sort])
            bound = 2 * size if query.limit else None
            if (yield from self._take(walk(), query.limit, bound)):
                return
            self.found.keys.clear()
        self.found.index.append(lead)
        yield from self._best(slots)

    # --------------------------------------------------------------------------- what leads where

    def _postings(self) -> Generator[None, None, bool]:
        """Look the conditions up; whether anything can match at all."""
        query, state = self.query, self.state
        if query.levels:
            posts = [post for name, post in state.levels.items() if name.upper() in query.levels]
            if not self._use("level:" + ",".join(sorted(query.levels)), posts):
                return False
        if query.templates:
            resolve, ids = self.index.keyspace.catalogue.resolve, query.templates
            posts = [
                post
                for event, post in state.events.items()
                if event in ids or resolve(event) in ids
            ]
            if not self._use("template:" + ",".join(f"{one:016x}" for one in sorted(ids)), posts):
                return False
        for field_name, values in query.tags.items():
            if field_name in state.crowded_tags:
                self.checks.append((field_name, values))
                continue
            known = state.tags.get(field_name, {})
            posts = [known[value] for value in sorted(values) if value in known]
            if not self._use(f"tag:{field_name}={','.join(sorted(values))}", posts):
                return False
        for text in query.texts:
            posts = yield from self._patterns_with(text)
            if not self._use("text:" + text.decode("utf-8", "replace"), posts):
                return False
        if self.dense:
            bits = -1
            for _, one in self.dense:
                bits &= one
            self.dense = [("+".join(name for name, _ in self.dense), bits)]
            self.mask = bits.to_bytes(bits.bit_length() // 8 + 1, "little")
        return True

    def _patterns_with(self, text: bytes) -> Generator[None, None, list[Posting]]:
        catalogue = self.index.keyspace.catalogue
        known: dict[int, bool] = {}
        posts = []
        for at, (event, post) in enumerate(list(self.state.events.items())):
            if at % 256 == 255:
                yield
            heir = catalogue.resolve(event)
            if heir is None:
                continue
            if heir not in known:
                known[heir] = any(
                    text in entry.text.lower() for _, entry in catalogue.entries((heir,))
                )
            if known[heir]:
                posts.append(post)
        return posts

    def _use(self, name: str, posts: list[Posting]) -> bool:
        """Add a condition that holds for the slots of any of these postings."""
        if not posts:
            self.found.index.append(name)
            return False
        universe = self.universe
        few = [slots for post in posts if (slots := post.few(universe)) is not None]
        if len(few) == len(posts):
            self.sets.append((name, few[0] if len(few) == 1 else set().union(*few)))
            return True
        bits = int.from_bytes(bits_of(set().union(*few), universe), "little") if few else 0
        for post in posts:
            if post.few(universe) is None:
                bits |= post.bits(universe)
        self.dense.append((name, bits))
        return True

    def _lead(self) -> tuple[str, int, Callable[[], Iterator[list[int]]]]:
        """Return what has the fewest candidates: its name, how many, and where they come from."""
        best = ("keys", self.universe, _chunked(range(self.universe)))
        for name, slots in self.sets:
            if len(slots) < best[1]:
                best = (name, len(slots), _chunked(slots))
        for name, bits in self.dense:
            size = bits.bit_count()
            if size < best[1]:
                best = (name, size, lambda: slots_in(self.mask, _STEP))
        return best

    def _ranges(self) -> Iterator[tuple[str, int, int]]:
        """The conditions that an order can lead: column, first place inside, first place behind."""
        query = self.query
        if query.since_ms is not None:
            yield "last", query.since_ms << SLOT_BITS, NO_FIRST << SLOT_BITS
        if query.until_ms is not None:
            yield "first", (NO_LAST + 1) << SLOT_BITS, (query.until_ms + 1) << SLOT_BITS
        if query.min_count > 1:
            yield "count", query.min_count << SLOT_BITS, NO_FIRST << SLOT_BITS

    # ------------------------------------------------------------------------------------ looking

    def _take(
        self, chunks: Iterable[list[int]], limit: int, bound: int | None = None
    ) -> Generator[None, None, bool]:
        """Take what matches, in the order it comes; False when ``bound`` was reached before."""
        keys, found = self.state.keys, self.found
        taken: set[int] = set()
        for chunk in chunks:
            found.examined += len(chunk)
            for slot in self._matching(chunk):
                if slot in taken:
                    continue
                taken.add(slot)
                key = keys[slot]
                assert key is not None
                found.keys.append(key)
                if limit and len(found.keys) >= limit:
                    return True
            if bound is not None and found.examined > bound:
                return False
            yield
        return True

    def _best(self, chunks: Callable[[], Iterator[list[int]]]) -> Generator[None, None, None]:
        """Look at all candidates and keep the best.

        Whether a candidate's key is still there costs more than all else, so that is asked of the
        best only; and of all, in the rare case that too many of the best are gone.
        """
        query, keys = self.query, self.state.keys
        best: list[int] = []
        if query.limit and self.glob is None and not self.checks:
            best, pruned = yield from self._ranked(chunks(), self._fitting, query.limit + _SPARE)
            best = self._existing(best)
            short = pruned and len(best) < query.limit
        else:
            short = True
        if short:
            best, _ = yield from self._ranked(chunks(), self._matching, query.limit)
        chosen = (keys[slot] for slot in (best[: query.limit] if query.limit else best))
        self.found.keys = [key for key in chosen if key is not None]

    def _ranked(
        self,
        chunks: Iterator[list[int]],
        matching: Callable[[list[int]], list[int]],
        limit: int,
    ) -> Generator[None, None, tuple[list[int], bool]]:
        """Return the best slots that match, best first, and whether there were more (0: all)."""
        assert self.query.sort is not None
        column = self.state.columns[self.query.sort]
        choose = nlargest if SORTS[self.query.sort] else nsmallest
        best: list[int] = []
        pruned = False
        for chunk in chunks:
            self.found.examined += len(chunk)
            best += matching(chunk)
            if limit and len(best) > 2 * limit + _STEP:
                best = choose(limit, dict.fromkeys(best), key=column.__getitem__)
                pruned = True
            yield
        best = list(dict.fromkeys(best))
        best.sort(key=column.__getitem__, reverse=SORTS[self.query.sort])
        return best, pruned

    def _matching(self, slots: list[int]) -> list[int]:
        """Return those for which every condition holds and whose key is there."""
        slots = self._existing(self._fitting(slots))
        keys = cast(list[bytes], self.state.keys)
        if self.glob is not None:
            matches = self.glob
            slots = [slot for slot in slots if matches(keys[slot])]
        if self.checks:
            slots = [slot for slot in slots if self._holds(keys[slot])]
        return slots

    def _fitting(self, slots: list[int]) -> list[int]:
        """Return those that fit by the index alone."""
        query, columns, mask = self.query, self.state.columns, self.mask
        if mask:
            end = 8 * len(mask)
            slots = [slot for slot in slots if slot < end and mask[slot >> 3] >> (slot & 7) & 1]
        for _, members in self.sets:
            slots = [slot for slot in slots if slot in members]
        if query.min_count > 1:
            count = columns["count"]
            slots = [slot for slot in slots if count[slot] >= query.min_count]
        if query.since_ms is not None:
            last = columns["last"]
            slots = [slot for slot in slots if last[slot] >= query.since_ms]
        if query.until_ms is not None:
            first = columns["first"]
            slots = [slot for slot in slots if first[slot] <= query.until_ms]
        return slots

    def _existing(self, slots: list[int]) -> list[int]:
        """Return those whose key is there and is a summary."""
        # A slot whose key is gone has None, which is no key.
        keys = cast(list[bytes], self.state.keys)
        keyspace = self.index.keyspace
        get = keyspace.data.get
        slots = [slot for slot in slots if type(get(keys[slot])) is SummaryValue]
        if keyspace.deadlines:
            slots = [slot for slot in slots if keyspace.peek(keys[slot]) is not None]
        return slots

    def _holds(self, key: bytes) -> bool:
        """Whether what is not indexed holds for a key."""
        keyspace = self.index.keyspace
        try:
            value = keyspace.data[key]
            tags = keyspace.read_summary(key, value).tags if type(value) is SummaryValue else {}
        except (CommandError, ValueError):
            return False
        return all(not values.isdisjoint(tags.get(name, ())) for name, values in self.checks)


def _chunked(slots: Iterable[int]) -> Callable[[], Iterator[list[int]]]:
    def chunks() -> Iterator[list[int]]:
        rest = iter(tuple(slots) if isinstance(slots, set) else slots)
        while chunk := list(islice(rest, _STEP)):
            yield chunk

    return chunks


def _walk(
    order: SortedList, low: int | None, high: int | None, *, backwards: bool
) -> Callable[[], Iterator[list[int]]]:
    """Return the slots of an order from ``low`` up to before ``high``, or from its end down.

    Each chunk is looked up anew, because the order may change between two of them; a slot whose
    value changes may then come twice.
    """

    def chunks() -> Iterator[list[int]]:
        start, end = low, high
        while entries := list(
            islice(order.irange(start, end, (backwards or start is low, False), backwards), _STEP)
        ):
            yield [entry & SLOT_MASK for entry in entries]
            if backwards:
                end = entries[-1]
            else:
                start = entries[-1]

    return chunks
