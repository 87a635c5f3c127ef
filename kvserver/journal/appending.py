"""Records go into the file that is being written: whole, in order, or not at all.

What can go wrong, and what is done:

- no space (ENOSPC, EFBIG, EDQUOT, or a short write): the file is cut back to the last whole
  record, the record is kept in memory, and ``readonly_reason`` says so. Every further record is
  kept behind it. `retry` writes them once there is space; then the journal is whole again and
  nothing was lost or reordered;
- any other error of a write: the device cannot be trusted any more. It is never tried again:
  ``failed`` is set, every later call raises `JournalFailedError`, and the server stops with exit
  status 74.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from zlib_ng.zlib_ng import crc32

from kvserver.errors import JournalFailedError
from kvserver.journal import manifest as manifests
from kvserver.journal.fs import NO_SPACE
from kvserver.journal.record import encode_header, seed_of

if TYPE_CHECKING:
    from kvserver.journal.fs import File, FileSystem
    from kvserver.journal.manifest import Manifest

__all__ = ["Appending", "OpenState"]


@dataclass(slots=True)
class OpenState:
    """Where the writer goes on."""

    manifest: Manifest
    size: int
    chain: int
    records: int
    next: int


class Appending:
    """The file that is being written, and the records that found no space in it yet."""

    def __init__(
        self, fs: FileSystem, state: OpenState, *, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.failed: str | None = None
        """Why the device cannot be trusted any more; set once and for ever."""
        self.write_errors = 0
        self._now_s = now_s
        self._name = state.manifest.entries[-1].name
        self._file: File = fs.open(self._name, write=True)
        self._seed = seed_of(state.manifest.entries[-1].id)
        self._size = state.size
        self._chain = state.chain
        self._records = state.records
        self._next = state.next
        self._pending: deque[bytes] = deque()
        self._full_reason: str | None = None
        self._write_lock = threading.RLock()
        self._closed = False
        self._appended = 0
        self._dirty_since: float | None = None

    @property
    def active_name(self) -> str:
        """The file that is being written."""
        return self._name

    @property
    def active_bytes(self) -> int:
        """Length of the active segment, always at a record's border."""
        return self._size

    @property
    def next_sequence(self) -> int:
        """The number that the next record gets."""
        return self._next

    @property
    def appended_bytes(self) -> int:
        """Appended in this run."""
        return self._appended

    @property
    def pending(self) -> int:
        """Records kept in memory because there is no space for them."""
        return len(self._pending)

    @property
    def readonly_reason(self) -> str | None:
        """Why writes must be refused (the text behind MISCONF), or None."""
        return self.failed or self._full_reason

    def _write_or_keep(self, body: bytes | memoryview) -> bool:
        """Write a record; False when it is kept in memory, behind others that found no space."""
        if not self._pending and self._write(body):
            return True
        self._pending.append(bytes(body))
        return False

    def _write(self, body: bytes | memoryview) -> bool:
        header = encode_header(body, self._next, self._seed)
        if not self._write_whole(header, body):
            return False
        self._chain = crc32(header, self._chain)
        self._records += 1
        self._next += 1
        return True

    def _write_whole(self, header: bytes, body: bytes | memoryview = b"") -> bool:
        """Append all bytes or none; False when there is no space."""
        size = len(header) + len(body)
        try:
            written = self._file.write(header, body)
            if written != size:  # the rest may fit, or the system says why it does not
                manifests.write_all(self._file, (header + bytes(body))[written:])
        except OSError as error:
            return self._without_room(error)
        self._size += size
        self._appended += size
        if self._dirty_since is None:
            self._dirty_since = self._now_s()
        return True

    def _without_room(self, error: OSError) -> bool:
        """Cut the file back to its last whole record; return False."""
        if error.errno not in NO_SPACE:
            self._fail(f"writing {self._name} failed: {error.strerror}")
        self.write_errors += 1
        try:
            self._file.truncate(self._size)
        except OSError as second:
            self._fail(f"cutting {self._name} back failed: {second.strerror}")
        self._full_reason = f"Errors writing to the journal: {error.strerror or error}"
        return False

    def retry(self) -> bool:
        """Write what is pending; return whether the journal is whole again."""
        with self._write_lock:
            while self._pending and self.failed is None and not self._closed:
                if not self._write(self._pending[0]):
                    return False
                self._pending.popleft()
            self._full_reason = None
        return True

    def _fail(self, reason: str) -> NoReturn:
        self.failed = reason
        raise JournalFailedError(reason)
