"""A stretch of content cut into pieces of whole lines, in bounded memory.

Guarantees:

* The pieces of a stretch tile it: each begins where the one before ends, the first at its start,
  the last at its end. Every line is whole in one piece.
* A line longer than ``MAX_LINE_BYTES`` is a piece of its own that holds only its beginning.
* With ``starts_event`` a piece ends before a line that starts an event, so a stack trace stays
  with its event; one above ``_MAX_EVENT_BYTES`` is cut at a line.
* A stretch that begins inside a line (the file ended there when it was last counted, and grew)
  begins with the rest of that line. The line was counted then; the rest is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from parser.ranges import MAX_LINE_BYTES
from parser.streams import BrokenStream

__all__ = ["SAMPLE_BYTES", "Piece", "cut_pieces", "whole_pieces"]

SAMPLE_BYTES: Final = 4096
"""What is kept of a line that is too long."""

_MAX_EVENT_BYTES: Final = 4 << 20


@dataclass(slots=True)
class Piece:
    """The bytes ``[start, end)`` of a source.

    ``data`` begins at ``data_start``. It holds whole lines, or, when ``too_long``, the beginning
    of one line.
    """

    start: int
    end: int
    data_start: int
    data: bytes | memoryview
    too_long: bool = False


def cut_pieces(
    blocks: Iterable[bytes],
    start: int,
    *,
    inside_line: bool = False,
    piece_bytes: int | Callable[[], int],
    starts_event: Callable[[bytes], bool] | None = None,
    to_the_end: bool = True,
) -> Iterator[Piece]:
    """Cut the content that begins at ``start`` into pieces of about ``piece_bytes``.

    The size may be a function that is asked before every block. An empty block says that nothing
    more is there for now: whole lines go out at once. At the end the last line goes out even
    without its newline if ``to_the_end``, else it is left; so it is when the blocks break off with
    BrokenStream or OSError, which goes on to the caller.
    """
    cutter = _Cutter(start, starts_event, inside_line=inside_line)
    try:
        for block in blocks:
            cutter.piece_bytes = piece_bytes() if callable(piece_bytes) else piece_bytes
            yield from cutter.feed(block)
    except (BrokenStream, OSError):
        yield from cutter.feed(b"")
        raise
    if to_the_end:
        yield from cutter.finish()


def whole_pieces(data: memoryview, start: int) -> Iterator[Piece]:
    """Cut a stretch that was read at once: one piece, unless lines in it are too long."""
    for low, high, too_long in _apart(data.obj, len(data)):
        if too_long:
            shown = bytes(data[low : min(high, low + SAMPLE_BYTES)])
            yield Piece(start + low, start + high, start + low, shown, too_long=True)
        else:
            yield Piece(start + low, start + high, start + low, data[low:high])


class _Cutter:
    def __init__(
        self,
        start: int,
        starts_event: Callable[[bytes], bool] | None,
        *,
        inside_line: bool,
    ) -> None:
        self.piece_bytes = 1
        self._starts_event = starts_event
        self._start = start  # of the piece that is being gathered
        self._passed = 0  # bytes of it that belong to a line counted before
        self._passing = inside_line
        self._held = bytearray()
        self._long: bytes | None = None  # the beginning of the line that is being skipped
        self._long_bytes = 0

    def feed(self, block: bytes) -> Iterator[Piece]:
        if not block:
            yield from self._emit(self._cut(idle=True))
            return
        if self._passing:
            newline = block.find(b"\n")
            self._passed += len(block) if newline < 0 else newline + 1
            if newline < 0:
                return
            self._passing = False
            block = block[newline + 1 :]
        if self._long is not None:
            newline = block.find(b"\n")
            self._long_bytes += len(block) if newline < 0 else newline + 1
            if newline < 0:
                return
            yield self._end_long()
            block = block[newline + 1 :]
        self._held += block
        if len(self._held) >= self.piece_bytes:
            yield from self._emit(self._cut(idle=False))
        if len(self._held) > MAX_LINE_BYTES and self._held.rfind(b"\n") < 0:
            yield from self._begin_long()

    def finish(self) -> Iterator[Piece]:
        if self._long is not None:
            yield self._end_long()
        yield from self._emit(len(self._held), last=True)

    def _cut(self, *, idle: bool) -> int:
        """Return how much of what is held can go out."""
        end = self._held.rfind(b"\n") + 1
        if self._starts_event is None or idle:
            return end
        line = end
        while line > 0:
            line, line_end = self._held.rfind(b"\n", 0, line - 1) + 1, line
            if line and self._starts_event(bytes(self._held[line : min(line_end, line + 1024)])):
                return line
        return end if len(self._held) > self.piece_bytes + _MAX_EVENT_BYTES else 0

    def _emit(self, size: int, *, last: bool = False) -> Iterator[Piece]:
        """Let the first ``size`` bytes go, long lines apart from the others."""
        if not size and not (last and self._passed):
            return
        data = bytes(self._held[:size])
        del self._held[:size]
        start, data_start = self._start, self._start + self._passed
        self._passed = 0
        for low, high, too_long in _apart(data, size):
            shown = data[low : min(high, low + SAMPLE_BYTES) if too_long else high]
            yield Piece(start, data_start + high, data_start + low, shown, too_long)
            start = data_start + high
        self._start = start if data else data_start
        if not data:
            yield Piece(start, data_start, data_start, b"")

    def _begin_long(self) -> Iterator[Piece]:
        if self._passed:
            yield Piece(self._start, self._start + self._passed, self._start + self._passed, b"")
            self._start += self._passed
            self._passed = 0
        self._long = bytes(self._held[:SAMPLE_BYTES])
        self._long_bytes = len(self._held)
        self._held.clear()

    def _end_long(self) -> Piece:
        assert self._long is not None
        start, self._start = self._start, self._start + self._long_bytes
        piece = Piece(start, self._start, start, self._long, too_long=True)
        self._long = None
        return piece


def _apart(data: Any, size: int) -> Iterator[tuple[int, int, bool]]:
    """Yield stretches ``(low, high, too_long)`` of ``data[:size]``, something that has ``find``.

    Lines that are too long stand alone.

    Looks for one newline in each ``MAX_LINE_BYTES``, from behind, so it costs next to nothing.
    """
    low = position = 0
    while size - position > MAX_LINE_BYTES:
        newline = data.rfind(b"\n", position, min(position + MAX_LINE_BYTES + 1, size))
        if newline >= 0:
            position = newline + 1
            continue
        if position > low:
            yield low, position, False
        newline = data.find(b"\n", position + MAX_LINE_BYTES, size)
        low = size if newline < 0 else newline + 1
        yield position, low, True
        position = low
    if size > low:
        yield low, size, False
