"""What a command line names: files, globs, directories, standard input, compressed or not.

Guarantees:

* One unreadable thing never stops the others: everything that cannot be read becomes a ``Problem``
  with a sentence for a person.
* Only regular files are opened (and standard input, when asked for): a FIFO, a device or a socket
  would block or never end.
* A file that is named twice, directly or over links, is taken once.
* Reading is positioned reads on an open file; a log that shrinks is noticed, never a crash.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from parser.errors import UnreadableError, reason_of
from parser.fingerprint import BEGIN_BYTES, MARK_BYTES, Marker, mark_hash, mark_offsets
from parser.streams import BLOCK_BYTES, BrokenStream, decompress, kind_of

__all__ = [
    "STDIN",
    "FileState",
    "Input",
    "Looked",
    "OpenedFile",
    "Problem",
    "expand",
    "file_blocks",
    "inspect",
    "look_at",
    "look_at_stream",
    "paths_of",
    "state_of",
]

STDIN: Final = "-"
SAMPLE_BYTES: Final = 1 << 16
"""So much of the beginning is looked at to tell the format."""

_PROBE_BYTES: Final = 1 << 20  # of compressed content, read to tell which source it is


@dataclass(frozen=True, slots=True)
class Input:
    """A file to read, as it was when it was looked at."""

    path: str
    kind: str
    """``plain``, ``gz``, ``bz2``, ``xz``, ``zst``, or ``stdin``."""
    size: int
    """Bytes of the file itself, compressed if it is."""
    inode: tuple[int, int] | None
    mtime_ms: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read, or not to its end."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def expand(arguments: Sequence[str]) -> tuple[list[Input], list[Problem]]:
    """Find out what the arguments name, in their order, files of a directory sorted by name."""
    inputs: list[Input] = []
    problems: list[Problem] = []
    seen: set[tuple[int, int]] = set()
    for path in paths_of(arguments, problems):
        if path == STDIN:
            inputs.append(Input(STDIN, "stdin", 0, None, 0))
            continue
        found = inspect(path)
        if isinstance(found, Problem):
            problems.append(found)
        elif found.inode not in seen:
            if found.inode is not None:
                seen.add(found.inode)
            inputs.append(found)
    return inputs, problems


def paths_of(arguments: Sequence[str], problems: list[Problem]) -> Iterator[str]:
    """Yield the paths that the arguments name; what names nothing is added to ``problems``."""
    for argument in arguments:
        if argument == STDIN:
            yield STDIN
        elif os.path.isdir(argument):  # noqa: PTH112 - paths stay as the user wrote them
            yield from _files_below(argument, problems)
        elif os.path.lexists(argument) or not glob.has_magic(argument):
            yield argument
        else:
            found = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - as above
            if not found:
                problems.append(Problem(argument, "no file matches"))
            for path in found:
                if os.path.isdir(path):  # noqa: PTH112 - as above
                    yield from _files_below(path, problems)
                else:
                    yield path


def _files_below(directory: str, problems: list[Problem]) -> Iterator[str]:
    def report(error: OSError) -> None:
        problems.append(Problem(str(error.filename), reason_of(error)))

    for folder, folders, names in os.walk(directory, onerror=report):
        folders.sort()
        for name in sorted(names):
            yield os.path.join(folder, name)  # noqa: PTH118 - as above


def inspect(path: str) -> Input | Problem:
    """Look at one file; opens it for a moment, and only if it is a regular one."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a path may hold bytes that are no text
        if stat.S_ISDIR(status.st_mode):
            return Problem(path, "is a directory")
        if not stat.S_ISREG(status.st_mode):
            return Problem(path, f"is a {_kind_of_file(status.st_mode)}, not a file")
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            begin = os.pread(descriptor, 8, 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        return Problem(path, reason_of(error))
    return Input(
        path,
        kind_of(begin),
        status.st_size,
        (status.st_dev, status.st_ino),
        status.st_mtime_ns // 1_000_000,
    )


def _kind_of_file(mode: int) -> str:
    for test, name in (
        (stat.S_ISFIFO, "named pipe"),
        (stat.S_ISCHR, "device"),
        (stat.S_ISBLK, "device"),
        (stat.S_ISSOCK, "socket"),
    ):
        if test(mode):
            return name
    return "special file"


class FileState(NamedTuple):
    """What is another one when a file was written to.

    The size alone may be the same again: of a log that was truncated and has as many lines by now.
    """

    size: int
    modified_ns: int


def state_of(status: os.stat_result) -> FileState:
    """Return the part of a status that shows whether a file was written to."""
    return FileState(status.st_size, status.st_mtime_ns)


class OpenedFile:
    """A plain file held open for positioned reads.

    It stays the same file when the name is given to another one.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(self.descriptor)
            raise OSError(0, f"is a {_kind_of_file(status.st_mode)}, not a file")
        self.size = status.st_size
        self.inode = (status.st_dev, status.st_ino)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes from ``offset``; fewer only at the end. Raises UnreadableError."""
        data = self._read_once(size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]
        got = len(data)
        while got < size:  # a read may be short without being at the end
            data = self._read_once(size - got, offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def _read_once(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self.descriptor, size, offset)
        except OSError as error:
            raise UnreadableError(error.errno, error.strerror) from error

    def size_now(self) -> int:
        """Ask how large it is. Raises UnreadableError."""
        return self.state_now().size

    def state_now(self) -> FileState:
        """Ask what shows whether it was written to. Raises UnreadableError."""
        try:
            return state_of(os.fstat(self.descriptor))
        except OSError as error:
            raise UnreadableError(error.errno, error.strerror) from error

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill ``view`` from ``offset``; return how much of it, less only at the end."""
        got = 0
        while got < len(view):
            read = os.preadv(self.descriptor, [view[got:]], offset + got)
            if not read:
                break
            got += read
        return got

    def mark_at(self, offset: int) -> bytes | None:
        """Return the mark at ``offset``, or None when the file ends before it."""
        window = self.read_at(offset - MARK_BYTES, MARK_BYTES)
        return mark_hash(window) if len(window) == MARK_BYTES else None

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(slots=True)
class Looked:
    """What tells which source some content is, see ``fingerprint.find``."""

    path: str
    begin: bytes
    inode: Sequence[int] | None
    size: int | None
    marks: dict[int, bytes]
    sample: bytes
    """The beginning, to tell the format by."""
    broken: BrokenStream | None = None
    ended: bool = True
    """Whether its last line has a newline."""

    def mark_at(self, offset: int) -> bytes | None:
        """Return the mark at ``offset``; None where nobody looked."""
        return self.marks.get(offset)


def look_at(found: Input) -> Looked:
    """Look at a file on disk. Raises OSError."""
    if found.kind != "plain":
        blocks = decompress(found.kind, file_blocks(found.path))
        return look_at_stream(found.path, found.inode, blocks)
    with OpenedFile(found.path) as file:
        sample = file.read_at(0, SAMPLE_BYTES)
        marks = {offset: file.mark_at(offset) for offset in mark_offsets(file.size)}
        return Looked(
            found.path,
            sample[:BEGIN_BYTES],
            file.inode,
            file.size,
            {offset: mark for offset, mark in marks.items() if mark is not None},
            sample,
            ended=file.size > 0 and file.read_at(file.size - 1, 1) == b"\n",
        )


def look_at_stream(path: str, inode: Sequence[int] | None, blocks: Iterable[bytes]) -> Looked:
    """Look at the beginning of compressed or piped content.

    Only the first MiB is looked at; marks further on are compared while the content streams.
    """
    held = bytearray()
    marker = Marker()
    looked = Looked(path, b"", inode, None, marker.marks, b"")
    try:
        for block in blocks:
            held += block[: max(SAMPLE_BYTES - len(held), 0)]
            marker.feed(block)
            if marker.position >= _PROBE_BYTES:
                break
        else:
            looked.size = marker.position
    except BrokenStream as error:
        looked.broken = error
    looked.sample = bytes(held)
    looked.begin = looked.sample[:BEGIN_BYTES]
    return looked


def file_blocks(path: str) -> Iterator[bytes]:
    """Yield the bytes of a file as they are on disk."""
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            yield block
