"""A consistent copy of the journal while the server writes: what a client reads piece by piece.

A backup is the manifest as it is at one moment, the closed files it lists, and the open one up to
the border of its last whole record. The files are opened at once and stay open, so that a
compaction meanwhile may remove their names but not their content. Nothing is copied on the
server, and nothing waits: a piece is one read of a file that is mostly in the page cache.

The client is another process, perhaps on another machine, and the server never writes to a path
that a client names. That is why the archive is made by ``kvcli backup``, from ``BACKUP BEGIN``,
``READ`` and ``END``. Unpacked into an empty directory it is a data directory that recovers to the
state at BEGIN. Its `LOCK` is not part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvserver.errors import JournalError
from kvserver.journal import manifest as manifests
from kvserver.journal.manifest import MANIFEST

if TYPE_CHECKING:
    from kvserver.journal.fs import File
    from kvserver.journal.writer import Journal

MAX_PIECE_BYTES = 1 << 20
"""One READ gives at most so much; it keeps the server's one task busy for about 0.2 ms."""
MAX_OPEN = 4
_TRIES = 5


class Backup:
    """One moment of a journal, held open."""

    def __init__(self, journal: Journal):
        self._files: dict[str, File] = {}
        self._sizes: dict[str, int] = {}
        for attempt in range(_TRIES):
            manifest = journal.manifest
            try:
                for entry in manifest.entries:
                    file = journal.fs.open(entry.name)
                    self._files[entry.name] = file
                    active = entry.name == journal.active_name
                    self._sizes[entry.name] = journal.active_bytes if active else file.size()
                break
            except FileNotFoundError:  # a compaction ended just now; its result is listed next
                self.close()
                if attempt == _TRIES - 1:
                    raise
        self._manifest = manifests.encode(manifest)
        self._sizes[MANIFEST] = len(self._manifest)

    @property
    def sizes(self) -> dict[str, int]:
        """Name of each file -> its length; the manifest comes last."""
        return self._sizes

    def read(self, name: str, offset: int, count: int) -> bytes:
        """Return a piece of a file, shorter only at its end or because it is too much at once.

        Raises:
            JournalError: there is no such file in the backup.
        """
        size = self._sizes.get(name)
        if size is None or offset < 0 or count < 0:
            raise JournalError("no such file in the backup")
        count = min(count, MAX_PIECE_BYTES, max(0, size - offset))
        if name == MANIFEST:
            return self._manifest[offset : offset + count]
        return self._files[name].read(offset, count)

    def close(self) -> None:
        """Let the files go; harmless when repeated."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._sizes.clear()


class Backups:
    """The backups under way, one a client at most."""

    def __init__(self, journal: Journal):
        self._journal = journal
        self._open: dict[int, Backup] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, client: int) -> Backup:
        """Begin a backup for a client; one that it began before ends."""
        self.end(client)
        if len(self._open) >= MAX_OPEN:
            raise JournalError(f"{MAX_OPEN} backups are under way already")
        backup = self._open[client] = Backup(self._journal)
        return backup

    def of(self, client: int) -> Backup:
        """Return the backup of a client, or raise JournalError."""
        backup = self._open.get(client)
        if backup is None:
            raise JournalError("no backup was begun on this connection")
        return backup

    def end(self, client: int) -> bool:
        """End the backup of a client; whether there was one."""
        backup = self._open.pop(client, None)
        if backup is None:
            return False
        backup.close()
        return True
