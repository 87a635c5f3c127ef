"""All files that are followed: which they are, under which names, and how many may be open.

Guarantees:

* Files of one source share what is known of it (rotated and copied ones are the same lines).
* No more files are open than ``max_open``, as long as one of them has nothing that waits.

No clock and no sink: the moment is passed in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from parser.discovery import Inode, Seen
from parser.fingerprint import SourceInfo
from parser.followed import FollowedFile
from parser.plan import Planned
from parser.source import FileState

__all__ = ["Tails"]

_SPARE_DESCRIPTORS: Final = 64
_DESCRIPTORS: Final = 65_536
_FEW_DESCRIPTORS: Final = 256


class Tails:
    """The open files by inode, and their sources by id."""

    def __init__(self) -> None:
        self.files: dict[Inode, FollowedFile] = {}
        self.max_open = _descriptors() - _SPARE_DESCRIPTORS
        self._infos: dict[int, SourceInfo] = {}

    @property
    def sources(self) -> Iterable[SourceInfo]:
        """What is known of each source, followed or read to its end."""
        return self._infos.values()

    @property
    def held(self) -> int:
        """In how many files something at the end waits."""
        return sum(tail.held for tail in self.files.values())

    def share(self, one: Planned) -> None:
        """Let a file that was met share what is known of its source."""
        held = self._infos.get(one.info.id)
        if held is None:
            self._infos[one.info.id] = one.info
            return
        held.ranges = one.info.ranges
        held.marks.update(one.info.marks)
        if len(one.info.begin) > len(held.begin):
            held.begin = one.info.begin
        held.path, held.inode = one.info.path, one.info.inode
        one.info = held

    def drop(self, inode: Inode) -> FollowedFile:
        """Close a file and return it; what no other one shares of its source is forgotten."""
        tail = self.files.pop(inode)
        tail.file.close()
        if not any(other.info is tail.info for other in self.files.values()):
            self._infos.pop(tail.info.id, None)
        return tail

    def close(self) -> None:
        """Close every file."""
        for tail in self.files.values():
            tail.file.close()
        self.files.clear()

    def notice_names(self, seen: Seen, now: float) -> None:
        """Note which files lost their name, or got another one."""
        for inode, tail in self.files.items():
            tail.here = inode in seen
            path = seen[inode][0] if tail.here else ""
            if path == tail.planned.input.path:
                continue
            tail.lost_s = tail.lost_s or now  # rotated: writers turn to the new file
            if tail.here:
                tail.planned.input = replace(tail.planned.input, path=path)
                tail.info.path = os.path.abspath(path)  # noqa: PTH100 - may hold stray bytes

    def has_room(self, opened: int) -> bool:
        """Tell whether one more file may be open beside ``opened`` others that are no tails yet."""
        return len(self.files) + opened < self.max_open

    def drop_idlest(self) -> tuple[Inode, FileState] | None:
        """Close the file that has not grown for longest, if one has nothing that waits.

        Returns which it was, and how.
        """
        idle = [item for item in self.files.items() if item[1].size and not item[1].held]
        if not idle:
            return None
        inode, _ = min(idle, key=lambda item: item[1].grown_s)
        return inode, self.drop(inode).state


def _descriptors() -> int:
    """Return how many files may be open, after asking for as many as possible."""
    try:
        import resource
    except ImportError:
        return _FEW_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, _DESCRIPTORS) if hard != resource.RLIM_INFINITY else _DESCRIPTORS
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft
        return wanted
    return soft
