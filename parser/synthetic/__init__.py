"""Realistic logs from a seed, for the demo, the tests and the benchmarks.

Guarantees: the same format, number of lines and seed give the same bytes on every machine and
every supported Python; exactly ``lines`` lines, each ended by a newline; constant memory; well over
300,000 lines a second, so that a benchmark does not wait for its input.

How it is fast: nothing is formatted line by line that can be formatted together. An HDFS block is
one *story* whose lines are formatted at once; a wheel holds what still has to happen, by second,
and a second is written with one join. Only ``random()`` and ``getrandbits()`` are used, because
their results are promised to stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from parser.synthetic.access import access_log
from parser.synthetic.hdfs import FIRST_BLOCK, hdfs_log
from parser.synthetic.jsonlines import json_log
from parser.synthetic.seconds import Seconds
from parser.synthetic.syslog import system_log

__all__ = ["FIRST_BLOCK", "FORMATS", "generate"]

FORMATS: Final[dict[str, Callable[[Random], Seconds]]] = {
    "hdfs": hdfs_log,
    "combined": access_log,
    "syslog": system_log,
    "json": json_log,
}
"""What ``generate`` can write, by name."""

_CHUNK_BYTES: Final = 256 * 1024


def generate(format: str, lines: int, seed: int = 0) -> Iterator[bytes]:  # noqa: A002 - its name on the command line
    """Yield a log as chunks of whole lines.

    Args:
        format: one of FORMATS.
        lines: how many lines, exactly.
        seed: what the log depends on; equal seeds give equal logs.

    Raises:
        ValueError: no such format, or a negative number of lines.
    """
    try:
        seconds = FORMATS[format](Random(seed))  # noqa: S311 - a log, not a secret
    except KeyError:
        names = ", ".join(FORMATS)
        raise ValueError(f"no such format: {format!r} (there are {names})") from None
    if lines < 0:
        raise ValueError("the number of lines cannot be negative")
    return _chunks(seconds, lines)


def _chunks(seconds: Seconds, lines: int) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    while lines > 0:
        batch = next(seconds)
        if not batch:
            continue
        if len(batch) > lines:
            del batch[lines:]
        lines -= len(batch)
        text = b"\n".join(batch) + b"\n"
        held.append(text)
        size += len(text)
        if size >= _CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
