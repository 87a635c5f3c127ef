"""The content of a file or of standard input as chunks, uncompressed. Light to import."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from parser.errors import SourceError
from parser.source import STDIN, Problem, inspect
from parser.streams import decompress, kind_of

__all__ = ["READ_BYTES", "chunks_of"]

READ_BYTES: Final = 1 << 20
"""How much of a plain file is read at once."""


def chunks_of(path: str) -> Iterator[bytes]:
    """Yield the uncompressed content of a file, or of standard input for ``-``, in chunks.

    Raises:
        SourceError: there is no such file, or it is none that can be read.
        BrokenStream: the compressed data ends early; comes after all that could be read.
    """
    if path == STDIN:
        blocks = _stdin_blocks()
        first = next(blocks, b"")
        yield from decompress(kind_of(first), chain([first], blocks))
        return
    found = inspect(path)
    if isinstance(found, Problem):
        raise SourceError(str(found))
    yield from decompress(found.kind, _file_blocks(path))


def _file_blocks(path: str) -> Iterator[bytes]:
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            yield block


def _stdin_blocks() -> Iterator[bytes]:
    while block := os.read(0, READ_BYTES):
        yield block
