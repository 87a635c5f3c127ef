"""Runs: a chunk of many GETs or many SETs that differ in nothing but keys and values of one size.

Then every request has the same *shape*: the same bytes everywhere except in fixed places. Taken as
one long number, the chunk is compared with its shape in a single operation (what varies is masked
out), and a single ``unpack`` cuts the keys and values out of it: 1.1 µs for sixteen SETs, where
cutting at the line ends and comparing each header takes 3.9.

Guarantee: a chunk has a shape only when it is, byte for byte, requests of that shape. What does not
fit is somebody else's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from kvserver import resp

__all__ = ["Shape", "shape_of"]

MAX_CHUNK_BYTES: Final = 4096
"""Beyond it the comparison, which touches every byte, is no bargain."""
MAX_SHAPES: Final = 256
"""Kept at a time; each is a few kilobytes."""

_CRLF: Final = b"\r\n"
_ARGUMENTS: Final = {
    b"*%d\r\n$3\r\n%b\r\n" % (count, name): count - 1
    for count, names in ((2, (b"GET", b"get")), (3, (b"SET", b"set")))
    for name in names
}
_OPENING_BYTES: Final = 13
_SIZES: Final = {b"$%d" % size: size for size in range(1024)}
_number: Final = int.from_bytes


class Shape:
    """What the requests of a run have in common."""

    __slots__ = ("fixed", "mask", "n", "name", "ok", "unpack")

    def __init__(self, opening: bytes, sizes: tuple[int, ...], n: int) -> None:
        layout, fixed, mask = f"{len(opening)}x", opening, b"\xff" * len(opening)
        for size in sizes:
            head = b"$%d\r\n" % size
            layout += f"{len(head)}x{size}s2x"
            fixed += head + bytes(size) + _CRLF
            mask += b"\xff" * len(head) + bytes(size) + b"\xff\xff"
        self.n = n
        self.name = opening[8:11]
        self.fixed = _number(fixed * n, "little")
        self.mask = _number(mask * n, "little")
        self.unpack: Callable[[bytes], tuple[bytes, ...]] = struct.Struct(layout * n).unpack
        """From the chunk to its keys, each followed by its value if this is a run of SETs."""
        self.ok = resp.OK * n if len(sizes) == 2 else None
        """The reply to a run of SETs; None for GETs."""


_latest: dict[int, Shape] = {}
"""The last shape that a chunk of so many bytes had: clients repeat themselves."""
_known: dict[tuple[bytes, tuple[int, ...], int], Shape] = {}


def shape_of(data: bytes) -> Shape | None:
    """Return the shape of a run of two requests or more; None when this is something else."""
    shape = _latest.get(len(data))
    if shape is not None and _number(data, "little") & shape.mask == shape.fixed:
        return shape
    opening = data[:_OPENING_BYTES]
    arguments = _ARGUMENTS.get(opening)
    if arguments is None or len(data) > MAX_CHUNK_BYTES:
        return None
    sizes: tuple[int, ...] = ()
    at = _OPENING_BYTES
    for _ in range(arguments):
        end = data.find(_CRLF, at)
        size = _SIZES.get(data[at:end])
        if size is None:
            return None
        sizes += (size,)
        at = end + size + 4
    n, rest = divmod(len(data), at)
    if rest or n < 2:
        return None
    which = (opening, sizes, n)
    shape = _known.get(which)
    if shape is None:
        if not data.startswith(opening, at) or not data.startswith(opening, len(data) - at):
            return None  # not worth a new shape
        if len(_known) >= MAX_SHAPES:
            _known.clear()
            _latest.clear()
        shape = _known[which] = Shape(opening, sizes, n)
    if _number(data, "little") & shape.mask != shape.fixed:
        return None
    _latest[len(data)] = shape
    return shape
