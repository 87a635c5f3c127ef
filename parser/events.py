"""The events of one log, whatever it is stored in: a file, a compressed file, a pipe.

Guarantees: constant memory; the format is told from the beginning of the log unless it is given;
an event has all of its continuation lines, also where two blocks meet; what was readable of a
damaged compressed file is given before ``BrokenStream`` says where it ends. Lines are cut and
counted as an ingest does it: one that is too long is one unparsed line, and lines that continue it,
or an event that is too long, are counted and given to nobody.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from parser.chunks import chunks_of
from parser.extract import Event, Rejected
from parser.filters import Filters
from parser.interpreter import Interpreter
from parser.messages import leading, too_long
from parser.pieces import Piece, cut_pieces
from parser.recipe import Recipe
from parser.run import Reading, recipes
from parser.source import SAMPLE_BYTES, STDIN, Input, inspect
from parser.times import zone_named

__all__ = ["Log", "open_log", "read_log"]


def stdin_is_quiet(wait_s: float) -> bool:
    """Whether nothing comes from standard input for so long."""
    return not select.select([0], [], [], wait_s)[0]


@dataclass(slots=True)
class Log:
    """A log that is being read."""

    path: str
    recipe: Recipe
    interpreter: Interpreter
    why: str
    """Which format was taken, and why, for people."""
    pieces: Iterator[Piece]
    filters: Filters = field(default_factory=Filters)
    lines: int = 0
    """Lines read so far."""

    def events(self) -> Iterator[Event | Rejected]:
        """Yield the events in their order, and what could not be read.

        With filters, only the events that match: what cannot be read cannot match.
        """
        matches = self.filters.matches if self.filters else None
        for piece in self.pieces:
            for event in self._read(piece):
                if matches is None or (isinstance(event, Event) and matches(event)):
                    yield event

    def _read(self, piece: Piece) -> Iterator[Event | Rejected]:
        data = bytes(piece.data)
        if piece.too_long:
            self.lines += 1
            yield Rejected(piece.start, data, too_long())
            return
        self.lines += data.count(b"\n") + (not data.endswith(b"\n"))
        skipped = leading(data, self.recipe)[1] if self.recipe.joins and piece.start else 0
        yield from self.interpreter.events(data[skipped:], piece.start + skipped)


def open_log(path: str, reading: Reading) -> Log:
    """Open a log and find out its format. Raises what ``chunks_of`` raises, and ParserError."""
    chunks = chunks_of(path)
    begin: list[bytes] = []
    size = 0
    for chunk in chunks:
        begin.append(chunk)
        size += len(chunk)
        if size >= SAMPLE_BYTES or (path == STDIN and stdin_is_quiet(0.2)):
            break
    chosen: dict[str, str] = {}
    found = None if path == STDIN else inspect(path)
    if not isinstance(found, Input):
        found = Input(path, "stdin", 0, None, 0)
    recipe = recipes(reading, 0, chosen)(found, b"".join(begin)[:SAMPLE_BYTES])
    return read_log(path, recipe, chain(begin, chunks), chosen[path])


def read_log(path: str, recipe: Recipe, chunks: Iterable[bytes], why: str = "") -> Log:
    """Read a log, or a stretch of it, of which it is known how to read it."""
    interpreter = Interpreter(
        recipe.format,
        multiline=recipe.multiline,
        tz=zone_named(recipe.tz),
        year_hint_ms=recipe.year_hint_ms,
    )
    pieces = cut_pieces(chunks, 0, piece_bytes=1, starts_event=recipe.starts_event())
    return Log(path, recipe, interpreter, why, pieces, Filters.read(recipe.filters))
