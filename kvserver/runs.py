"""Runs: a chunk of many GETs or SETs, or an MSET, with keys of one size and values of one size.

Such a chunk repeats one *shape*: the same bytes everywhere except in fixed places, and a single
``unpack`` cuts out what varies. That the rest is what it must be is seen in one operation, too:
taken as one long number, the chunk with what varies masked out is the number of its shape (1.1 µs
for sixteen SETs, where cutting at the line ends and comparing each header takes 3.9). Where values
are large, most of the chunk varies; there the headers are cut out as well, and counted.

Guarantee: a chunk has a shape only when it is, byte for byte, requests of that shape. What does not
fit is somebody else's.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from kvserver import resp

__all__ = ["NEXT", "Columns", "Shape", "run_of"]

MAX_CHUNK_BYTES: Final = 1 << 16
MAX_ARGUMENT_BYTES: Final = 8192
MASKED_BYTES: Final = 192
"""Larger requests are not masked: that touches every byte."""
MAX_SHAPES: Final = 128
"""Kept at a time; each holds some kilobytes."""

_CRLF: Final = b"\r\n"
NEXT: Final = b"\r\n*"
"""What stands where a further request begins; a value may hold it, too."""
_SMALL_COUNTS: Final = frozenset([b"*2\r\n", b"*3\r\n"])
_OPENING: Final = re.compile(
    rb"\*2\r\n\$3\r\n(?:GET|get)\r\n|\*3\r\n\$3\r\n(?:SET|set)\r\n"
    rb"|\*([1-9][0-9]{0,2})\r\n\$4\r\n(?:MSET|mset)\r\n"
).match
_SIZES: Final = {b"$%d" % size: size for size in range(MAX_ARGUMENT_BYTES)}
_number: Final = int.from_bytes

Columns = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""The keys, and the values (none for GETs)."""


class Shape:
    """What the chunks of a kind have in common: an opening, then so many pieces all alike."""

    __slots__ = ("_fixed", "_mask", "_unpack", "name", "pieces", "reply", "requests")

    def __init__(self, opening: bytes, sizes: tuple[int, ...], pieces: int) -> None:
        self.name = opening.split(_CRLF)[2]
        self.pieces = pieces
        """How many keys there are."""
        self.requests = 1 if len(self.name) == 4 else pieces
        self.reply = resp.OK * self.requests if len(sizes) == 2 else None
        """What all of them are answered; None for GETs."""
        heads = [b"$%d\r\n" % size for size in sizes]
        if self.requests == 1:
            self._prepare(opening, heads, sizes)
        else:
            self._prepare(b"", [opening + heads[0], *heads[1:]], sizes)

    def _prepare(self, opening: bytes, heads: list[bytes], sizes: tuple[int, ...]) -> None:
        layout, fixed, mask = "", b"", b""
        for head, size in zip(heads, sizes, strict=True):
            layout += f"{len(head)}x{size}s2x"
            fixed += head + bytes(size) + _CRLF
            mask += b"\xff" * len(head) + bytes(size) + b"\xff\xff"
        self._fixed = _number(opening + fixed * self.pieces, "little")
        self._mask = _number(b"\xff" * len(opening) + mask * self.pieces, "little")
        self._unpack = struct.Struct(f"{len(opening)}x" + layout * self.pieces).unpack

    def columns(self, data: bytes) -> Columns | None:
        """Cut a chunk of the right length into its columns; None when it has another shape."""
        if _number(data, "little") & self._mask != self._fixed:
            return None
        args = self._unpack(data)
        return (args, ()) if self.reply is None else (args[::2], args[1::2])


class _LargeShape(Shape):
    """That of SETs with large values."""

    __slots__ = ("_between", "_heads")

    def _prepare(self, opening: bytes, heads: list[bytes], sizes: tuple[int, ...]) -> None:
        assert not opening, "the headers of an MSET would not be counted"
        first, second = heads
        self._heads = [first, _CRLF + second]
        self._between = _CRLF + first
        layout = "".join(
            f"{len(head)}s{size}s" for head, size in zip(self._heads, sizes, strict=True)
        )
        between = f"{len(self._between)}s{layout.partition('s')[2]}"
        self._unpack = struct.Struct(layout + between * (self.pieces - 1) + "2s").unpack

    def columns(self, data: bytes) -> Columns | None:
        parts = self._unpack(data)
        if (
            parts[0] != self._heads[0]
            or parts[-1] != _CRLF
            or parts[2::4].count(self._heads[1]) != self.pieces
            or parts[4:-1:4].count(self._between) != self.pieces - 1
        ):
            return None
        return parts[1::4], parts[3::4]


_latest: dict[int, Shape] = {}
"""The last shape that a chunk of so many bytes had: clients repeat themselves."""
_known: dict[tuple[bytes, tuple[int, ...], int], Shape] = {}


def run_of(data: bytes) -> tuple[Shape, Columns] | None:
    """Read a run of two keys or more; None when this is something else."""
    shape = _latest.get(len(data))
    if shape is not None and (columns := shape.columns(data)) is not None:
        return shape, columns
    if data[:4] in _SMALL_COUNTS and NEXT not in data:
        return None  # one request, and no MSET
    shape = _find_shape(data)
    if shape is None or (columns := shape.columns(data)) is None:
        return None
    _latest[len(data)] = shape
    return shape, columns


def _find_shape(data: bytes) -> Shape | None:
    """Return the shape that a chunk must have if all its pieces are like the first."""
    matched = _OPENING(data)
    if matched is None or len(data) > MAX_CHUNK_BYTES:
        return None
    opening: bytes = matched[0]
    is_mset = matched[1] is not None
    at = len(opening)
    sizes: tuple[int, ...] = ()
    for _ in range(1 if opening.startswith(b"*2\r\n$3") else 2):
        end = data.find(_CRLF, at, at + 8)
        size = _SIZES.get(data[at:end])
        if size is None:
            return None
        sizes += (size,)
        at = end + size + 4
    start = len(opening) if is_mset else 0
    pieces, rest = divmod(len(data) - start, at - start)
    if rest or pieces < 2 or (is_mset and int(matched[1]) != 2 * pieces + 1):
        return None
    shape = _known.get((opening, sizes, pieces))
    if shape is None:
        large = at - start > MASKED_BYTES and len(sizes) == 2
        again = data[start : start + 4]
        if not data.startswith(again, at) or (is_mset and large):
            return None  # not worth a new shape
        if len(_known) >= MAX_SHAPES:
            _known.clear()
            _latest.clear()
        shape = (_LargeShape if large else Shape)(opening, sizes, pieces)
        _known[opening, sizes, pieces] = shape
    return shape
