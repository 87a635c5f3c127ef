"""What a piece of lines comes to, as the messages that answer a task.

A message is for a range that was read whole, with everything in it. A line on which the engine
fails is counted as unparsed; the others of its piece are not lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from parser.errors import ParserError
from parser.pieces import Piece
from parser.ranges import MAX_LINE_BYTES
from parser.recipe import Recipe

if TYPE_CHECKING:
    from parser.extract import Engine, RangeSummary

__all__ = ["Message", "count_piece", "leading", "too_long"]

Message: TypeAlias = tuple[dict[str, Any], bytes]
"""A map of plain values, and the keys with their deltas, see RangeSummary."""

_LINE_BYTES: Final = 1024  # enough of a line to tell how it begins
_NOTHING: Final = b"\x90"  # no keys, as msgpack


def count_piece(
    task: dict[str, Any], piece: Piece, recipe: Recipe, engine: Engine
) -> Iterator[Message]:
    """Yield a message for a piece; more than one when the engine fails on a part of it."""
    if piece.too_long or piece.data_start == piece.end:
        yield _bare(task, piece), _NOTHING
        return
    continued = 0
    data, data_start = piece.data, piece.data_start
    if recipe.joins and data_start > 0:
        continued, skipped = leading(data, recipe)
        data, data_start = memoryview(data)[skipped:], data_start + skipped
    try:
        found = engine.summarize(data, source=task["source"], offset=data_start)
    except (ParserError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - one line must never cost the others
        yield from _halves(task, piece, recipe, engine, error)
        return
    message = _message_of(task, piece.start, piece.end, found)
    message["books"]["lines"] += continued
    if continued:
        message["books"]["continued"] = message["books"].get("continued", 0) + continued
    yield message, found.packed


def _halves(
    task: dict[str, Any],
    piece: Piece,
    recipe: Recipe,
    engine: Engine,
    error: Exception,
) -> Iterator[Message]:
    """Count a piece the engine failed on as two, down to the line that it fails on."""
    data = bytes(piece.data)
    middle = data.find(b"\n", len(data) // 2) + 1
    if not 0 < middle < len(data):
        middle = data.rfind(b"\n", 0, len(data) - 1) + 1
    if not 0 < middle < len(data):
        reason = f"the parser failed: {type(error).__name__}: {error}"
        yield _bare(task, piece, reason), _NOTHING
        return
    border = piece.data_start + middle
    for half in (
        Piece(piece.start, border, piece.data_start, data[:middle]),
        Piece(border, piece.end, border, data[middle:]),
    ):
        yield from count_piece(task, half, recipe, engine)


def _message_of(task: dict[str, Any], start: int, end: int, found: RangeSummary) -> dict[str, Any]:
    books = {
        "lines": found.lines,
        "matched": found.matched,
        "unparsed": found.unparsed,
        "skipped": found.skipped,
    }
    if found.continued:
        books["continued"] = found.continued
    return {
        "task": task["task"],
        "range": [start, end],
        "books": books,
        "keys": found.keys,
        "patterns": {pattern: list(seen) for pattern, seen in found.patterns.items()},
        "rejected": [list(rejected) for rejected in found.rejected],
    }


def _bare(task: dict[str, Any], piece: Piece, reason: str = "") -> dict[str, Any]:
    """Return the message for a piece without keys: one line nobody can read, or none."""
    lines = int(piece.end > piece.data_start)
    reason = reason or too_long()
    return {
        "task": task["task"],
        "range": [piece.start, piece.end],
        "books": {"lines": lines, "matched": 0, "unparsed": lines, "skipped": 0},
        "keys": 0,
        "patterns": {},
        "rejected": [[piece.data_start, bytes(piece.data[:4096]), reason]] if lines else [],
    }


def too_long() -> str:
    """Say why a line that is a piece of its own is unparsed."""
    return f"longer than {MAX_LINE_BYTES} bytes"


def leading(data: bytes | memoryview, recipe: Recipe) -> tuple[int, int]:
    """Return how many lines at the start continue what was counted before, and their bytes."""
    lines, size = _leading(bytes(data[:_LINE_BYTES]), recipe)
    return _leading(bytes(data), recipe) if lines else (lines, size)


def _leading(data: bytes, recipe: Recipe) -> tuple[int, int]:
    starts_event = recipe.starts_event()
    assert starts_event is not None
    lines = position = 0
    while position < len(data):
        newline = data.find(b"\n", position)
        line = data[position : newline if newline >= 0 else len(data)]
        if not line.strip(b" \t\r\0") or starts_event(line):
            break
        lines += 1
        position = newline + 1 if newline >= 0 else len(data)
    return lines, position
