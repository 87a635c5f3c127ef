r"""Which source a file is: told by its content, never by its name.

A source is known by its first bytes (``BEGIN_BYTES``, kept as they are, so that a shorter file can
be compared exactly) and by *marks*: hashes of a few bytes before fixed offsets that grow by half
an octave, so a log of any size has a handful of them. Everything is of the uncompressed content.
From that follows:

* renamed, moved, copied, gzipped: the same source, because the content is the same;
* a log that grew since it was counted is the same source: what was known is its beginning;
* a part of a log from its beginning is the same source: all of it was counted;
* a new file under an old name or in a reused inode is another source: its first bytes differ;
* two logs that begin alike are two sources as soon as a mark they both reach differs. Until then
  they are equal as far as anyone looked, and equal content is one source;
* a short file (below ``BEGIN_BYTES``) that grew is the same source when it begins with what was
  known. Below ``SURE_BYTES`` that proves too little ("started\n" begins many logs), so there the
  path or the inode must be the same too, unless nothing grew and the content is simply equal.

Where several known sources fit, the one heard of first is taken. Together with the claim (see
``Sink.claim``) this makes two runs that meet a new log at the same moment agree on its id.

What is *not* recognised: a piece cut out of the middle of a log. It begins otherwise, so it counts
as a log of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Protocol

from parser.ranges import Range

__all__ = [
    "BEGIN_BYTES",
    "MARK_BYTES",
    "SURE_BYTES",
    "Content",
    "Index",
    "Marker",
    "SourceInfo",
    "find",
    "info_of",
    "mark_hash",
    "mark_offsets",
    "same_beginning",
    "source_id",
]

BEGIN_BYTES: Final = 1024
"""So many first bytes are kept. Filebeat's fingerprint has the same size."""

SURE_BYTES: Final = 64
"""A shorter beginning is no proof by itself."""

_PREFIX_BYTES: Final = 32

MARK_BYTES: Final = 256
"""A mark is the hash of so many bytes before its offset."""


class Content(Protocol):
    """What ``find`` asks about a file; reading is the file's business."""

    path: str
    begin: bytes
    """The first bytes, at most ``BEGIN_BYTES``; all of the content when it is shorter."""
    inode: Sequence[int] | None
    """Device and inode, where there are such things."""
    size: int | None
    """Bytes of the uncompressed content, None when nobody knows without reading it all."""

    def mark_at(self, offset: int) -> bytes | None:
        """Return the mark at an offset, or None when the content ends before it."""
        ...


@dataclass(slots=True)
class SourceInfo:
    """A source as the store knows it."""

    id: int
    ranges: list[Range] = field(default_factory=list)
    begin: bytes = b""
    marks: dict[int, bytes] = field(default_factory=dict)
    path: str = ""
    inode: tuple[int, ...] | None = None
    size: int = 0
    books: dict[str, int] = field(default_factory=dict)
    seen_ms: int = 0
    retries: int = 0

    @property
    def counted_bytes(self) -> int:
        """How many bytes have been counted."""
        return sum(end - start for start, end in self.ranges)

    def about(self) -> dict[str, Any]:
        """Return what the store keeps beside the ranges, for the header of an INGEST."""
        return {
            "path": os.fsencode(self.path),
            "size": self.size,
            "begin": self.begin,
            "inode": None if self.inode is None else list(self.inode),
            "marks": [[offset, mark] for offset, mark in sorted(self.marks.items())],
        }


def info_of(
    source: int,
    ranges: Iterable[Sequence[int]],
    books: Mapping[str, int],
    about: Mapping[str, Any],
) -> SourceInfo:
    """Read back what ``about`` gave, forgiving what is missing: others may write headers too."""
    begin = about.get("begin")
    inode = about.get("inode")
    marks = about.get("marks")
    size = about.get("size")
    seen = about.get("seen_ms")
    retries = about.get("retries")
    return SourceInfo(
        id=source,
        ranges=sorted((start, end) for start, end in ranges),
        begin=begin if isinstance(begin, bytes) else b"",
        marks=_marks(marks),
        path=_text(about.get("path")),
        inode=tuple(inode) if isinstance(inode, list) else None,
        size=size if isinstance(size, int) else 0,
        books=dict(books),
        seen_ms=seen if isinstance(seen, int) else 0,
        retries=retries if isinstance(retries, int) else 0,
    )


def _marks(value: Any) -> dict[int, bytes]:
    pairs = value if isinstance(value, list) else []
    return {
        pair[0]: pair[1]
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], int)
    }


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else ""


