"""What the server says of the logs it has counted, and the way back from a summary to its lines.

A position in a summary names its source and a byte offset in the uncompressed content. Where that
content lies now is found by content: at the path it was last seen at, or under a name beside it
that a rotation may have given it. Nothing here needs Trio, so that asking for a line is quick.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from parser.errors import reason_of
from parser.fingerprint import SourceInfo, find, info_of
from parser.ranges import MAX_LINE_BYTES
from parser.source import Input, OpenedFile, Problem, file_blocks, inspect, look_at
from parser.streams import BrokenStream, decompress

__all__ = ["LineGone", "Place", "lines_at", "source_of"]

_SIBLINGS: Final = 200
_WINDOW_BYTES: Final = 4096


def source_of(entry: Any) -> SourceInfo:
    """Read one entry of the reply to SOURCES."""
    shown = _named(entry)
    return info_of(
        int(_as_text(shown["id"]), 16),
        shown["ranges"],
        _named(shown["books"]),
        _named(shown["about"]),
    )


def _named(reply: Any) -> dict[str, Any]:
    """Return a map with text for names; older protocols send maps as flat lists."""
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    return {_as_text(name): value for name, value in reply.items()}


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line was found."""

    path: str
    offset: int
    line: bytes


class LineGone(Exception):
    """The line cannot be read back; the message says why."""


def lines_at(info: SourceInfo, offsets: list[int]) -> list[Place]:
    """Read lines of a source back. Raises LineGone.

    Of a plain file that costs one read each, of a compressed one reading up to the last offset.
    """
    if not info.path or info.path == "-":
        raise LineGone("the lines came from a pipe and are not kept")
    gone = ""
    for path in _candidates(info.path):
        found = inspect(path)
        if isinstance(found, Problem):
            gone = gone or f"{path}: {found.reason}"
            continue
        try:
            if find([info], look_at(found)) is None:
                gone = gone or f"{path} is another log now"
                continue
            return _read(found, offsets)
        except OSError as error:
            gone = gone or f"{path}: {reason_of(error)}"
        except _TooShort:
            gone = gone or f"{path} was truncated: it ends before the line"
    raise LineGone(gone)


class _TooShort(Exception):
    pass


def _candidates(path: str) -> Iterator[str]:
    """Yield the path, then names beside it that a rotation gives."""
    yield path
    stem = glob.escape(path)
    patterns = (stem + ".*", stem + "-*")
    found = {name for pattern in patterns for name in glob.iglob(pattern)}  # noqa: PTH207 - stray bytes
    beside = sorted(found)[:_SIBLINGS]
    for suffix in (".gz", ".bz2", ".xz", ".zst"):
        if path.endswith(suffix):
            beside.append(path.removesuffix(suffix))
    yield from beside


def _read(found: Input, offsets: list[int]) -> list[Place]:
    if found.kind != "plain":
        return [Place(found.path, n, line) for n, line in _stream_lines(found, offsets)]
    with OpenedFile(found.path) as file:
        places = []
        for offset in offsets:
            line = file.read_at(offset, _WINDOW_BYTES)
            if b"\n" not in line and len(line) == _WINDOW_BYTES:
                line = file.read_at(offset, MAX_LINE_BYTES)
            if not line:
                raise _TooShort
            places.append(Place(found.path, offset, _first_line(line)))
        return places


def _first_line(data: bytes) -> bytes:
    return data.partition(b"\n")[0].rstrip(b"\r")


def _stream_lines(found: Input, offsets: list[int]) -> Iterator[tuple[int, bytes]]:
    waiting = sorted(set(offsets))
    position = 0
    held = b""
    lines: dict[int, bytes] = {}
    try:
        for block in decompress(found.kind, file_blocks(found.path)):
            end = position + len(block)
            if held or waiting[0] < end:
                held += block if held else block[waiting[0] - position :]
            position = end
            while waiting and held and (b"\n" in held or len(held) > MAX_LINE_BYTES):
                at = waiting.pop(0)
                lines[at] = _first_line(held)
                held = held[waiting[0] - at :] if waiting and waiting[0] < position else b""
            if not waiting:
                break
    except BrokenStream:
        pass
    if waiting and held:
        lines[waiting.pop(0)] = _first_line(held)
    if waiting:
        raise _TooShort
    for offset in offsets:
        yield offset, lines[offset]
