"""Does tasks: reads its share of the sources and gives what it found, never the lines.

Guarantees:

* A task is answered by any number of *pieces* and one *done*. A piece is a range that was read
  whole, with everything in it; pieces of a task come in order and tile what the task covers, so
  whatever is missing after a death begins where the last piece ended.
* Memory is bounded by the size of a piece, whatever the size of the file, of a line, or of what a
  compressed file unfolds to.
* Before a piece of a plain file is given out, its file is looked at again: if it does not begin as
  it did when it was planned, it was replaced while we read, and the piece is dropped.

This is what a producer does in its process; small inputs are read without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgpack

from parser.errors import ParserError, reason_of
from parser.messages import Message, count_piece
from parser.pieces import Piece, cut_pieces, whole_pieces
from parser.ranges import MAX_LINE_BYTES, boundary
from parser.recipe import Recipe
from parser.source import OpenedFile, file_blocks
from parser.streams import BLOCK_BYTES, BrokenStream, decompress, kind_of
from parser.stretches import Changed, CountedBlocks, Stretches, stdin_blocks

if TYPE_CHECKING:
    from parser.extract import Engine

__all__ = ["STREAM_PIECE_BYTES", "Work"]

STREAM_PIECE_BYTES: Final = 4 << 20
"""A piece of a stream, at most."""

PIECE_KEYS: Final = 4000
"""About how many keys a piece may have: the store takes a piece at once, in about a microsecond a
key, and other clients wait that long. A log with a key of its own in every line gets small pieces,
one with twenty lines a key large ones."""

_FIRST_PIECE_BYTES: Final = 1 << 18
_LEAST_PIECE_BYTES: Final = 1 << 16
_MAX_ENGINES: Final = 4  # each holds tables of its own


class Work:
    """Does tasks one after the other."""

    def __init__(self, engine_of: Callable[[Recipe], Engine] = Recipe.engine) -> None:
        self._engine_of = engine_of
        self._engines: dict[bytes, tuple[Recipe, Engine]] = {}
        self._buffer = bytearray()
        self._source: int | None = None
        self._size = _FIRST_PIECE_BYTES

    def messages(self, task: dict[str, Any], prefix: bytes = b"") -> Iterator[Message]:
        """Do a task and yield the messages that answer it, the last one ``done``.

        It says ``try_again`` where the problem may pass: not what the source holds, but reading it
        failed. ``prefix`` holds bytes that were already read from a pipe.
        """
        done: dict[str, Any] = {"task": task["task"], "done": True, "problem": None}
        try:
            recipe, engine = self._engine(task["recipe"])
            if task["kind"] == "plain":
                yield from self._read_file(task, recipe, engine)
            else:
                yield from self._read_stream(task, recipe, engine, prefix, done)
        except OSError as error:
            done["problem"] = reason_of(error)
            done["try_again"] = True
        except (BrokenStream, ParserError) as error:
            done["problem"] = str(error)
        except Changed as error:
            done["problem"] = str(error)
        except Exception as error:  # noqa: BLE001 - said in the report, not as a traceback
            done["problem"] = f"the reader failed: {type(error).__name__}: {error}"
        yield done, b""

    def engine(self, recipe: Recipe) -> Engine:
        """Return the engine for a recipe, the same one for equal recipes."""
        return self._engine(recipe.message())[1]

    def _engine(self, message: dict[str, Any]) -> tuple[Recipe, Engine]:
        name = msgpack.packb(message, unicode_errors="surrogateescape")
        held = self._engines.get(name)
        if held is None:
            if len(self._engines) >= _MAX_ENGINES:
                del self._engines[next(iter(self._engines))]
            recipe = Recipe.read(message)
            held = self._engines[name] = recipe, self._engine_of(recipe)
        return held

    # ----------------------------------------------------------------------------- plain files

    def _read_file(self, task: dict[str, Any], recipe: Recipe, engine: Engine) -> Iterator[Message]:
        start, end = task["start"], task["end"]
        with OpenedFile(task["path"]) as file:
            starts_event = recipe.starts_event()
            low = boundary(file.read_at, task["cut"][0], start, end, starts_event)
            high = boundary(file.read_at, task["cut"][1], start, end, starts_event)
            if (
                high == end and task["to_the_end"] and not task["live"]
            ):  # a line may have been completed since
                high = boundary(file.read_at, end, start, max(end, file.size))
            if low >= high:
                return
            inside = low == start > 0 and file.read_at(start - 1, 1) != b"\n"
            to_the_end = high < end or not task["live"]
            usual = high - low <= task["cut"][1] - task["cut"][0] + 2 * MAX_LINE_BYTES
            if usual and to_the_end and not inside:
                pieces = self._pieces_at_once(task, file, low, high, starts_event)
            else:  # a very long line or event is not read at once
                pieces = cut_pieces(
                    _file_blocks_between(file, low, high),
                    low,
                    inside_line=inside,
                    piece_bytes=max(task["cut"][1] - task["cut"][0], STREAM_PIECE_BYTES),
                    starts_event=starts_event,
                    to_the_end=to_the_end,
                )
            for piece in pieces:
                messages = list(count_piece(task, piece, recipe, engine))
                if file.read_at(0, len(task["begin"])) != task["begin"]:
                    raise Changed("the file was replaced while it was read")
                self._learn(task, messages)
                yield from messages

    def _pieces_at_once(
        self,
        task: dict[str, Any],
        file: OpenedFile,
        low: int,
        high: int,
        starts_event: Callable[[bytes], bool] | None,
    ) -> Iterator[Piece]:
        """Read a range in as few pieces as hold no more keys than the store takes at once."""
        while low < high:
            size = self._piece_bytes(task["source"])
            end = high
            if high - low > size + size // 2:
                end = boundary(file.read_at, low + size, low, high, starts_event)
            yield from whole_pieces(self._read_at_once(file, low, end), low)
            low = end

    def _piece_bytes(self, source: int) -> int:
        """Return how large the next piece of a source should be."""
        if source != self._source:
            self._source, self._size = source, _FIRST_PIECE_BYTES
        return self._size

    def _learn(self, task: dict[str, Any], messages: list[Message]) -> None:
        """Take from a piece how many keys a source has to the byte."""
        for message, _ in messages:
            start, end = message["range"]
            wanted = (end - start) * PIECE_KEYS // max(message["keys"], 1)
            if task["source"] == self._source and (
                wanted < self._size or end - start >= self._size // 2
            ):
                self._size = max(_LEAST_PIECE_BYTES, min(wanted, 4 * self._size))

    def _read_at_once(self, file: OpenedFile, low: int, high: int) -> memoryview:
        """Read a range into the buffer that the one before was in: fresh memory costs more."""
        size = high - low
        if len(self._buffer) < size:
            self._buffer = bytearray(size + MAX_LINE_BYTES)
        view = memoryview(self._buffer)[:size]
        if file.read_into(low, view) < size:
            raise Changed("the file became shorter while it was read")
        return view

    # ----------------------------------------------------------------------------------- streams

    def _read_stream(
        self,
        task: dict[str, Any],
        recipe: Recipe,
        engine: Engine,
        prefix: bytes,
        done: dict[str, Any],
    ) -> Iterator[Message]:
        known = dict(task["marks"])
        raw = CountedBlocks(
            stdin_blocks(prefix) if task["kind"] == "stdin" else file_blocks(task["path"])
        )
        kind = kind_of(prefix) if task["kind"] == "stdin" else task["kind"]
        content = Stretches(decompress(kind, raw), known)
        sent = 0
        try:
            for start, end in task["wanted"]:
                if not content.skip_to(start):
                    break
                pieces = cut_pieces(
                    content.until(end),
                    start,
                    inside_line=start > 0 and content.last_byte != b"\n",
                    piece_bytes=lambda: min(self._piece_bytes(task["source"]), STREAM_PIECE_BYTES),
                    starts_event=recipe.starts_event(),
                )
                for piece in pieces:
                    messages = list(count_piece(task, piece, recipe, engine))
                    self._learn(task, messages)
                    for message, payload in messages:
                        message["read"] = raw.bytes
                        message["size"] = content.position
                        if len(content.marker.marks) > sent:
                            sent = len(content.marker.marks)
                            message["marks"] = sorted(content.marker.marks.items())
                        yield message, payload
        finally:
            done["size"] = content.position
            done["marks"] = sorted(content.marker.marks.items())


def _file_blocks_between(file: OpenedFile, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = file.read_at(start, min(BLOCK_BYTES, end - start))
        if not block:
            raise Changed("the file became shorter while it was read")
        start += len(block)
        yield block
