"""The events of one log, whatever it is stored in: a file, a compressed file, a pipe.

Guarantees: constant memory; the format is told from the beginning of the log unless it is given;
an event has all of its continuation lines, also where two blocks meet; what was readable of a
damaged compressed file is given before ``BrokenStream`` says where it ends.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from parser.chunks import chunks_of
from parser.extract import Event, Rejected
from parser.filters import Filters
from parser.interpreter import Interpreter
from parser.recipe import Recipe
from parser.run import Reading, recipes
from parser.search import blocks_of_lines
from parser.source import SAMPLE_BYTES, STDIN, Input, inspect
from parser.times import zone_named

__all__ = ["Log", "blocks_of_events", "open_log", "read_log"]


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
    blocks: Iterator[bytes]
    filters: Filters = field(default_factory=Filters)
    lines: int = 0
    """Lines read so far."""

    def events(self) -> Iterator[Event | Rejected]:
        """Yield the events in their order, and what could not be read.

        With filters, only the events that match: what cannot be read cannot match.
        """
        offset = 0
        matches = self.filters.matches if self.filters else None
        for block in self.blocks:
            self.lines += block.count(b"\n") + (not block.endswith(b"\n"))
            for event in self.interpreter.events(block, offset):
                if matches is None or (isinstance(event, Event) and matches(event)):
                    yield event
            offset += len(block)


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
    blocks = blocks_of_lines(chunks)
    starts = recipe.starts_event()
    if starts is not None:
        blocks = blocks_of_events(blocks, starts)
    return Log(path, recipe, interpreter, why, blocks, Filters.read(recipe.filters))


MAX_EVENT_BYTES: Final = 8 << 20
"""Continuation lines beyond this begin an event of their own."""


def blocks_of_events(
    blocks: Iterable[bytes], starts_event: Callable[[bytes], bool]
) -> Iterator[bytes]:
    """Move each end of a block back to where its last event begins."""
    held = b""
    for block in blocks:
        whole = held + block
        begin = _last_start(whole, starts_event)
        if begin == 0 and len(whole) < MAX_EVENT_BYTES:
            held = whole
            continue
        if begin == 0:
            begin = len(whole)
        yield whole[:begin]
        held = whole[begin:]
    if held:
        yield held


def _last_start(block: bytes, starts_event: Callable[[bytes], bool]) -> int:
    end = len(block)
    while end > 0:
        begin = block.rfind(b"\n", 0, end - 1) + 1
        if starts_event(block[begin:end]):
            return begin
        end = begin
    return 0
