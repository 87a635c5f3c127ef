"""A long string in blocks: to write over a part of it costs a block, not a copy of the whole.

``bytes`` cannot be changed, so to set a bit of a bitmap of 12 MB would copy 12 MB, and to read a
journal with a million such bits again would take hours. Here it costs a block and the tuple of
references to all of them: a few microseconds.

Immutable, like ``bytes`` and summaries, so whoever holds one while others write sees what it was.
"""

from __future__ import annotations

from typing import Final, TypeAlias, overload

__all__ = ["BLOCK_BYTES", "STRINGS", "LongString", "String", "whole", "written_over"]

BLOCK_BYTES: Final = 1 << 15
"""A compromise: a write copies one block, and a reference for each of them."""
LONG_BYTES: Final = 1 << 17
"""A string that is written in part is kept in blocks from this length on."""
_ZEROS: Final = bytes(BLOCK_BYTES)
"""The block of every gap: a string of 512 MB with one bit in it takes next to no memory."""


class LongString:
    """A string as a tuple of blocks, all of `BLOCK_BYTES` but the last, which is not empty."""

    __slots__ = ("_length", "blocks")

    def __init__(self, blocks: tuple[bytes, ...]) -> None:
        self.blocks: Final = blocks
        self._length: Final = (len(blocks) - 1) * BLOCK_BYTES + len(blocks[-1])

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return b"".join(self.blocks)

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> bytes: ...
    def __getitem__(self, at: int | slice) -> int | bytes:
        """Return a byte (not counted from the end), or a slice without a step; O(its length)."""
        if isinstance(at, int):
            return self.blocks[at // BLOCK_BYTES][at % BLOCK_BYTES]
        start, stop, _ = at.indices(self._length)
        if start >= stop:
            return b""
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        base = first * BLOCK_BYTES
        if first == last:
            return self.blocks[first][start - base : stop - base]
        return b"".join(self.blocks[first : last + 1])[start - base : stop - base]

    def written_over(self, offset: int, part: bytes) -> LongString:
        """Return the string with ``part``, which is not empty, in it; see the function below."""
        blocks = self.blocks
        first, last = offset // BLOCK_BYTES, (offset + len(part) - 1) // BLOCK_BYTES
        gap = first - len(blocks)
        if gap >= 0:
            blocks = (*blocks[:-1], blocks[-1].ljust(BLOCK_BYTES, b"\0"), *(_ZEROS,) * gap)
        base = first * BLOCK_BYTES
        window = _replaced(b"".join(blocks[first : last + 1]), offset - base, part)
        return LongString(blocks[:first] + _split(window) + blocks[last + 1 :])


String: TypeAlias = bytes | LongString
STRINGS: Final[frozenset[type]] = frozenset([bytes, LongString])


def whole(string: String) -> bytes:
    """Return a string in one piece; of a long one that is a copy."""
    return string if isinstance(string, bytes) else bytes(string)


def written_over(string: String, offset: int, part: bytes) -> String:
    """Return a string with a part of it replaced, filled with NUL up to there.

    Costs a copy below `LONG_BYTES`, and once when the string becomes so long; then a block.
    """
    if not part:
        return string
    if isinstance(string, LongString):
        return string.written_over(offset, part)
    if max(len(string), offset + len(part)) < LONG_BYTES:
        return _replaced(string, offset, part)
    return LongString(_split(string) or (b"",)).written_over(offset, part)


def _replaced(string: bytes, offset: int, part: bytes) -> bytes:
    if offset == len(string):
        return string + part
    before = string[:offset].ljust(offset, b"\0")
    return b"".join((before, part, string[offset + len(part) :]))


def _split(string: bytes) -> tuple[bytes, ...]:
    return tuple(string[at : at + BLOCK_BYTES] for at in range(0, len(string), BLOCK_BYTES))
