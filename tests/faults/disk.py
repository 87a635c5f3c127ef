"""A disk in memory: it forgets what was not synced, tears writes, and fails when told to.

`MemoryDisk` is a `FileSystem`. Each operation that changes something is numbered and kept in
``trace``, together with the marks that a test leaves (`mark`). `states_after` tells in which
states a power cut right after the n-th operation may leave the disk, `killed_after` the one state
that a killed process leaves.

The model of a power cut: of each file, what was synced is there; of what was appended or cut
since, a prefix of the operations survived, the last of them perhaps in part, or with zeros from a
sector's border on where the length got through but the data did not. Of the creations, renames
and removals since the last sync of the directory, any one may be missing while others survived.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kvserver.journal.fs import LockHeldError

SECTOR = 512


@dataclass
class Inode:
    """A file's content now, what is durable of it, and what was done since."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    since: list[tuple[str, bytes | int]] = field(default_factory=list)


@dataclass(frozen=True)
class Operation:
    """One change of the disk, as recorded."""

    kind: str
    name: str
    inode: int = -1
    data: bytes = b""
    size: int = 0
    other: str = ""


class DiskError(OSError):
    """An error that a plan asked for."""


Plan = Callable[[int, str, str], OSError | None]
"""(number of the call, kind, name) -> the error it shall raise, or None."""


class MemoryFile:
    def __init__(self, disk: MemoryDisk, name: str, number: int):
        self.name = name
        self.disk = disk
        self.number = number
        self.closed = False

    def write(self, *parts: bytes | memoryview) -> int:
        data = b"".join(bytes(part) for part in parts)
        allowed = self.disk.before("write", self.name, data)
        self.disk.do(Operation("write", self.name, self.number, data[:allowed]))
        return allowed

    def sync(self) -> None:
        self.disk.before("sync", self.name)
        self.disk.do(Operation("sync", self.name, self.number))

    def truncate(self, size: int) -> None:
        self.disk.before("truncate", self.name)
        self.disk.do(Operation("truncate", self.name, self.number, size=size))

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self.disk.inodes[self.number].data[offset : offset + count])

    def size(self) -> int:
        return len(self.disk.inodes[self.number].data)

    def leave(self) -> None:
        """Nothing of it is kept anywhere else."""

    def close(self) -> None:
        self.closed = True


class MemoryLock:
    def __init__(self, disk: MemoryDisk):
        self.disk = disk

    def release(self) -> None:
        self.disk.locked = False


