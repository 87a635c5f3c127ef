"""The journal's life beside the reactor: syncs in time, rotates, heals, and says when to wait.

The fsync policy is kept here. ``always``: no reply leaves before what it acknowledges is synced.
``everysec``: a sync begins when the oldest unsynced record is half a second old, and where the
device is too slow for that, replies wait. ``no``: the system decides.

`JournalService.run` is one task of the server's nursery. It touches the disk in worker threads
only, except for `Journal.retry`, which is one write. When the device fails, `JournalFailedError`
leaves `run` (or `commit`), and the server stops with exit status 74.
"""

from __future__ import annotations

import logging

import trio

from kvserver.config import FSYNC_POLICIES
from kvserver.errors import JournalFailedError, JournalFullError
from kvserver.journal.writer import Journal

log = logging.getLogger("kvserver.journal")

TICK_S = 0.1
SYNC_AFTER_S = 0.5
"""everysec begins a sync when the oldest unsynced record is that old: with a sync of up to half a
second nothing acknowledged is older than one second and not on the device."""
HOLD_AFTER_S = 2.0
"""When the device is slower than that, replies wait, so that the window does not grow."""


class JournalService:
    """Keeps one open journal in shape, and to an fsync policy."""

    def __init__(self, journal: Journal, fsync: str = "everysec"):
        if fsync not in FSYNC_POLICIES:
            raise ValueError(f"fsync policy must be one of {', '.join(FSYNC_POLICIES)}")
        self.journal = journal
        self.fsync = fsync
        self.held = 0
        """How often replies had to wait for a slow device under everysec."""
        self._wake = trio.Event()
        self._synced = trio.Event()
        self._maintained = trio.Event()

    async def run(self) -> None:
        """Sync, rotate and heal until cancelled; the journal stays open.

        Cancelling waits for the system call under way and loses nothing.

        Raises:
            JournalFailedError: the device failed.
        """
        journal = self.journal
        while True:
            with trio.move_on_after(TICK_S):
                await self._wake.wait()
            self._wake = trio.Event()
            if journal.failed is not None:
                raise JournalFailedError(journal.failed)
            if journal.pending:
                self._heal()
            if self.sync_due:
                await trio.to_thread.run_sync(journal.sync)
                synced, self._synced = self._synced, trio.Event()
                synced.set()
            if journal.needs_maintenance:
                await trio.to_thread.run_sync(journal.maintain)
            if journal.rotate_if_needed():
                await trio.to_thread.run_sync(journal.maintain)
            maintained, self._maintained = self._maintained, trio.Event()
            maintained.set()

    async def commit(self) -> None:
        """Return when the replies of what was appended may leave.

        Under ``always`` that is once everything is synced; under ``everysec`` at once, unless the
        device is so slow that the promised window would grow. Cancelling is safe, but then
        nothing may be acknowledged.

        Raises:
            JournalFailedError: the device failed; the answer to every waiting client is an error.
        """
        journal = self.journal
        if self.fsync == "always":
            # Until nothing is left: what others appended meanwhile is answered by the same send.
            while journal.unsynced_bytes:
                await trio.to_thread.run_sync(journal.sync)
        elif self.must_commit:
            self.held += 1
            while self.must_commit:
                self._wake.set()
                with trio.move_on_after(TICK_S):
                    await self._synced.wait()
                if journal.failed is not None:
                    raise JournalFailedError(journal.failed)

    async def rotate(self) -> None:
        """Return once everything appended before is in closed files that the manifest lists.

        Needs `run` beside it. Waits for as long as there is no space.

        Raises:
            JournalFullError: the next segment cannot be made, or records are pending.
            JournalFailedError: the device failed.
        """
        journal = self.journal
        if journal.active_bytes:
            journal.want_rotation()
        while not journal.rotation_done:
            self._wake.set()
            tried, before = journal.maintenance_failures, journal.maintenances
            with trio.move_on_after(TICK_S):
                await self._maintained.wait()
            if journal.failed is not None:
                raise JournalFailedError(journal.failed)
            if journal.pending or (
                journal.maintenances > before and journal.maintenance_failures > tried
            ):
                journal.forget_rotation()
                raise JournalFullError(journal.readonly_reason or "no space for a segment")

    def statistics(self) -> dict[str, int | float | str]:
        """What STATS shows."""
        journal = self.journal
        return {
            "journal_fsync": self.fsync,
            "journal_bytes": journal.total_bytes,
            "journal_files": len(journal.manifest.entries),
            "journal_records": journal.next_sequence - 1,
            "journal_unsynced_bytes": journal.unsynced_bytes,
            "journal_oldest_unsynced_s": round(journal.oldest_unsynced_s, 3),
            "journal_pending_records": journal.pending,
            "journal_staging": len(journal.staging),
            "journal_staged_bytes": journal.staging.bytes,
            "journal_write_errors": journal.write_errors,
            "journal_syncs": journal.syncs,
            "journal_last_sync_s": round(journal.last_sync_s, 6),
            "journal_held_replies": self.held,
            "journal_torn_bytes": journal.torn_bytes,
            "journal_status": journal.readonly_reason or "ok",
        }

    @property
    def must_commit(self) -> bool:
        """Whether `commit` would wait; asking costs next to nothing, once a turn."""
        if self.fsync == "everysec":
            return self.journal.oldest_unsynced_s >= HOLD_AFTER_S
        return self.fsync == "always"

    @property
    def sync_due(self) -> bool:
        """Whether it is time for a sync: under everysec, or because somebody wants one."""
        if self.journal.sync_wanted:
            return True
        return self.fsync == "everysec" and self.journal.oldest_unsynced_s >= SYNC_AFTER_S

    def _heal(self) -> None:
        journal = self.journal
        count = journal.pending
        if journal.retry():
            log.warning("journal writable again, %d records caught up", count)
