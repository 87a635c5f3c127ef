"""One database: what ``livestore`` has, and the summaries that logs are counted into.

Guarantees:

* A piece of a log is applied whole, once, or not at all.
* A summary may hold parts that are not added up yet; who reads one folds it and keeps it folded.

``follow_summaries`` collects the keys of summaries that change; it costs nothing while nobody does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kvserver.catalogue import PatternError
from kvserver.errors import CommandError
from kvserver.feeds import ChangeFeed
from kvserver.ingest import check_deltas, parse_header, unpack_deltas
from kvserver.livestore import WRONG_TYPE, LiveStore, wall_clock_ms
from kvserver.longstring import STRINGS
from kvserver.values import SummaryValue, appended, is_folded
from parser.summary import Summary, SummaryError, fold, pack

__all__ = ["Keyspace"]


class Keyspace(LiveStore):
    """One database: strings, deadlines, summaries and the books of the logs they come from."""

    __slots__ = ("bad_summaries", "new_patterns")

    def __init__(
        self, clock: Callable[[], int] = wall_clock_ms, *, max_patterns: int = 10_000
    ) -> None:
        super().__init__(clock, max_patterns=max_patterns)
        self.new_patterns: list[int] = []
        """Pattern ids that INGEST saw for the first time; whoever announces them clears it."""
        self.bad_summaries = 0

    def read_summary(self, key: bytes, value: bytes) -> Summary:
        """Return what a summary says, and keep it folded, so that the next reader folds nothing.

        Raises CommandError when a part of it is damaged.
        """
        try:
            summary = fold(value)
        except SummaryError as error:
            self.bad_summaries += 1
            raise CommandError(f"ERR the summary is damaged: {error}") from error
        if not is_folded(value):
            self.data[key] = SummaryValue(pack(summary))
        return summary

    def merge(self, key: bytes, delta: bytes) -> None:
        """Add a packed delta to a summary; the caller has made sure that it is one."""
        value = self.peek(key)
        if value is None:
            self.data[key] = SummaryValue(delta)
            self.buckets.arrivals.append(key)
        elif type(value) is SummaryValue:
            self.data[key] = appended(value, delta)
        else:
            raise CommandError(WRONG_TYPE)
        self.merged += 1
        self.effects.append(("mrg", key, delta))
        self._changed((key,))
        if self.listening:
            self.touched(key, "merge")

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
            self.touched_many(keys, "merge")
        return len(self.data) - before

    def _make_room(self, keys: Iterable[bytes]) -> None:
        """Refuse when a key holds a string; let due keys go."""
        data, deadlines = self.data, self.deadlines
        if not STRINGS.isdisjoint(map(type, map(data.get, keys))):
            for key in keys:
                if type(self.peek(key)) in STRINGS:
                    raise CommandError(WRONG_TYPE)
        if deadlines:
            for key in keys:
                if key in deadlines:
                    self.alive(key)

    def follow_summaries(self) -> ChangeFeed:
        """Return a feed of the keys of summaries that change (or go) from now on."""
        feed = ChangeFeed()
        self._feeds.append(feed)
        return feed


def pack_deltas(flat: Sequence[bytes]) -> bytes:
    """Return the packed form of a flat list of keys and deltas."""
    import msgpack

    packed: bytes = msgpack.packb(flat)
    return packed
