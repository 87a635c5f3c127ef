"""Searching logs for lines, a block of whole lines at a time, and counting what is found.

Guarantees: constant memory, whatever the size of the input; a last line without a newline is a line
as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from parser.matcher import Matcher, Span

__all__ = ["Tally", "blocks_of_lines", "count", "select"]

MAX_LINE_BYTES: Final = 16 << 20
"""A line longer than this is searched in pieces; without a bound it could fill the memory."""


@dataclass(slots=True)
class Tally:
    """How many lines were looked at and how many were selected."""

    lines: int = 0
    selected: int = 0

    @property
    def percent(self) -> float:
        """The share of selected lines, 0 when there are no lines."""
        return 100 * self.selected / self.lines if self.lines else 0.0


def blocks_of_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut chunks so that each ends with a newline; only the last may not."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*held, chunk[:end]])
            held, size = [], 0
        if end < len(chunk):
            held.append(chunk[end:])
            size += len(chunk) - end
            if size > MAX_LINE_BYTES:
                yield b"".join(held)
                held, size = [], 0
    if held:
        yield b"".join(held)


def count(
    chunks: Iterable[bytes],
    matcher: Matcher,
    tally: Tally,
    *,
    invert: bool = False,
    total: bool = True,
) -> None:
    """Count in ``tally`` what ``select`` would select; all lines too if ``total``, at a price."""
    for block in blocks_of_lines(chunks):
        lines = _lines_in(block) if total or invert else 0
        matching = matcher.count(block)
        tally.lines += lines
        tally.selected += lines - matching if invert else matching


def select(
    chunks: Iterable[bytes],
    matcher: Matcher,
    tally: Tally,
    *,
    invert: bool = False,
    total: bool = True,
) -> Iterator[bytes]:
    """Yield the selected lines with their newlines, several at a time, and count them in ``tally``.

    A last line without a newline is given back with one, as grep does.
    """
    for block in blocks_of_lines(chunks):
        lines = _lines_in(block) if total or invert else 0
        tally.lines += lines
        found = list(matcher.spans(block))
        tally.selected += lines - len(found) if invert else len(found)
        pieces = [block[a:b] for a, b in (_others(block, found) if invert else found)]
        if not pieces:
            continue
        if not pieces[-1].endswith(b"\n"):
            pieces.append(b"\n")
        yield b"".join(pieces)


def _lines_in(block: bytes) -> int:
    return block.count(b"\n") + (not block.endswith(b"\n"))


def _others(block: bytes, spans: Iterable[Span]) -> Iterator[Span]:
    """Yield what lies between the matching lines."""
    at = 0
    for start, end in spans:
        if at < start:
            yield at, start
        at = end
    if at < len(block):
        yield at, len(block)
