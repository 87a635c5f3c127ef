"""Compressed content as a stream of plain blocks, in bounded memory.

Guarantees:

* What could be read is given before ``BrokenStream`` says where and why the rest could not:
  a truncated or damaged file never costs the lines before the break.
* Several members one after the other (as ``cat a.gz b.gz`` makes) are one stream; zero bytes after
  the last are padding.
* A block never grows with the compression ratio: a bomb comes out in small pieces.

The kind of compression is told by the first bytes, not by the name.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from zlib_ng import zlib_ng

__all__ = ["BLOCK_BYTES", "KINDS", "BrokenStream", "decompress", "kind_of"]

BLOCK_BYTES: Final = 1 << 18
"""The largest block that is given out (zst: see below)."""

_ZST_FEED_BYTES: Final = 2048
# zstandard's object takes no output limit; a block of 128 KiB can hide in four bytes, so small
# feeds are what bounds a bomb: 64 MiB for a moment, in the worst case anyone could construct

_GzipError: Any = zlib_ng.error  # its stub takes the class for an instance

KINDS: Final[dict[str, bytes]] = {
    "gz": b"\x1f\x8b",
    "bz2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "zst": b"\x28\xb5\x2f\xfd",
}


class BrokenStream(Exception):
    """Compressed input ends early or is damaged; everything before was given out."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"{reason} at byte {offset} of the compressed file")
        self.offset = offset
        self.reason = reason


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def feed(self, data: bytes) -> Iterator[bytes]: ...


def kind_of(begin: bytes) -> str:
    """Return ``gz``, ``bz2``, ``xz``, ``zst`` or ``plain`` for a file that begins like this."""
    for kind, magic in KINDS.items():
        if begin.startswith(magic):
            return kind
    return "plain"


def decompress(kind: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of compressed blocks. An empty block passes through: nothing new came.

    Raises BrokenStream after all that could be read was given.
    """
    if kind == "plain":
        yield from blocks
        return
    make = _MAKERS[kind]
    magic = KINDS[kind]
    current: _Decompressor | None = None
    read = 0  # compressed bytes given to a decompressor
    rest = b""
    for block in blocks:
        if not block:
            yield b""
            continue
        rest += block
        while rest:
            if current is None:
                rest = rest.lstrip(b"\0") if read else rest
                if len(rest) < len(magic) and magic.startswith(rest):
                    break  # not enough to tell; more may come
                if not rest.startswith(magic):
                    raise BrokenStream(read, "something else follows the compressed data")
                current = make()
            fed, rest = rest, b""
            try:
                yield from current.feed(fed)
            except (_GzipError, lzma.LZMAError, OSError, ValueError, EOFError) as error:
                raise BrokenStream(read, f"damaged {kind} data ({error})") from error
            except Exception as error:
                if type(error).__name__ != "ZstdError":  # not imported unless it is needed
                    raise
                raise BrokenStream(read, f"damaged {kind} data ({error})") from error
            read += len(fed)
            if current.eof:
                rest = current.unused_data
                read -= len(rest)
                current = None
    if current is not None or rest:
        raise BrokenStream(read + len(rest), f"{kind} data is cut off")


class _Gzip:
    def __init__(self) -> None:
        self._z = zlib_ng.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._z.eof

    @property
    def unused_data(self) -> bytes:
        return self._z.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._z.eof:
            plain = self._z.decompress(data, BLOCK_BYTES)
            data = self._z.unconsumed_tail
            if plain:
                yield plain


class _Bounded:
    """bz2 and lzma share an interface: ``decompress(data, max_length)`` and ``needs_input``."""

    def __init__(self, z: Any) -> None:
        self._z = z

    @property
    def eof(self) -> bool:
        return bool(self._z.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._z.unused_data)

    def feed(self, data: bytes) -> Iterator[bytes]:
        plain = self._z.decompress(data, BLOCK_BYTES)
        if plain:
            yield plain
        while not self._z.eof and not self._z.needs_input:
            plain = self._z.decompress(b"", BLOCK_BYTES)
            if plain:
                yield plain


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._z = zstandard.ZstdDecompressor().decompressobj()
        self.eof = False
        self.unused_data = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZST_FEED_BYTES):
            plain = self._z.decompress(data[start : start + _ZST_FEED_BYTES])
            if plain:
                yield plain
            if self._z.eof:
                self.eof = True
                self.unused_data = self._z.unused_data + data[start + _ZST_FEED_BYTES :]
                return


_MAKERS: Final[dict[str, Callable[[], _Decompressor]]] = {
    "gz": _Gzip,
    "bz2": lambda: _Bounded(bz2.BZ2Decompressor()),
    "xz": lambda: _Bounded(lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    "zst": _Zstd,
}
