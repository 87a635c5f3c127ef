"""A data directory: opened, and locked by one server at a time.

Whatever the system says against it becomes a `DirectoryError` of one line with the path: a refusal
to start, which a person reads.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from kvserver.errors import DirectoryError, JournalError
from kvserver.journal.fs import FileSystem, Lock, LockHeldError, RealFileSystem
from kvserver.journal.manifest import LOCK


def open_directory(path: Path, *, create: bool = False) -> RealFileSystem:
    """Open a data directory, or raise `DirectoryError` saying why it cannot be one."""
    try:
        return RealFileSystem(path, create=create)
    except OSError as error:
        raise DirectoryError(f"{path}: {error.strerror or error}") from error


def take_lock(fs: FileSystem) -> Lock:
    """Lock the directory, or raise `DirectoryError` naming who holds it."""
    try:
        return fs.lock(LOCK)
    except LockHeldError as error:
        holder = f"process {error.holder}" if error.holder else "another process"
        raise DirectoryError(f"{fs.path}: in use by {holder}, one server a directory") from error
    except OSError as error:
        raise directory_error(error) from error


def lock_holder(directory: Path) -> int | None:
    """Return the pid of the server that has the directory (0: unknown), None for nobody."""
    try:
        fd = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError as error:
        if error.errno not in {errno.EAGAIN, errno.EACCES}:
            return None
        text = os.pread(fd, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)


def directory_error(error: OSError) -> JournalError:
    """Say what the system said, with the path, in one line."""
    return DirectoryError(f"{error.filename or 'data directory'}: {error.strerror or error}")
