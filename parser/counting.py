"""The census of several logs: in this process, or large plain files in pieces by several.

Guarantees: the same census whatever the number of processes (an event, with its continuation lines,
belongs to the piece it begins in); one file that cannot be read does not stop the others.

A counting process reads its tasks as msgpack from standard input and answers with one message:
``[census, lines, unparsed, problems]``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import msgpack

from parser.census import Census
from parser.chunks import stretch_of
from parser.errors import SourceError
from parser.events import Log, open_log, read_log
from parser.extract import Event
from parser.pipeline import processors
from parser.recipe import Recipe
from parser.run import Reading
from parser.source import STDIN, Input, inspect
from parser.streams import BrokenStream

__all__ = ["Counted", "count_logs"]

PARALLEL_BYTES: Final = 24 << 20
"""Less of plain files is counted before another process would have started."""
PIECE_BYTES: Final = 4 << 20


@dataclass(slots=True)
class Counted:
    """A census and its books."""

    census: Census = field(default_factory=Census)
    lines: int = 0
    unparsed: int = 0
    formats: dict[str, str] = field(default_factory=dict)
    """Path -> which format was taken, and why."""


def count_logs(
    paths: Sequence[str],
    reading: Reading,
    report: Callable[[str], None],
    processes: int | None = None,
) -> Counted:
    """Count logs; what cannot be read is told to ``report``. Raises ParserError for options.

    Args:
        paths: files, plain or compressed; ``-`` is standard input.
        reading: how they are read.
        report: takes a sentence.
        processes: how many may be used; as many as there are processors unless given.
    """
    counted = Counted()
    large = _large(paths) if processes is None or processes > 1 else set()
    tasks: list[list[Any]] = []
    for path in paths:
        try:
            log = open_log(path, reading)
            counted.formats[path] = log.why
            if path in large:
                tasks += _pieces(log)
            else:
                _count(log, counted)
        except SourceError as error:
            report(str(error))
        except BrokenStream as error:
            report(f"{path}: {error}")
        except OSError as error:
            report(f"{path}: {error.strerror or error}")
    if tasks:
        _in_processes(tasks, counted, report, processes or processors())
    return counted


def _large(paths: Sequence[str]) -> set[str]:
    """Return the plain files that are worth to be shared out, if together they are large."""
    sizes = {
        path: found.size
        for path in paths
        if path != STDIN
        and isinstance(found := inspect(path), Input)
        and found.kind == "plain"
        and found.size > PIECE_BYTES
    }
    return set(sizes) if sum(sizes.values()) >= PARALLEL_BYTES and processors() > 1 else set()


def _count(log: Log, counted: Counted) -> None:
    add = counted.census.add
    try:
        for event in log.events():
            if isinstance(event, Event):
                add(event)
            else:
                counted.unparsed += 1
    finally:
        counted.lines += log.lines


def _pieces(log: Log) -> list[list[Any]]:
    size = Path(log.path).stat().st_size
    recipe = log.recipe.message()
    return [
        [log.path, start, min(start + PIECE_BYTES, size), recipe]
        for start in range(0, size, PIECE_BYTES)
    ]


def _in_processes(
    tasks: list[list[Any]], counted: Counted, report: Callable[[str], None], processes: int
) -> None:
    count = min(processes, len(tasks))
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "parser.counting"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        for _ in range(count)
    ]
    try:
        for number, worker in enumerate(workers):
            assert worker.stdin is not None
            with worker.stdin as pipe:
                pipe.write(msgpack.packb(tasks[number::count], unicode_errors="surrogateescape"))
        for worker in workers:
            assert worker.stdout is not None
            with worker.stdout as pipe:
                said = pipe.read()
            if worker.wait() != 0:
                raise SourceError("a counting process ended early")
            census, lines, unparsed, problems = msgpack.unpackb(
                said, strict_map_key=False, unicode_errors="surrogateescape"
            )
            counted.census.merge(census)
            counted.lines += lines
            counted.unparsed += unparsed
            for problem in problems:
                report(problem)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _serve(source: IO[bytes], sink: IO[bytes]) -> None:
    tasks: list[Any] = msgpack.unpackb(source.read(), unicode_errors="surrogateescape")
    counted = Counted()
    problems: list[str] = []
    for path, start, end, message in tasks:
        recipe = Recipe.read(message)
        try:
            chunks = stretch_of(path, start, end, recipe.starts_event())
            _count(read_log(path, recipe, chunks), counted)
        except OSError as error:
            problems.append(f"{path}: {error.strerror or error}")
    answer = [counted.census.message(), counted.lines, counted.unparsed, problems]
    sink.write(msgpack.packb(answer, unicode_errors="surrogateescape"))
    sink.flush()


if __name__ == "__main__":
    try:
        _serve(sys.stdin.buffer, sys.stdout.buffer)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # who asked is gone