class MemoryDisk:
    """One directory in memory."""

    def __init__(self, files: dict[str, bytes] | None = None):
        self.path = Path("/disk")
        self.inodes: dict[int, Inode] = {}
        self.entries: dict[str, int] = {}
        self.trace: list[Operation] = []
        self.locked = False
        self.plan: Plan | None = None
        self.space: int | None = None
        """Bytes that can still be written; None for no limit."""
        self.calls = 0
        self.lies: Callable[[str, str], bool] = lambda _kind, _name: False
        """(kind, name) -> whether such a sync is claimed but not done."""
        for name, data in (files or {}).items():
            number = len(self.inodes)
            self.inodes[number] = Inode(bytearray(data), data)
            self.entries[name] = number
        self.durable_entries = dict(self.entries)
        self.start_files = dict(files or {})
        self.since: list[Operation] = []

    # -- the interface

    def names(self) -> list[str]:
        return sorted(self.entries)

    def create(self, name: str) -> MemoryFile:
        self.before("create", name)
        if name in self.entries:
            raise FileExistsError(errno.EEXIST, "exists", name)
        number = len(self.inodes)
        self.do(Operation("create", name, number))
        return MemoryFile(self, name, number)

    def open(self, name: str, *, write: bool = False) -> MemoryFile:
        self.before("open", name)
        if name not in self.entries:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return MemoryFile(self, name, self.entries[name])

    def rename(self, old: str, new: str) -> None:
        self.before("rename", new)
        if old not in self.entries:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        self.do(Operation("rename", old, other=new))

    def link(self, old: str, new: str) -> None:
        self.before("link", new)
        if new in self.entries:
            raise FileExistsError(errno.EEXIST, "exists", new)
        self.do(Operation("link", old, other=new))

    def unlink(self, name: str) -> None:
        self.before("unlink", name)
        if name not in self.entries:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        self.do(Operation("unlink", name))

    def sync_directory(self) -> None:
        self.before("sync_directory", ".")
        self.do(Operation("sync_directory", "."))

    def lock(self, name: str) -> MemoryLock:
        if self.locked:
            raise LockHeldError(name, None)
        self.locked = True
        return MemoryLock(self)

    # -- faults

    def before(self, kind: str, name: str, data: bytes = b"") -> int:
        """Raise what the plan or a full disk says; return how much of ``data`` is taken."""
        self.calls += 1
        if self.plan is not None:
            error = self.plan(self.calls, kind, name)
            if error is not None:
                error.filename = name
                raise error
        if kind == "write" and self.space is not None:
            if self.space == 0 and data:
                raise DiskError(errno.ENOSPC, "No space left on device", name)
            allowed = min(self.space, len(data))
            self.space -= allowed
            return allowed
        return len(data)

    # -- recording

    def mark(self, what: str, number: int) -> None:
        """Leave a mark in the trace: something that was promised at this moment."""
        self.trace.append(Operation("mark", what, size=number))

    def do(self, operation: Operation) -> None:
        """Carry an operation out, and record it."""
        if self.lies(operation.kind, operation.name):
            return
        self.trace.append(operation)
        self.replay(operation)

    def replay(self, operation: Operation) -> None:
        """Carry an operation out."""
        kind, name = operation.kind, operation.name
        if kind == "create":
            self.inodes[operation.inode] = Inode()
            self.entries[name] = operation.inode
            self.since.append(operation)
        elif kind == "rename":
            self.entries[operation.other] = self.entries.pop(name)
            self.since.append(operation)
        elif kind == "link":
            self.entries[operation.other] = self.entries[name]
            self.since.append(operation)
        elif kind == "unlink":
            del self.entries[name]
            self.since.append(operation)
        elif kind == "sync_directory":
            self.durable_entries = dict(self.entries)
            self.since.clear()
        elif kind != "mark":
            inode = self.inodes[operation.inode]
            if kind == "write":
                inode.data += operation.data
                inode.since.append(("write", operation.data))
            elif kind == "truncate":
                del inode.data[operation.size :]
                inode.since.append(("truncate", operation.size))
            else:
                inode.durable = bytes(inode.data)
                inode.since.clear()

    # -- what a crash leaves

    def killed(self) -> MemoryDisk:
        """Return the disk as the next process finds it when this one was killed."""
        return MemoryDisk({n: bytes(self.inodes[i].data) for n, i in self.entries.items()})

    def power_cuts(self) -> Iterator[MemoryDisk]:
        """Yield the disk as a power cut may leave it, each different state once."""
        seen = set()
        for entries in self._directories():
            for choice in self._contents():
                files = {name: choice[number] for name, number in entries.items()}
                key = hash(tuple(sorted(files.items())))
                if key not in seen:
                    seen.add(key)
                    yield MemoryDisk(files)

    def _directories(self) -> Iterator[dict[str, int]]:
        since = self.since
        everything = range(len(since))
        kept: list[Sequence[int]] = [everything, ()]
        kept += [[i for i in everything if i != gone] for gone in everything]
        kept += [[i] for i in everything]
        for chosen in kept:
            entries = dict(self.durable_entries)
            for i in chosen:
                operation = since[i]
                if operation.kind == "create":
                    entries[operation.name] = operation.inode
                elif operation.kind == "unlink":
                    entries.pop(operation.name, None)
                else:
                    number = self._number_at(operation, since[:i])
                    entries[operation.other] = number
                    if operation.kind == "rename":
                        entries.pop(operation.name, None)
            yield entries

    def _number_at(self, operation: Operation, before: Sequence[Operation]) -> int:
        entries = dict(self.durable_entries)
        for earlier in before:
            if earlier.kind == "create":
                entries[earlier.name] = earlier.inode
            elif earlier.kind == "unlink":
                entries.pop(earlier.name, None)
            else:
                number = entries.pop(earlier.name)
                entries[earlier.other] = number
        return entries[operation.name]

    def _contents(self) -> Iterator[dict[int, bytes]]:
        """All files at their least, all at their most, and each one torn in every way."""
        least = {number: inode.durable for number, inode in self.inodes.items()}
        most = {number: bytes(inode.data) for number, inode in self.inodes.items()}
        yield least
        yield most
        for number, inode in self.inodes.items():
            for torn in _torn(inode):
                yield {**least, number: torn}
                yield {**most, number: torn}


def _torn(inode: Inode) -> Iterator[bytes]:
    data = bytearray(inode.durable)
    for kind, what in inode.since:
        if kind == "truncate":
            assert isinstance(what, int)
            del data[what:]
        else:
            assert isinstance(what, bytes)
            end = len(data)
            cuts = {1, len(what) // 2, len(what) - 1, 23, SECTOR - end % SECTOR}
            for cut in sorted(c for c in cuts if 0 < c < len(what)):
                yield bytes(data + what[:cut])
            whole = data + what
            border = -(-(end + 1) // SECTOR) * SECTOR
            for start in {end, border}:  # the length got through, the data did not
                if start < len(whole):
                    yield bytes(whole[:start]) + bytes(len(whole) - start)
            data = whole
        yield bytes(data)


def after(trace: Sequence[Operation], count: int, files: dict[str, bytes]) -> MemoryDisk:
    """Return a disk that began with ``files`` and did the first ``count`` operations of a trace."""
    disk = MemoryDisk(files)
    for operation in trace[:count]:
        disk.replay(operation)
    return disk