def source_id(begin: bytes, attempt: int = 0) -> int:
    """Return the id of a new source; another attempt gives another one. Never 0.

    The bytes decide, so that two machines name one log alike without asking each other.
    """
    digest = blake2b(begin[:BEGIN_BYTES], digest_size=8, salt=attempt.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") or 1


def mark_offsets(end: int) -> Iterator[int]:
    """Yield the offsets that have marks, up to ``end``: 1.5 KiB, 2 KiB, 3 KiB, 4 KiB, 6 KiB …."""
    offset = BEGIN_BYTES
    while True:
        for candidate in (offset + offset // 2, offset * 2):
            if candidate > end:
                return
            yield candidate
        offset *= 2


def mark_hash(data: bytes) -> bytes:
    """Return the mark of the ``MARK_BYTES`` before an offset."""
    return blake2b(data, digest_size=8).digest()


class Marker:
    """Takes the marks of content that streams past, whatever the pieces.

    >>> marker = Marker()
    >>> for piece in (bytes(1000), bytes(1000)):
    ...     marker.feed(piece)
    >>> sorted(marker.marks)
    [1536]
    """

    __slots__ = ("_next", "_offsets", "_tail", "marks", "position")

    def __init__(self) -> None:
        self.marks: dict[int, bytes] = {}
        self._offsets = mark_offsets(2**63)
        self._next = next(self._offsets)
        self.position = 0
        self._tail = b""

    def feed(self, data: bytes | memoryview) -> None:
        """Look at the next bytes of the content."""
        start, end = self.position, self.position + len(data)
        while self._next <= end:
            low = self._next - MARK_BYTES - start
            window = bytes(data[max(low, 0) : self._next - start])
            if low < 0:
                window = self._tail[low:] + window
            self.marks[self._next] = mark_hash(window[-MARK_BYTES:])
            self._next = next(self._offsets)
        self._tail = (self._tail + bytes(data[-MARK_BYTES:]))[-MARK_BYTES:]
        self.position = end


def same_beginning(known: bytes, begin: bytes) -> bool:
    """Tell whether one of the two beginnings is the beginning of the other."""
    shared = min(len(known), len(begin))
    return shared > 0 and known[:shared] == begin[:shared]


class Index:
    """Known sources by how they begin, so that finding one among thousands costs little."""

    def __init__(self, known: Iterable[SourceInfo] = ()) -> None:
        self.ids: set[int] = set()
        self._by_begin: dict[bytes, list[tuple[int, SourceInfo]]] = {}
        self._short: list[tuple[int, SourceInfo]] = []
        for info in known:
            self.add(info)

    def add(self, info: SourceInfo) -> None:
        """Add a source that was heard of after all others."""
        place = (len(self.ids), info)
        self.ids.add(info.id)
        if len(info.begin) < _PREFIX_BYTES:
            self._short.append(place)
        else:
            self._by_begin.setdefault(info.begin[:_PREFIX_BYTES], []).append(place)

    def candidates(self, begin: bytes) -> list[SourceInfo]:
        """Return every source that content with this beginning may be, in order."""
        if len(begin) < _PREFIX_BYTES:
            alike = [
                place
                for start, places in self._by_begin.items()
                if start.startswith(begin)
                for place in places
            ]
        else:
            alike = self._by_begin.get(begin[:_PREFIX_BYTES], [])
        ordered = sorted([*alike, *self._short], key=lambda place: place[0])
        return [info for _, info in ordered]


def find(known: Iterable[SourceInfo], content: Content) -> SourceInfo | None:
    """Return the source that the content is, or None when it is a new one.

    ``known`` is in the order in which the store heard of the sources. Marks are read only of those
    whose beginning fits, so this costs one comparison for most.
    """
    for source in known:
        if same_beginning(source.begin, content.begin) and _fits(source, content):
            return source
    return None


def _fits(source: SourceInfo, content: Content) -> bool:
    shared = min(len(source.begin), len(content.begin))
    if shared < SURE_BYTES and len(source.begin) != len(content.begin):
        by_inode = source.inode is not None and source.inode == tuple(content.inode or ())
        if not by_inode and source.path != content.path:
            return False
    if shared < BEGIN_BYTES:
        return True
    return _marks_agree(source.marks, content.mark_at)


def _marks_agree(marks: Mapping[int, bytes], mark_at: Callable[[int], bytes | None]) -> bool:
    for offset, mark in sorted(marks.items()):
        seen = mark_at(offset)
        if seen is None:  # the content ends here, or is not read further to find out
            return True
        if seen != mark:
            return False
    return True
