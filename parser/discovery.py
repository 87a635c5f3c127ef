"""Which files the patterns of a follower name at the moment, and which of them are to be read now.

Guarantees:

* Only regular files are given out, each once for all of its names. What stands in the way of one is
  told, and never stops the others.
* A plain file is given out open, and is the one that was seen: what replaced it between two looks
  is met at the next one. An empty file is nothing yet, and neither is one whose first line is being
  written.
* A compressed file is given out when it has not changed for ``SETTLED_S``, and at every look again
  until it was read, or put off for a while; then not until it changes.
* A file that was put to sleep, since more are there than may be open, is given out when it grows.
* Memory is bounded by the number of files that are there.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from parser.errors import reason_of
from parser.followed import FINAL_S
from parser.source import (
    SAMPLE_BYTES,
    FileState,
    Input,
    OpenedFile,
    Problem,
    paths_of,
    state_of,
)
from parser.streams import kind_of

__all__ = ["SETTLED_S", "Discovery", "Inode", "Seen"]

SETTLED_S: Final = 1.0

LONGEST_WAIT_S: Final = 600.0
"""A compressed file that cannot be read is waited for twice as long each time, up to this."""

Inode: TypeAlias = tuple[int, int]
"""What a file is known by while it is there: its device and its inode."""

Seen: TypeAlias = dict[Inode, tuple[str, os.stat_result]]
"""The files of one look, each with a name it has."""


@dataclass(slots=True)
class _Packed:
    """A compressed file that was seen."""

    state: FileState
    due_s: float
    """When it is to be read; infinity once it was."""
    wait_s: float = SETTLED_S


class Discovery:
    """Looks at what the patterns name, again and again."""

    def __init__(self, patterns: Sequence[str], tell: Callable[[Problem], None]) -> None:
        """``tell`` takes problems, the same one at every look."""
        self._patterns = patterns
        self._tell = tell
        self._packed: dict[Inode, _Packed] = {}
        self._asleep: dict[Inode, FileState] = {}  # more files than may be open

    def look_around(self) -> Seen:
        """Return the regular files that the patterns name now."""
        problems: list[Problem] = []
        seen: Seen = {}
        for path in paths_of(self._patterns, problems):
            try:
                status = os.stat(path)  # noqa: PTH116 - a path may hold stray bytes
            except FileNotFoundError:
                continue  # it may come
            except OSError as error:
                problems.append(Problem(path, reason_of(error)))
                continue
            if stat.S_ISREG(status.st_mode):
                seen.setdefault((status.st_dev, status.st_ino), (path, status))
            elif not stat.S_ISDIR(status.st_mode):
                problems.append(Problem(path, "is not a file"))
        for problem in problems:
            if problem.reason != "no file matches":
                self._tell(problem)
        for inode in [inode for inode in self._packed if inode not in seen]:
            del self._packed[inode]
        for inode in [inode for inode in self._asleep if inode not in seen]:
            del self._asleep[inode]
        return seen

    def new_files(
        self,
        seen: Seen,
        known: Container[Inode],
        now: float,
        has_room: Callable[[int], bool],
    ) -> tuple[list[Input], dict[Inode, OpenedFile]]:
        """Return the files to read that are not known yet, and those of them that are open.

        ``has_room`` is asked whether one more may be, with the number of those opened so far.
        """
        inputs: list[Input] = []
        files: dict[Inode, OpenedFile] = {}
        for inode, (path, status) in seen.items():
            if inode in known or not status.st_size:
                continue  # an empty file is nothing yet
            if self._asleep.get(inode) == state_of(status):
                continue
            packed = self._packed.get(inode)
            if packed is not None and packed.state == state_of(status) and now < packed.due_s:
                continue
            file: OpenedFile | None = None
            try:
                file = OpenedFile(path)
                sample = file.read_at(0, SAMPLE_BYTES)
            except OSError as error:
                if file is not None:
                    file.close()
                if not isinstance(error, FileNotFoundError):
                    self._tell(Problem(path, reason_of(error)))
                continue
            kind = kind_of(sample[:8])
            found = Input(path, kind, file.size, file.inode, status.st_mtime_ns // 1_000_000)
            unwritten = kind == "plain" and b"\n" not in sample and len(sample) < SAMPLE_BYTES
            if file.inode != inode or (unwritten and time.time() - status.st_mtime < FINAL_S):
                file.close()  # replaced between two looks, or its first line is being written
                continue
            if kind == "plain":
                if not has_room(len(files)):
                    file.close()
                    continue
                files[inode] = file
            else:
                file.close()
                if packed is None or packed.state != state_of(status):
                    self._packed[inode] = _Packed(state_of(status), now + SETTLED_S)
                    continue
            inputs.append(found)
        return inputs, files

    def put_to_sleep(self, inode: Inode, state: FileState) -> None:
        """Pass a file over as long as nobody writes to it."""
        self._asleep[inode] = state

    def was_read(self, inode: Inode) -> None:
        """Pass a compressed file over until it changes, unless all are to be read again."""
        if inode in self._packed:
            self._packed[inode].due_s = math.inf

    def put_off(self, inode: Inode, now: float) -> None:
        """Give a compressed file out again after a while: what was in the way may pass."""
        if inode in self._packed:
            packed = self._packed[inode]
            packed.wait_s = min(2 * packed.wait_s, LONGEST_WAIT_S)
            packed.due_s = now + packed.wait_s

    def read_again(self) -> None:
        """Give all compressed files out again."""
        self._packed.clear()
