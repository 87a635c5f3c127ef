"""Searching files for lines: one after the other, or large ones in several processes.

Guarantees: results come in the order of the files, lines in the order of the file, whatever the
number of processes. Memory is bounded: a process that is ahead waits until its results are taken.

Each process searches its share of the *stretches* (a whole file, or a piece of a large plain one;
a stretch owns the lines that begin in it) and writes to its standard output, for each stretch::

    (length u32, lines) repeated, 0 u32, length u32, msgpack [lines, selected, problem]
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgpack

from parser.chunks import chunks_of, is_stream, stretch_of
from parser.errors import SourceError
from parser.matcher import Matcher, compile_pattern
from parser.search import Tally, count, select
from parser.source import Input, inspect
from parser.streams import BrokenStream

__all__ = ["FileResult", "Search", "search_files"]

PARALLEL_BYTES: Final = 128 << 20
"""Less than this is searched before a second process would have started."""
STRETCH_BYTES: Final = 32 << 20
_COMPRESSION: Final = 8  # searching compressed bytes costs so much more, about
_U32: Final = struct.Struct("<I")


class Search(NamedTuple):
    """What is searched for."""

    pattern: str
    ignore_case: bool = False
    fixed: bool = False
    invert: bool = False
    wants_lines: bool = True
    """Or only how many there are."""
    wants_total: bool = True
    """Whether the tally is to count all lines, which costs a quarter of a quick search."""

    def matcher(self) -> Matcher:
        """Compile the pattern. Raises PatternError."""
        return compile_pattern(self.pattern, ignore_case=self.ignore_case, fixed=self.fixed)


class _Stretch(NamedTuple):
    path: str
    start: int = 0
    end: int = -1
    """-1: the whole of the file."""


@dataclass
class FileResult:
    """The result for one file. Take all chunks; then the tally and the problem are final."""

    path: str
    chunks: Iterator[bytes]
    tally: Tally = field(default_factory=Tally)
    problem: str = ""


def search_files(
    paths: Sequence[str], search: Search, processes: int | None = None
) -> Iterator[FileResult]:
    """Yield a result for each path; take the chunks of one before asking for the next.

    Args:
        paths: files, plain or compressed, or pipes; ``-`` is standard input.
        search: what to look for.
        processes: how many may be used; as many as there are processors unless given. One means
            this process.
    """
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        if _work(paths) < PARALLEL_BYTES:
            processes = 1
    if processes > 1 and not any(map(is_stream, paths)):
        yield from _in_processes(paths, search, processes)
        return
    matcher = search.matcher()
    for path in paths:
        result = FileResult(path, iter(()))
        result.chunks = _searched(_Stretch(path), search, matcher, result)
        yield result
        for _ in result.chunks:
            pass


def _work(paths: Sequence[str]) -> int:
    inputs = [found for path in paths if isinstance(found := inspect(path), Input)]
    return sum(one.size * (1 if one.kind == "plain" else _COMPRESSION) for one in inputs)


def _searched(
    stretch: _Stretch, search: Search, matcher: Matcher, result: FileResult
) -> Iterator[bytes]:
    """Yield the selected lines of a stretch and keep the tally."""
    chunks = chunks_of(stretch.path) if stretch.end < 0 else stretch_of(*stretch)
    readable = _guarded(chunks, result)
    if search.wants_lines:
        yield from select(
            readable, matcher, result.tally, invert=search.invert, total=search.wants_total
        )
    else:
        count(readable, matcher, result.tally, invert=search.invert, total=search.wants_total)


def _guarded(chunks: Iterable[bytes], result: FileResult) -> Iterator[bytes]:
    """Yield chunks as long as they can be read, so that a last line is searched in any case."""
    try:
        yield from chunks
    except SourceError as error:
        result.problem = str(error)
    except BrokenStream as error:
        result.problem = f"{result.path}: {error}"
    except OSError as error:
        result.problem = f"{result.path}: {error.strerror or error}"


# --------------------------------------------------------------------------------------- processes


def _in_processes(paths: Sequence[str], search: Search, processes: int) -> Iterator[FileResult]:
    stretches = [list(_stretches(path)) for path in paths]
    flat = [stretch for of_path in stretches for stretch in of_path]
    count = min(processes, len(flat))
    workers = [_start(search, flat[n::count]) for n in range(count)]
    at = 0
    try:
        for path, of_path in zip(paths, stretches, strict=True):
            streams = [_stream(workers[(at + n) % count]) for n in range(len(of_path))]
            at += len(of_path)
            result = FileResult(path, iter(()))
            result.chunks = _received(streams, result)
            yield result
            for _ in result.chunks:
                pass
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            _stream(worker).close()


def _stretches(path: str) -> Iterator[_Stretch]:
    found = inspect(path)
    if not isinstance(found, Input) or found.kind != "plain" or found.size <= STRETCH_BYTES:
        yield _Stretch(path)
        return
    for start in range(0, found.size, STRETCH_BYTES):
        yield _Stretch(path, start, min(start + STRETCH_BYTES, found.size))


def _start(search: Search, stretches: Sequence[_Stretch]) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parent.parent)
    worker = subprocess.Popen(
        [sys.executable, "-m", "parser.grep"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        },
    )
    assert worker.stdin is not None
    worker.stdin.write(msgpack.packb([search, stretches], unicode_errors="surrogateescape"))
    worker.stdin.close()
    return worker


def _stream(worker: subprocess.Popen[bytes]) -> IO[bytes]:
    assert worker.stdout is not None
    return worker.stdout


def _received(streams: Sequence[IO[bytes]], result: FileResult) -> Iterator[bytes]:
    for stream in streams:
        while size := _size(stream):
            yield stream.read(size)
        lines, selected, problem = msgpack.unpackb(
            stream.read(_size(stream)), unicode_errors="surrogateescape"
        )
        result.tally.lines += lines
        result.tally.selected += selected
        result.problem = result.problem or problem


def _size(stream: IO[bytes]) -> int:
    raw = stream.read(_U32.size)
    if len(raw) != _U32.size:
        raise SourceError("a searching process ended early")
    size: int = _U32.unpack(raw)[0]
    return size


def _serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Search what ``_start`` asks for; the other side of ``_received``."""
    asked: list[Any] = msgpack.unpackb(source.read(), unicode_errors="surrogateescape")
    search = Search(*asked[0])
    matcher = search.matcher()
    for raw in asked[1]:
        stretch = _Stretch(*raw)
        result = FileResult(stretch.path, iter(()))
        for lines in _searched(stretch, search, matcher, result):
            sink.write(_U32.pack(len(lines)) + lines)
        tally = result.tally
        books = msgpack.packb(
            [tally.lines, tally.selected, result.problem], unicode_errors="surrogateescape"
        )
        sink.write(_U32.pack(0) + _U32.pack(len(books)) + books)
        sink.flush()


if __name__ == "__main__":
    try:
        _serve(sys.stdin.buffer, sys.stdout.buffer)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # who asked is gone; nothing is left to say, not even at the interpreter's end
