"""What a range of lines gives, whichever engine reads it.

Two engines give the same results: the interpreter in plain Python, which starts at once and can
read every format, and the compiled kernel, which is far faster and takes a moment to load.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Final, NamedTuple, Protocol

from parser.format import Format
from parser.summary import Position

__all__ = [
    "MAX_LINE_BYTES",
    "Engine",
    "Event",
    "PatternSeen",
    "RangeSummary",
    "Rejected",
    "engine_for",
]

MAX_LINE_BYTES: Final = 1 << 20
"""A longer line is counted as unparsed."""

MAX_REJECTED: Final = 100
"""Unparsed lines of a range that are kept as samples."""

MAX_REJECTED_BYTES: Final = 4096
"""How much of each."""

MAX_WORD_BYTES: Final = 255
"""A longer level or tag is not counted as one."""

SMALL_BYTES: Final = 400_000 if sys.platform == "linux" else 1_500_000
"""Below this the interpreter is done before the kernel is loaded: in 25 ms from an image, in half a
second by numba; it reads 10 MB a second itself."""

COMPILE_BYTES: Final = 40_000_000
"""Below this it is done before a kernel that is not in the cache would be compiled."""


class PatternSeen(NamedTuple):
    """A pattern as one range saw it; the example is the message of its first line."""

    text: bytes
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody wants here
    first: Position
    last: Position
    example: bytes


class Rejected(NamedTuple):
    """A line that could not be read: where it begins, its bytes (cut), why."""

    offset: int
    data: bytes
    reason: str


@dataclass(slots=True)
class RangeSummary:
    """Everything counted in a range of lines: its books and a delta for each key.

    ``lines == matched + unparsed + skipped + continued``; the counts of the patterns add up to
    matched; a line counts once for each different key in it.
    """

    lines: int
    matched: int
    """Lines with at least one key."""
    unparsed: int
    skipped: int
    """Lines without a key, and empty ones."""
    continued: int
    """Lines that belong to the one before."""
    keys: int
    packed: bytes
    """A msgpack array of 2 * keys bins: key, packed delta, key, packed delta, and so on."""
    patterns: dict[int, PatternSeen]
    rejected: list[Rejected]


@dataclass(slots=True)
class Event:
    """One line, read."""

    time_ms: int | None
    level: bytes | None
    keys: list[bytes]
    content: bytes
    fields: dict[str, bytes]
    offset: int = 0
    more: list[bytes] = field(default_factory=list)
    """Its continuation lines."""


class Engine(Protocol):
    """Reads ranges of whole lines."""

    def summarize(self, data: bytes | memoryview, *, source: int, offset: int) -> RangeSummary:
        """Count the lines of data, which begins at `offset` of the source."""
        ...


def engine_for(
    fmt: Format,
    *,
    expected_bytes: int,
    multiline: bool = False,
    tz: tzinfo = UTC,
    year_hint_ms: int | None = None,
) -> Engine:
    """Return the engine that is done first with so many bytes of this format.

    `year_hint_ms` is the modification time of the file: year-less times do not lie after it.
    """
    # Without numba's JIT the kernel is only good for tests.
    jit = os.environ.get("NUMBA_DISABLE_JIT", "0") in {"", "0"}
    if jit and expected_bytes >= SMALL_BYTES and fmt.kind == "layout":
        from parser.kernel.codegen import generate
        from parser.kernel.errors import UnsupportedFormatError
        from parser.kernel.loader import is_ready

        with contextlib.suppress(UnsupportedFormatError):
            if expected_bytes >= COMPILE_BYTES or is_ready(generate(fmt).source):
                from parser.kernel.engine import Kernel

                return Kernel(fmt, multiline=multiline, tz=tz, year_hint_ms=year_hint_ms)
    from parser.interpreter import Interpreter

    return Interpreter(fmt, multiline=multiline, tz=tz, year_hint_ms=year_hint_ms)
