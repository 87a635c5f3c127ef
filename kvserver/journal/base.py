"""A base: all keys at one moment, part by part, with an index of the parts behind them.

Recovery reads it as any other closed file; compaction reads a few parts of it at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from zlib_ng.zlib_ng import crc32

from kvserver.journal import manifest as manifests
from kvserver.journal.fs import File
from kvserver.journal.record import (
    Effect,
    Footer,
    encode_footer,
    encode_header,
    new_packer,
    seed_of,
)

RECORD_BYTES = 1 << 18
FIRST_EFFECTS = 64
MAX_EFFECTS = 4096
SYNC_BYTES = 8 << 20
"""The base is synced in steps of this size: one big sync at its end would make the server's own
syncs wait behind it."""


class BaseWriter:
    """Writes a base part by part."""

    def __init__(self, file: File, file_id: int):
        self._file = file
        self._seed = seed_of(file_id)
        self._pack = new_packer().pack
        self._unsynced = 0
        self.size = 0
        self.records = 0
        self.chain = 0
        self.partitions: list[tuple[int, int]] = []

    def write_part(self, effects: Iterator[Effect]) -> None:
        """Write all effects of the next part, in records of about `RECORD_BYTES`."""
        start, before = self.size, self.records
        count = FIRST_EFFECTS
        while chunk := list(islice(effects, count)):
            body = self._pack(gather(chunk))
            self.records += 1
            header = encode_header(body, self.records, self._seed)
            self.chain = crc32(header, self.chain)
            self._write(header + body)
            average = len(body) // len(chunk) + 1
            count = max(1, min(MAX_EFFECTS, RECORD_BYTES // average))
        self.partitions.append((start, self.records - before))

    def finish(self, last: int) -> None:
        """Write the footer and sync."""
        footer = Footer(self.records, last, self.chain, self.partitions)
        self._write(encode_footer(footer, self.records + 1, self._seed))
        self._file.sync()

    def _write(self, data: bytes) -> None:
        manifests.write_all(self._file, data)
        self.size += len(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            self._file.sync()
            self._unsynced = 0


def gather(effects: Sequence[Effect]) -> list[Effect]:
    """Write plain sets of different keys as one ``mst``: half the work for who reads it."""
    plain = [effect for effect in effects if len(effect) == 3 and effect[0] == "set"]
    if len(plain) < 2:
        return list(effects)
    _, keys, values = zip(*plain, strict=True)
    rest = [effect for effect in effects if len(effect) != 3 or effect[0] != "set"]
    return [("mst", keys, values), *rest]
