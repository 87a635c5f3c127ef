"""Content that streams past once: standard input, or what a compressed file unfolds to.

Guarantees:

* It is given out in stretches that follow each other; what lies between them is passed over.
* Its marks are made on the way and compared with those of the source it was taken for, each before
  the block that it ends in is given out: other content ends in ``Changed``.
* Memory is bounded by one block.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import Final

from parser.fingerprint import Marker
from parser.streams import BLOCK_BYTES

__all__ = ["Changed", "CountedBlocks", "Stretches", "stdin_blocks"]

_IDLE_S: Final = 0.3  # a pipe that is silent for so long shows what it has


class Changed(Exception):
    """The file is no longer the one that was planned."""


def stdin_blocks(prefix: bytes) -> Iterator[bytes]:
    """Yield what comes from standard input, and an empty block when nothing came for a while."""
    if prefix:
        yield prefix
    while True:
        ready, _, _ = select.select([0], [], [], _IDLE_S)
        if not ready:
            yield b""
            continue
        block = os.read(0, BLOCK_BYTES)
        if not block:
            return
        yield block


class CountedBlocks:
    """Blocks, and how many bytes they held."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.bytes = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.bytes += len(block)
            yield block


class Stretches:
    """Content that streams past once, given out in stretches; looks at its marks on the way."""

    def __init__(self, blocks: Iterator[bytes], known: dict[int, bytes]) -> None:
        self._blocks = blocks
        self._known = known
        self._ahead = b""
        self.position = 0
        self.last_byte = b""
        self.marker = Marker()

    def skip_to(self, offset: int) -> bool:
        """Pass over the content before ``offset``; False when it ends there or earlier."""
        for _ in self.until(offset):
            pass
        if self.position < offset:
            return False
        while not self._ahead:
            block = self._next()
            if block is None:
                return False
            self._ahead = block
        return True

    def until(self, end: int) -> Iterator[bytes]:
        """Yield the content before ``end``."""
        while self.position < end:
            block = self._ahead or self._next()
            if block is None:
                return
            size = end - self.position
            self._ahead = block[size:] if len(block) > size else b""
            block = block[:size]
            self.position += len(block)
            self.last_byte = block[-1:] or self.last_byte
            yield block

    def _next(self) -> bytes | None:
        block = next(self._blocks, None)
        if block:
            seen = len(self.marker.marks)
            self.marker.feed(block)
            if len(self.marker.marks) > seen:
                for offset, mark in self.marker.marks.items():
                    if self._known.get(offset, mark) != mark:
                        raise Changed(f"is another log than the one known, from byte {offset} on")
        return block
