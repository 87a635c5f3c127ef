"""The content of a file or of standard input as chunks, uncompressed. Light to import."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

from parser.errors import SourceError
from parser.source import STDIN, Problem, inspect
from parser.streams import decompress, kind_of

__all__ = ["READ_BYTES", "chunks_of", "is_stream", "stretch_of"]

READ_BYTES: Final = 1 << 20
"""How much of a plain file is read at once."""


def chunks_of(path: str) -> Iterator[bytes]:
    """Yield the uncompressed content of a file, or of standard input for ``-``, in chunks.

    Raises:
        SourceError: there is no such file, or it is none that can be read.
        BrokenStream: the compressed data ends early; comes after all that could be read.
    """
    if is_stream(path):
        blocks = _stdin_blocks() if path == STDIN else _file_blocks(path)
        first = next(blocks, b"")
        yield from decompress(kind_of(first), chain([first], blocks))
        return
    found = inspect(path)
    if isinstance(found, Problem):
        raise SourceError(str(found))
    yield from decompress(found.kind, _file_blocks(path))


def is_stream(path: str) -> bool:
    """Whether this can only be read once: standard input, or a pipe as ``<(command)`` makes."""
    if path == STDIN:
        return True
    try:
        return stat.S_ISFIFO(Path(path).stat().st_mode)
    except OSError:
        return False


def _file_blocks(path: str) -> Iterator[bytes]:
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            yield block


def _stdin_blocks() -> Iterator[bytes]:
    while block := os.read(0, READ_BYTES):
        yield block


def stretch_of(
    path: str,
    start: int,
    end: int,
    starts_event: Callable[[bytes], bool] | None = None,
) -> Iterator[bytes]:
    """Yield the lines of a plain file that begin in a stretch of it, in chunks.

    The same rule moves both ends, so stretches that tile a file give its content: to the next
    beginning of a line or, with ``starts_event``, to the next line that begins an event.
    """
    with Path(path).open("rb") as file:
        at = _border(file, start, starts_event)
        stop = max(at, _border(file, end, starts_event))
        file.seek(at)
        while at < stop and (block := file.read(min(READ_BYTES, stop - at))):
            at += len(block)
            yield block


_LINE_BYTES: Final = 1 << 20


def _border(file: BinaryIO, at: int, starts_event: Callable[[bytes], bool] | None) -> int:
    if at == 0:
        return 0
    # A line begins at a place when a newline stands before it.
    file.seek(at - 1)
    at -= 1
    begins = False
    while line := file.readline(_LINE_BYTES):
        if begins and (starts_event is None or starts_event(line)):
            return at
        at += len(line)
        begins = line.endswith(b"\n")
    return at
