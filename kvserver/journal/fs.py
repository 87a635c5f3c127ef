"""The file system as the journal sees it: one flat directory behind a small interface.

Everything that the journal does to a disk goes through `FileSystem` and `File`, so that tests can
lose bytes that were not synced, reorder directory operations, and fail at the n-th call. A name
is a plain file name, never a path. The real one opens every file relative to the directory's own
descriptor, with ``O_NOFOLLOW`` and mode 0600, so that a symbolic link planted at a name of ours
is refused, and moving the directory while the server runs does not lose it.

Nothing here retries and nothing swallows an error: an ``OSError`` carries the name in ``filename``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

LEFT_AT_ONCE_BYTES = 1 << 20
NO_SPACE = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})
"""What may pass by itself; any other error of a write or a rename is a device that failed."""


class File(Protocol):
    """An open file of the journal's directory; written at its end only."""

    name: str

    def write(self, *parts: bytes | memoryview) -> int:
        """Append the parts in one call; return how many bytes were taken (it may be fewer)."""

    def sync(self) -> None:
        """Return once everything written so far is on the device."""

    def truncate(self, size: int) -> None:
        """Cut the file back to ``size`` bytes."""

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes at ``offset``, fewer only at the end of the file."""

    def size(self) -> int:
        """Return the length in bytes."""

    def leave(self) -> None:
        """Say that nobody is going to read this file soon: it need not stay in memory."""

    def close(self) -> None:
        """Give the descriptor back; harmless when repeated."""


class Lock(Protocol):
    """A held lock; it ends with `release` or with the process."""

    def release(self) -> None:
        """Let the next server in."""


class FileSystem(Protocol):
    """One directory."""

    path: Path

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""

    def create(self, name: str) -> File:
        """Make an empty file for appending; FileExistsError when there is one."""

    def open(self, name: str, *, write: bool = False) -> File:
        """Open an existing file for reading, and for appending when asked."""

    def rename(self, old: str, new: str) -> None:
        """Replace ``new`` by ``old`` atomically."""

    def link(self, old: str, new: str) -> None:
        """Give a file a second name; FileExistsError when ``new`` exists."""

    def unlink(self, name: str) -> None:
        """Remove a name."""

    def sync_directory(self) -> None:
        """Return once creations, renames and removals are on the device."""

    def lock(self, name: str) -> Lock:
        """Lock the directory against a second server, or raise `LockHeldError`."""


class LockHeldError(OSError):
    """Another process holds the lock; ``holder`` is its pid as far as it is known."""

    def __init__(self, path: str, holder: int | None):
        super().__init__(errno.EAGAIN, "locked by another process", path)
        self.holder = holder


class RealFile:
    """A file on a disk."""

    __slots__ = ("_fd", "_left_bytes", "name")

    def __init__(self, fd: int, name: str):
        self._fd = fd
        self._left_bytes = 0
        """So many at the beginning were left to the device alone."""
        self.name = name

    def write(self, *parts: bytes | memoryview) -> int:
        """Append with one system call; no copy is made to join the parts."""
        return os.writev(self._fd, parts)

    def sync(self) -> None:
        """Flush the data, and what of the metadata is needed to read it back.

        Then the system need not keep it in memory, too: what the journal writes is read again by a
        compaction or the next start at the earliest.
        """
        size = self.size()
        _fdatasync(self._fd)
        count = (size - self._left_bytes) // LEFT_AT_ONCE_BYTES * LEFT_AT_ONCE_BYTES
        if count > 0:
            _leave(self._fd, self._left_bytes, count)
            self._left_bytes += count

    def truncate(self, size: int) -> None:
        """Cut the file back."""
        os.ftruncate(self._fd, size)

    def read(self, offset: int, count: int) -> bytes:
        """Read at a position; loops over short reads."""
        data = os.pread(self._fd, count, offset)
        if len(data) == count or not data:
            return data
        parts = [data]
        got = len(data)
        while got < count:
            data = os.pread(self._fd, count - got, offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def size(self) -> int:
        """Ask the system for the length."""
        return os.fstat(self._fd).st_size

    def leave(self) -> None:
        """Give the system leave to forget what of it is on the device."""
        _leave(self._fd, 0, 0)

    def close(self) -> None:
        """Close once; the second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RealLock:
    """A flock; inherited by nobody, because the descriptor is closed on exec."""

    def __init__(self, fd: int):
        self._fd = fd

    def release(self) -> None:
        """Close the descriptor, which ends the lock."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RealFileSystem:
    """A directory on a disk, made with mode 0700 when it is missing (``create=True``)."""

    def __init__(self, path: Path | str, *, create: bool = False):
        self.path = Path(path)
        if create:
            self._make()
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _make(self) -> None:
        missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode=0o700)
            parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)

    def names(self) -> list[str]:
        """List the directory."""
        return sorted(os.listdir(self._fd))  # noqa: PTH208 - a descriptor has no Path

    def create(self, name: str) -> RealFile:
        """Make a file that did not exist."""
        return self._open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)

    def open(self, name: str, *, write: bool = False) -> RealFile:
        """Open a file that exists; a symbolic link is refused with ELOOP."""
        return self._open(name, os.O_RDWR | os.O_APPEND if write else os.O_RDONLY)

    def _open(self, name: str, flags: int) -> RealFile:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        with self._named(name):
            return RealFile(os.open(name, flags, 0o600, dir_fd=self._fd), name)

    def rename(self, old: str, new: str) -> None:
        """Rename within the directory."""
        with self._named(new):
            os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def link(self, old: str, new: str) -> None:
        """Make a hard link within the directory."""
        with self._named(new):
            os.link(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)

    def unlink(self, name: str) -> None:
        """Remove a name within the directory."""
        with self._named(name):
            os.unlink(name, dir_fd=self._fd)

    def sync_directory(self) -> None:
        """Flush the directory itself."""
        with self._named("."):
            os.fsync(self._fd)

    def lock(self, name: str) -> RealLock:
        """Take the flock and leave our pid in the file for whoever comes second.

        The file is never removed: a lock on a removed file would exclude nobody. A process that was
        killed leaves the file but not the lock.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._named(name):
            fd = os.open(name, flags, 0o600, dir_fd=self._fd)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = os.pread(fd, 32, 0).strip()
                holder = int(text) if text.isdigit() else None
                raise LockHeldError(str(self.path / name), holder) from None
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(fd)
            raise
        return RealLock(fd)

    def close(self) -> None:
        """Give the directory's descriptor back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Let errors carry the whole path, which is what a person looks for."""
        try:
            yield
        except OSError as error:
            error.filename = str(self.path / name)
            error.filename2 = None
            raise


def _leave(fd: int, offset: int, count: int) -> None:
    """Let the system give away the memory that holds these bytes of a file; 0 bytes are all."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it was no more than advice
            os.posix_fadvise(fd, offset, count, os.POSIX_FADV_DONTNEED)


_fdatasync = getattr(os, "fdatasync", os.fsync)
"""macOS has no fdatasync."""
