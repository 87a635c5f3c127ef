"""Reads one file of the journal record by record, and says exactly how it ends.

The reader yields records in order until the first byte that is not one. Then `end` tells: a
footer, the clean end of an open file, or a `Break`. A break is *torn* only when a crash in the
middle of an append can explain it: the start of the very next record, cut off by the end of the
file or by zeros from a sector's border on, or nothing but zeros; and no valid record behind it.
Everything else is damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zlib_ng.zlib_ng import crc32

from kvserver.errors import RecordError
from kvserver.journal.fs import File
from kvserver.journal.manifest import Entry
from kvserver.journal.record import (
    FOOTER_MAGIC,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    Footer,
    decode_footer,
    decode_header,
    seed_of,
)

CHUNK_BYTES = 1 << 20
SECTOR_BYTES = 512
"""What a disk writes in one piece; a tear leaves zeros from such a border on."""


@dataclass(frozen=True, slots=True)
class Break:
    """Where a file stops making sense, and why."""

    offset: int
    sequence: int
    reason: str
    torn: bool


@dataclass(slots=True)
class Record:
    """One whole record with a good CRC; the body is not decoded."""

    offset: int
    sequence: int
    body: bytes


class SegmentReader:
    """Iterates over the records of a file from ``offset`` on.

    After the iteration: ``end`` is the offset behind the last record (the footer included),
    ``records`` and ``chain`` describe what was read, and one of ``footer`` and ``broken`` is set,
    or none of them when an open file ends cleanly.
    """

    def __init__(
        self, file: File, file_id: int, first: int, *, offset: int = 0, stop: int | None = None
    ):
        self.file = file
        self.seed = seed_of(file_id)
        self.sequence = first
        self.records = 0
        self.chain = 0
        self.end = offset
        self.footer: Footer | None = None
        self.broken: Break | None = None
        self._stop = stop

    def __iter__(self) -> Iterator[Record]:
        unpack, file, seed = HEADER.unpack_from, self.file, self.seed
        size = file.size() if self._stop is None else self._stop
        base = self.end  # the offset in the file of the buffer's first byte
        buffer = b""
        at = 0
        while True:
            left = len(buffer) - at
            if left < HEADER_BYTES:
                base += at
                buffer = file.read(base, min(CHUNK_BYTES, size - base))
                at = 0
                left = len(buffer)
                if left < HEADER_BYTES:
                    if left or base < size:
                        self.broken = judge(file, base, size, self.sequence, seed)
                    return
            magic, length, sequence, body_crc, own_crc = unpack(buffer, at)
            if (
                magic != MAGIC
                or sequence != self.sequence
                or crc32(buffer[at : at + 20], seed) != own_crc
            ):
                if magic == FOOTER_MAGIC:
                    self._read_footer(base + at, size)
                else:
                    self.broken = judge(file, base + at, size, self.sequence, seed)
                return
            end = at + HEADER_BYTES + length
            if end > len(buffer):
                if base + end > size:
                    self.broken = judge(file, base + at, size, self.sequence, seed)
                    return
                base += at
                buffer = file.read(base, min(max(CHUNK_BYTES, end - at), size - base))
                end -= at
                at = 0
                if end > len(buffer):
                    self.broken = judge(file, base, base + len(buffer), self.sequence, seed)
                    return
            body = buffer[at + HEADER_BYTES : end]
            if crc32(body) != body_crc:
                self.broken = judge(file, base + at, size, self.sequence, seed)
                return
            self.chain = crc32(buffer[at : at + HEADER_BYTES], self.chain)
            self.records += 1
            self.sequence = sequence + 1
            self.end = base + end
            yield Record(base + at, sequence, body)
            at = end

    def problem_of_closed(self, entry: Entry, size: int) -> tuple[int, str, int | None] | None:
        """Compare what was read with what the manifest says of a closed file.

        Returns:
            offset, reason and sequence number of the first difference; None when all is well.
        """
        broken, footer = self.broken, self.footer
        if broken is not None:
            return broken.offset, broken.reason, broken.sequence
        if footer is None:
            return self.end, "a closed file ends without footer", self.sequence
        if size != entry.size:
            return size, f"{size} bytes where the manifest says {entry.size}", None
        if (footer.records, footer.last, footer.chain) != (entry.records, entry.last, entry.chain):
            return self.end, "the footer does not fit the manifest", None
        return None

    def _read_footer(self, offset: int, size: int) -> None:
        data = self.file.read(offset, min(size - offset, CHUNK_BYTES))
        header = decode_header(data, 0, self.seed)
        if header is None or header.sequence != self.sequence or header.length > size - offset:
            self.broken = judge(self.file, offset, size, self.sequence, self.seed)
            return
        body = data[HEADER_BYTES : HEADER_BYTES + header.length]
        if len(body) < header.length or crc32(body) != header.body_crc:
            self.broken = judge(self.file, offset, size, self.sequence, self.seed)
            return
        try:
            footer = decode_footer(body)
        except RecordError as error:
            self.broken = Break(offset, self.sequence, str(error), torn=False)
            return
        if footer.records != self.records or footer.chain != self.chain:
            self.broken = Break(
                offset, self.sequence, "the footer does not fit the records", torn=False
            )
            return
        end = offset + HEADER_BYTES + header.length
        if end != size:
            self.broken = Break(end, self.sequence, "bytes behind the footer", torn=False)
            return
        self.footer = footer
        self.end = end


def read_footer(file: File, file_id: int, sequence: int) -> Footer | None:
    """Return the footer of a closed file without reading the records before it."""
    found = _footer_at_end(file, file_id)
    return found[1] if found is not None and found[0] == sequence else None


def last_footer(file: File, file_id: int) -> Footer | None:
    """Return the footer that a file ends with, whatever its sequence number."""
    found = _footer_at_end(file, file_id)
    return None if found is None else found[1]


def _footer_at_end(file: File, file_id: int) -> tuple[int, Footer] | None:
    size = file.size()
    tail = min(size, CHUNK_BYTES)
    data = file.read(size - tail, tail)
    at = data.rfind(FOOTER_MAGIC)
    while at >= 0:
        if at + HEADER_BYTES <= len(data):
            header = decode_header(data, at, seed_of(file_id))
            body = data[at + HEADER_BYTES :]
            if header is not None and header.length == len(body) and header.body_crc == crc32(body):
                return header.sequence, decode_footer(body)
        at = data.rfind(FOOTER_MAGIC, 0, at)
    return None


def next_record(file: File, file_id: int, offset: int, size: int) -> tuple[int, int] | None:
    """Return offset and sequence number of the first whole record from ``offset`` on."""
    seed = seed_of(file_id)
    data = file.read(offset, size - offset)
    at = data.find(MAGIC)
    while at >= 0:
        if at + HEADER_BYTES <= len(data):
            header = decode_header(data, at, seed)
            if header is not None:
                body = data[at + HEADER_BYTES : at + HEADER_BYTES + header.length]
                if len(body) == header.length and crc32(body) == header.body_crc:
                    return offset + at, header.sequence
        at = data.find(MAGIC, at + 1)
    return None


def judge(file: File, offset: int, size: int, expected: int, seed: int) -> Break:
    """Decide whether the bytes from ``offset`` on are a torn append or damage."""

    def result(reason: str, *, torn: bool = False) -> Break:
        return Break(offset, expected, reason, torn)

    rest = file.read(offset, size - offset)
    content = len(rest.rstrip(b"\0"))
    if content == 0:
        return result("nothing but zeros up to the end", torn=True)
    follower = _valid_record_after(rest, seed)
    if follower is not None:
        return result(f"not a record, but a valid record follows at byte {offset + follower}")
    border = -(-(offset + content) // SECTOR_BYTES) * SECTOR_BYTES
    if border < size:  # zeros from a sector's border up to the end: the sectors were never written
        rest = rest[: border - offset]
    if len(rest) < HEADER_BYTES:
        if _starts_record(rest, expected):
            return result("incomplete header", torn=True)
        return result("bytes that are no record")
    header = decode_header(rest, 0, seed)
    if header is None:
        return result("header CRC is wrong")
    if header.sequence != expected:
        return result(f"sequence number {header.sequence} where {expected} is due")
    if HEADER_BYTES + header.length > len(rest):
        return result("incomplete record", torn=True)
    return result("body CRC is wrong")


def _valid_record_after(rest: bytes, seed: int) -> int | None:
    """Return where the first header with a good CRC begins behind the first byte."""
    for magic in (MAGIC, FOOTER_MAGIC):
        at = rest.find(magic, 1)
        while at >= 0:
            if at + HEADER_BYTES <= len(rest) and decode_header(rest, at, seed) is not None:
                return at
            at = rest.find(magic, at + 1)
    return None


def _starts_record(piece: bytes, expected: int) -> bool:
    """Whether fewer bytes than a header are how the expected record begins."""
    if not (MAGIC.startswith(piece[:4]) or FOOTER_MAGIC.startswith(piece[:4])):
        return False
    sequence = expected.to_bytes(8, "big")
    return sequence.startswith(piece[8:16])
