"""The manifest of an open journal: one change at a time, and durable when it returns.

A segment is created, its name made durable, and only then listed. A new list is written aside,
synced, renamed, and the directory synced. Until the rename the old list stands: an error before it
is a refusal, after which nothing has changed. A rename that failed for want of anything but space,
or a directory that cannot be synced, is a device that failed: nobody knows which list it has. Once
the device has failed, here or under a write, the list is not changed any more.

`Listing` is used by threads (maintenance, compaction) beside the server's own, which only reads
`manifest`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from kvserver.errors import JournalError, JournalFailedError, JournalFullError
from kvserver.journal import manifest as manifests
from kvserver.journal.fs import NO_SPACE
from kvserver.journal.manifest import Entry, Manifest

if TYPE_CHECKING:
    from kvserver.journal.fs import File, FileSystem


class Listing:
    """Which files the journal has.

    ``fail`` is told of a device that failed, and raises; ``failed`` says why one has.
    """

    def __init__(
        self,
        fs: FileSystem,
        manifest: Manifest,
        fail: Callable[[str], NoReturn],
        failed: Callable[[], str | None],
    ):
        self.manifest = manifest
        """The files as the directory lists them now."""
        self._fs = fs
        self._fail = fail
        self._failed = failed
        self._lock = threading.Lock()
        self._closed = False

    def add_segment(self) -> tuple[str, File]:
        """Make an empty segment and list it; return its name and the open file.

        Raises:
            JournalFullError: there is no space for it.
            JournalFailedError: the device failed.
        """
        with self._lock:
            name = manifests.new_name("segment", self.manifest.next_number)
            try:
                file = self._fs.create(name)
            except OSError as error:
                raise JournalFullError(str(error)) from error
            self._sync_directory()
            try:
                self._replace((*self.manifest.entries, Entry(name, open=True)))
            except OSError as error:
                file.close()
                with contextlib.suppress(OSError):
                    self._fs.unlink(name)
                raise JournalFullError(str(error)) from error
        return name, file

    def close_segment(self, closed: Entry) -> None:
        """List a segment, which is on the device with its footer, as closed.

        Raises:
            OSError: the manifest could not be written; the segment stays open in it.
            JournalFailedError: the device failed.
        """
        with self._lock:
            entries = self.manifest.entries
            self._replace(tuple(closed if e.name == closed.name else e for e in entries))

    def new_base_name(self) -> str:
        """Return a name for the next base."""
        with self._lock:
            return manifests.new_name("base", self.manifest.next_number)

    def replace_by_base(self, base: Entry) -> tuple[str, ...]:
        """Let the manifest begin with a new base; return the names of the files that it replaced.

        Called after the base is durable under its final name.

        Raises:
            OSError: the manifest could not be written; the old files still are the journal.
            JournalFailedError: the device failed.
        """
        with self._lock:
            if self._closed:  # the directory may have another server by now
                raise JournalError("the journal is closed")
            entries = self.manifest.entries
            gone = tuple(e.name for e in entries if not e.open and e.last <= base.last)
            rest = tuple(e for e in entries if e.open or e.last > base.last)
            if rest and not rest[0].open and rest[0].first != base.last + 1:
                raise ValueError("the base does not end where a segment begins")
            self._replace((base, *rest))
        return gone

    def close(self) -> None:
        """Return once no change is under way; a compaction that ends later changes nothing."""
        with self._lock:
            self._closed = True

    def _replace(self, entries: tuple[Entry, ...]) -> None:
        """Save a new list; an OSError means that the old one still stands."""
        wanted = Manifest(entries)
        manifests.write_file(self._fs, manifests.MANIFEST_TEMP, manifests.encode(wanted))
        reason = self._failed()
        if reason is not None:  # it may have failed while the list was being written
            raise JournalFailedError(reason)
        try:
            self._fs.rename(manifests.MANIFEST_TEMP, manifests.MANIFEST)
        except OSError as error:
            if error.errno not in NO_SPACE:
                self._fail(f"renaming the manifest failed: {error.strerror}")
            raise
        self.manifest = wanted
        self._sync_directory()

    def _sync_directory(self) -> None:
        try:
            self._fs.sync_directory()
        except OSError as error:
            self._fail(f"fsync of the directory failed: {error.strerror}")
