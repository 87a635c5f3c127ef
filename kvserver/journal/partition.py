"""Which part of the keys an effect belongs to, so that compaction can work on one part at a time.

Keys are spread over `PARTITIONS` parts by their CRC. Effects that are not of one key (an INGEST's
header, the books of a source, patterns) belong to one part more, `GLOBAL`. ``clr`` belongs to
all. An effect that this module does not know cannot be compacted: that is an error, never a
guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import msgpack

from kvserver.errors import RecordError

PARTITIONS = 64
"""A power of two. Part of the format of a base: its parts come in this order."""
GLOBAL = PARTITIONS
PARTS = PARTITIONS + 1

_MASK = PARTITIONS - 1
_KEYED_NAMES = ("set", "del", "exp", "mrg", "app", "ovr")
_KEYED = frozenset([*_KEYED_NAMES, *(name.encode() for name in _KEYED_NAMES)])
_OF_ALL = frozenset(["src", "pat", b"src", b"pat"])
_SEVERAL = frozenset(["ing", "clr", b"ing", b"clr"])
_NO_DELTAS = b"\x90"

_EVERY = 255
"""Stands for an effect that may be of several parts."""

Buckets = list["list[Any] | None"]


def buckets_for(parts: range) -> Buckets:
    """Return one list for each wanted part, and None for the others."""
    return [[] if part in parts else None for part in range(PARTS)]


def parts_of(effects: Sequence[Sequence[Any]]) -> bytes:
    """Return a byte for each effect: its part, or one that `selection` always takes.

    Raises:
        RecordError: an effect of an unknown kind.
    """
    try:
        return bytes(
            [
                crc32(effect[1]) & _MASK if effect[0] in _KEYED else _other_part(effect[0])
                for effect in effects
            ]
        )
    except TypeError as error:
        raise RecordError("an effect without a key") from error


def _other_part(op: Any) -> int:
    if op in _SEVERAL:
        return _EVERY
    if op in _OF_ALL:
        return GLOBAL
    raise RecordError(f"unknown effect {op!r}")


def selection(parts: range) -> bytes:
    """Return a table for `bytes.translate`: what `parts_of` gave becomes one where it is wanted."""
    table = bytearray(256)
    table[_EVERY] = 1
    for part in parts:
        table[part] = 1
    return bytes(table)


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
        elif op in {"ing", b"ing"}:
            _distribute_ingest(effect, buckets)
        elif op in {"clr", b"clr"}:
            for bucket in buckets:
                if bucket is not None:
                    bucket.append(effect)
        elif _other_part(op) == GLOBAL:
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
