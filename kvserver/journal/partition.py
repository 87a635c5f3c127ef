"""Which part of the keys an effect belongs to, so that compaction can work on one part at a time.

Keys are spread over `PARTITIONS` parts by their CRC. Effects that are not of one key (an INGEST's
header, the books of a source, patterns) belong to one part more, `GLOBAL`. ``clr`` belongs to
all. An effect that this module does not know cannot be compacted: that is an error, never a
guess.
"""

from __future__ import annotations

from collections.abc import Sequence
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
_NO_DELTAS = b"\x90"

Buckets = list["list[Any] | None"]


def buckets_for(parts: range) -> Buckets:
    """Return one list for each wanted part, and None for the others."""
    return [[] if part in parts else None for part in range(PARTS)]


def distribute(effects: Sequence[Sequence[Any]], buckets: Buckets) -> None:
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
        elif op in {"mst", b"mst"}:
            for key, value in zip(*effect[1:], strict=True):
                bucket = buckets[crc32(key) & _MASK]
                if bucket is not None:
                    bucket.append(["set", key, value])
        elif op in {"ing", b"ing"}:
            _distribute_ingest(effect, buckets)
        elif op in {"clr", b"clr"}:
            for bucket in buckets:
                if bucket is not None:
                    bucket.append(effect)
        elif op in _OF_ALL:
            bucket = buckets[GLOBAL]
            if bucket is not None:
                bucket.append(effect)
        else:
            raise RecordError(f"unknown effect {op!r}")


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
