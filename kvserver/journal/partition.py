"""Which part of the keys an effect belongs to, so that compaction can work on one part at a time.

Keys are spread over `PARTITIONS` parts by their CRC. Effects that are not of one key (an INGEST's
header, the books of a source, patterns) belong to one part more, `GLOBAL`. ``clr`` belongs to
all. An effect that this module does not know cannot be compacted: that is an error, never a
guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from operator import itemgetter
from typing import Any

import msgpack
from zlib_ng.zlib_ng import crc32

from kvserver.errors import RecordError
from kvserver.tables import columns_of

PARTITIONS = 64
"""A power of two. Part of the format of a base: its parts come in this order."""
GLOBAL = PARTITIONS
PARTS = PARTITIONS + 1

_MASK = PARTITIONS - 1
_KEYED_NAMES = ("set", "del", "exp", "mrg", "app", "ovr")
_KEYED = frozenset([*_KEYED_NAMES, *(name.encode() for name in _KEYED_NAMES)])
_TABLE = frozenset(["tab", b"tab"])
_MANY = frozenset(["mst", b"mst", *_TABLE])
_OF_ALL = frozenset(["src", "pat", b"src", b"pat"])
_SEVERAL = frozenset(["ing", "clr", b"ing", b"clr"])
_NO_DELTAS = b"\x90"

Buckets = list["list[Any] | None"]


def buckets_for(parts: range) -> Buckets:
    """Return one list for each wanted part, and None for the others."""
    return [[] if part in parts else None for part in range(PARTS)]


class PartMemory:
    """Remembers of which part each effect is: one byte an effect, and one a key of a run.

    The first pass over a journal finds out; the passes after it pick what they want and hardly
    look at the others. Every pass must see the same records in the same order.
    """

    def __init__(self) -> None:
        self._known = bytearray()
        self._at = 0
        self._table = b""

    def rewind(self, parts: range) -> None:
        """Begin a pass that wants these parts."""
        self._at = 0
        table = bytearray(256)
        table[_EVERY] = 1
        for part in parts:
            table[part] = 1
        self._table = bytes(table)

    def wanted(self, effects: Sequence[Sequence[Any]]) -> Iterable[Sequence[Any]]:
        """Return the effects of the next record that may be of a wanted part.

        Raises:
            RecordError: an effect of an unknown kind.
        """
        if _MANY.isdisjoint(map(itemgetter(0), effects)):
            return compress(effects, self._chosen(effects, _part_of))
        return self._some_of_many(effects)

    def _some_of_many(self, effects: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        for effect in effects:
            if effect[0] in _MANY:
                keys, values = _keys_and_values(effect)
                chosen = self._chosen(keys, _part_of_key)
                some = list(compress(keys, chosen))
                if some:
                    yield "mst", some, list(compress(values, chosen))
            else:
                yield from compress((effect,), self._chosen((effect,), _part_of))

    def _chosen(self, what: Sequence[Any], part_of: Callable[[Any], int]) -> bytes:
        """Return a one or a zero for each of the next effects or keys."""
        end = self._at + len(what)
        if end > len(self._known):
            try:
                self._known += bytes(map(part_of, what))
            except TypeError as error:
                raise RecordError("an effect whose key is none") from error
        chosen = self._known[self._at : end].translate(self._table)
        self._at = end
        return bytes(chosen)


_EVERY = 255
"""Stands for an effect that may be of several parts."""


def _keys_and_values(effect: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    op, keys, values = effect
    return columns_of(keys, values) if op in _TABLE else (keys, values)


def _part_of_key(key: bytes) -> int:
    return crc32(key) & _MASK


def _part_of(effect: Sequence[Any]) -> int:
    op = effect[0]
    if op in _KEYED:
        return crc32(effect[1]) & _MASK
    if op in _SEVERAL:
        return _EVERY
    if op in _OF_ALL:
        return GLOBAL
    raise RecordError(f"unknown effect {op!r}")


def distribute(effects: Iterable[Sequence[Any]], buckets: Buckets) -> None:
    """Put each effect of the wanted parts into its bucket, in order.

    Raises:
        RecordError: an effect of an unknown kind.
    """
    for effect in effects:
        op = effect[0]
        if op in _KEYED:
            bucket = buckets[crc32(effect[1]) & _MASK]
            if bucket is not None:
                bucket.append(effect)
        elif op in _MANY:
            for key, value in zip(*_keys_and_values(effect), strict=True):
                bucket = buckets[crc32(key) & _MASK]
                if bucket is not None:
                    bucket.append(("set", key, value))
        elif op in {"ing", b"ing"}:
            _distribute_ingest(effect, buckets)
        elif op in {"clr", b"clr"}:
            for bucket in buckets:
                if bucket is not None:
                    bucket.append(effect)
        elif _part_of(effect) == GLOBAL:
            bucket = buckets[GLOBAL]
            if bucket is not None:
                bucket.append(effect)


def _distribute_ingest(effect: Sequence[Any], buckets: Buckets) -> None:
    """An INGEST is its deltas, each a merge, and its header, which goes with no deltas."""
    op, header, packed = effect
    bucket = buckets[GLOBAL]
    if bucket is not None:
        bucket.append([op, header, _NO_DELTAS])
    flat = msgpack.unpackb(packed, max_ext_len=0)
    pairs = iter(flat)
    for key, delta in zip(pairs, pairs, strict=True):
        bucket = buckets[crc32(key) & _MASK]
        if bucket is not None:
            bucket.append(["mrg", key, delta])
