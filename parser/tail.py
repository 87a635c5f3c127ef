"""The end of a log, and what is written to it afterwards.

Guarantees:

* ``last_lines`` of a plain file reads from its end, never through it; of a stream it keeps only the
  lines asked for.
* ``Follower`` gives every byte that is appended once and in order: over a rename and a new file
  under the old name (the old file is read to its end first), over a truncation, and over a file
  that is away for a while. It reads with ordinary calls on an open file, so a log that shrinks is
  noticed and never a crash.
* A follower holds one open file and no data between its calls.

What a follower cannot know: a file truncated and grown beyond the old place between two polls looks
like one that only grew. (Ingest has fingerprints of the content for that; a screen does without.)
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

__all__ = ["Follower", "first_lines", "last_lines", "last_lines_of_stream"]

_BLOCK_BYTES: Final = 64 * 1024


def last_lines(file: BinaryIO, lines: int, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the last ``lines`` lines of a seekable file in pieces; leaves the file at its end.

    Searches backwards for where they begin, then reads forwards, so that a last line of a gigabyte
    costs no memory. The end is taken once: what is appended meanwhile is left for later.
    """
    size = file.seek(0, os.SEEK_END)
    begin = _begin_of_last(file, size, lines, block_bytes) if lines > 0 else size
    file.seek(begin)
    while begin < size:
        block = file.read(min(block_bytes, size - begin))
        if not block:
            return  # truncated while we read
        begin += len(block)
        yield block


def _begin_of_last(file: BinaryIO, size: int, lines: int, block_bytes: int) -> int:
    """Return the offset where the last ``lines`` lines begin."""
    wanted = lines
    at = size
    while at > 0:
        begin = max(0, at - block_bytes)
        file.seek(begin)
        block = file.read(at - begin)
        if at == size and block.endswith(b"\n"):
            block = block[:-1]  # it ends the last line and begins none
        found = block.count(b"\n")
        if found >= wanted:
            place = len(block)
            for _ in range(wanted):
                place = block.rfind(b"\n", 0, place)
            return begin + place + 1
        wanted -= found
        at = begin
    return 0


def last_lines_of_stream(chunks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """Yield the last lines of what can only be read forwards, such as a compressed file.

    Keeps those lines and at most two chunks more.
    """
    kept: deque[tuple[bytes, int]] = deque()
    newlines = 0
    ended = True
    for chunk in chunks:
        if not chunk:
            continue
        count = chunk.count(b"\n")
        kept.append((chunk, count))
        newlines += count
        ended = chunk.endswith(b"\n")
        # The newline that ends the last line begins none.
        while len(kept) > 1 and newlines - kept[0][1] - ended >= lines:
            newlines -= kept.popleft()[1]
    if lines <= 0 or not kept:
        return
    skip = newlines - ended + 1 - lines
    place = 0
    first = kept[0][0]
    for _ in range(skip):
        place = first.find(b"\n", place) + 1
    yield first[place:]
    for chunk, _ in list(kept)[1:]:
        yield chunk


def first_lines(chunks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """Yield the first lines and ask for no chunk more than they need."""
    if lines <= 0:
        return
    for chunk in chunks:
        count = chunk.count(b"\n")
        if count < lines:
            lines -= count
            yield chunk
            continue
        place = 0
        for _ in range(lines):
            place = chunk.find(b"\n", place) + 1
        yield chunk[:place]
        return


class Follower:
    """Reads what is appended to a path, whatever file is there."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.notices: list[str] = []
        """What happened to the file, for people: taken and cleared by whoever shows it."""
        self._file: BinaryIO | None = None
        self._open(offset)
        self._ended = True

    def close(self) -> None:
        """Close the file; ``read`` must not be called any more."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> bytes:
        """Return the next bytes, or none when there are none now. Never waits."""
        if self._file is None and not self._open(0):
            return b""
        data = self._read()
        if data:
            return data
        if self._was_truncated():
            self.notices.append(f"{self.path} was truncated; reading from its start")
            assert self._file is not None
            self._file.seek(0)
            return self._finish_line() + self._read()
        if self._was_replaced():
            # Written between the look at the old file and the look at its name.
            data = self._read()
            if data:
                return data
            self.close()
            self.notices.append(f"{self.path} is a new file now; following it")
            end = self._finish_line()
            return end + self._read() if self._open(0) else end
        return b""

    def _open(self, offset: int) -> bool:
        try:
            self._file = self.path.open("rb", buffering=0)
        except FileNotFoundError:
            return False
        self._file.seek(offset)
        return True

    def _read(self) -> bytes:
        assert self._file is not None
        data: bytes = self._file.read(_BLOCK_BYTES) or b""
        if data:
            self._ended = data.endswith(b"\n")
        return data

    def _finish_line(self) -> bytes:
        """End the line that the old content left unfinished, so that two do not become one."""
        ended, self._ended = self._ended, True
        return b"" if ended else b"\n"

    def _was_truncated(self) -> bool:
        assert self._file is not None
        return os.fstat(self._file.fileno()).st_size < self._file.tell()

    def _was_replaced(self) -> bool:
        assert self._file is not None
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False  # on its way to another name: its writer may still be writing
        here = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)
