"""Reads its share of the sources and sends what it found, never the lines.

Runs in a process of its own (``python -m parser.producer FD``), at the other end of one socket that
nobody else holds: no lock and no queue is shared, so a producer may be killed at any moment
without anyone else noticing more than the end of its socket. ``Work`` is the same without a
process, for small inputs.

Guarantees:

* A task is answered by any number of *pieces* and one *done*. A piece is a range that was read
  whole, with everything in it; pieces of a task come in order and tile what the task covers, so
  whatever is missing after a death begins where the last piece ended.
* Memory is bounded by the size of a piece, whatever the size of the file, of a line, or of what a
  compressed file unfolds to.
* Before a piece of a plain file is sent, its file is looked at again: if it does not begin as it
  did when it was planned, it was replaced while we read, and the piece is dropped.
* A line on which the engine fails is counted as unparsed; the others of its piece are not lost.
* When the parent is gone, so is the producer, within two seconds.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgpack

from parser import frames
from parser.errors import ParserError
from parser.fingerprint import Marker
from parser.pieces import Piece, cut_pieces, whole_pieces
from parser.ranges import MAX_LINE_BYTES, boundary
from parser.recipe import Recipe
from parser.source import OpenedFile, file_blocks
from parser.streams import BLOCK_BYTES, BrokenStream, decompress, kind_of

if TYPE_CHECKING:
    from parser.extract import Engine, RangeSummary

__all__ = ["STREAM_PIECE_BYTES", "Message", "Work", "count_piece", "main"]

Message = tuple[dict[str, Any], bytes]

STREAM_PIECE_BYTES: Final = 4 << 20
"""A piece of a stream, at most."""

PIECE_KEYS: Final = 4000
"""About how many keys a piece may have: the store takes a piece at once, in about a microsecond a
key, and other clients wait that long. A log with a key of its own in every line gets small pieces,
one with twenty lines a key large ones."""

NICENESS: Final = 10
"""Producers give way: where processors are few, those who ask the store must not wait for those
who count."""

_FIRST_PIECE_BYTES: Final = 1 << 18
_LEAST_PIECE_BYTES: Final = 1 << 16
_LINE_BYTES: Final = 1024  # enough of a line to tell how it begins
_NOTHING: Final = b"\x90"  # no keys, as msgpack
_MAX_ENGINES: Final = 4  # each holds tables of its own
_IDLE_S: Final = 0.3  # a pipe that is silent for so long shows what it has


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

        ``prefix`` holds bytes that were already read from a pipe.
        """
        done: dict[str, Any] = {"task": task["task"], "done": True, "problem": None}
        try:
            recipe, engine = self._engine(task["recipe"])
            if task["kind"] == "plain":
                yield from self._read_file(task, recipe, engine)
            else:
                yield from self._read_stream(task, recipe, engine, prefix, done)
        except OSError as error:
            done["problem"] = (error.strerror or str(error)).lower()
        except (BrokenStream, ParserError) as error:
            done["problem"] = str(error)
        except _Changed as error:
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
                    raise _Changed("the file was replaced while it was read")
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
            raise _Changed("the file became shorter while it was read")
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
        raw = _Counted(
            _pipe_blocks(prefix) if task["kind"] == "stdin" else file_blocks(task["path"])
        )
        kind = kind_of(prefix) if task["kind"] == "stdin" else task["kind"]
        content = _Stretches(decompress(kind, raw), known)
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


class _Changed(Exception):
    """The file is no longer the one that was planned."""


# ---------------------------------------------------------------------------------- counting


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
        continued, skipped = _leading(bytes(data[:_LINE_BYTES]), recipe)
        if continued:
            continued, skipped = _leading(bytes(data), recipe)
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
    reason = reason or f"longer than {MAX_LINE_BYTES} bytes"
    return {
        "task": task["task"],
        "range": [piece.start, piece.end],
        "books": {"lines": lines, "matched": 0, "unparsed": lines, "skipped": 0},
        "keys": 0,
        "patterns": {},
        "rejected": [[piece.data_start, bytes(piece.data[:4096]), reason]] if lines else [],
    }


def _leading(data: bytes, recipe: Recipe) -> tuple[int, int]:
    """Return how many lines at the start continue what was counted before, and their bytes."""
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


# ----------------------------------------------------------------------------------------- reading


def _file_blocks_between(file: OpenedFile, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = file.read_at(start, min(BLOCK_BYTES, end - start))
        if not block:
            raise _Changed("the file became shorter while it was read")
        start += len(block)
        yield block


def _pipe_blocks(prefix: bytes) -> Iterator[bytes]:
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


class _Counted:
    """Blocks, and how many bytes they held."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.bytes = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.bytes += len(block)
            yield block


class _Stretches:
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
                        raise _Changed(f"is another log than the one known, from byte {offset} on")
        return block


# ------------------------------------------------------------------------------- as a process


def main() -> None:
    """Serve the socket whose descriptor is the argument, until it ends."""
    _die_with(os.getppid())
    os.nice(NICENESS)
    link = socket.socket(fileno=int(sys.argv[1]))
    link.setblocking(True)
    import parser.kernel.engine  # noqa: F401 - while the parent still finds out what there is to do

    work = Work()
    decoder = frames.Decoder()
    try:
        while True:
            frame = decoder.next()
            if frame is None:
                data = link.recv(1 << 16)
                if not data:
                    return
                decoder.feed(data)
                continue
            for message, payload in work.messages(*frame):
                for part in frames.encode(message, payload):
                    link.sendall(part)
    except (BrokenPipeError, ConnectionResetError):
        return


def _die_with(parent: int) -> None:
    """End this process when its parent is gone, however busy it is."""
    if sys.platform == "linux":
        import ctypes
        import signal

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
