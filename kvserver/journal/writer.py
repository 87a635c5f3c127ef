"""The open journal: one record a call, and an honest word about what is durable.

`Journal.append` is called by the server's one task, after the effects were applied in memory and
before the replies leave. `Journal.sync` and `Journal.maintain` may take long and are called in a
worker thread, one of them at a time (`service` does it); everything they share with `append` is a
single attribute written by one side.

What can go wrong with a write, and what is done, says `appending`. A failed fsync is as bad as any
other error of the device: the kernel may have dropped the pages, so it is never tried again.

What is large is written ahead in pieces (see `staging`). They go the same way as records.

Segments: when the active one has reached its size, it gets its footer and the next record goes to
the next one, which `maintain` prepared before (see `listing`), so that the switch costs one small
write. `maintain` then syncs the full one and lists it as closed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kvserver.errors import JournalFailedError, JournalFullError
from kvserver.journal import manifest as manifests
from kvserver.journal.appending import Appending
from kvserver.journal.backup import Backups
from kvserver.journal.listing import Listing
from kvserver.journal.manifest import Entry, Manifest
from kvserver.journal.record import (
    MAX_BODY_BYTES,
    MAX_ELEMENTS,
    Effect,
    Footer,
    encode_footer,
    new_packer,
    seed_of,
)
from kvserver.journal.staging import Staging

if TYPE_CHECKING:
    from kvserver.journal.appending import OpenState
    from kvserver.journal.fs import File, FileSystem, Lock

DEFAULT_SEGMENT_BYTES = 64 << 20
LARGE_BODY_BYTES = 1 << 20
MAX_EFFECTS = MAX_ELEMENTS // 2
"""In one record; a reader refuses twice as many."""


class Journal(Appending):
    """The writing side of a data directory; made by `Recovery.open`."""

    def __init__(
        self,
        fs: FileSystem,
        lock: Lock,
        state: OpenState,
        *,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        now_s: Callable[[], float] = time.monotonic,
    ):
        super().__init__(fs, state, now_s=now_s)
        self.fs = fs
        self.segment_bytes = segment_bytes
        self.torn_bytes = 0
        """What this start had to cut off."""
        self._lock = lock
        self.listing = Listing(fs, state.manifest, self._fail, lambda: self.failed)
        """The manifest, and who may change it."""
        self._packer = new_packer(autoreset=False)
        self._prepared: tuple[str, File] | None = None
        self._full: deque[tuple[File, Entry]] = deque()
        self._rotation_wanted = False
        self.staging = Staging(self._append_staged, state.next)
        """What is written ahead; its numbers are never used again, as each takes a record."""
        self.backups = Backups(self)
        """Copies that clients are reading."""
        self._sync_lock = threading.Lock()
        self._maintain_lock = threading.Lock()
        """Taken before the sync lock or that of the listing, never after."""
        self._synced = 0
        self._syncing_since: float | None = None
        self.syncs = 0
        self.last_sync_s = 0.0
        self.sync_wanted = False
        """Whether somebody asks for a sync, whatever the policy says; the next one ends it."""
        self.maintenances = 0
        self.maintenance_failures = 0
        """How often there was no space for a next segment."""
        self.maintenance_error = ""

    # -- what STATS shows -------------------------------------------------------------------------

    @property
    def manifest(self) -> Manifest:
        """The files as the directory lists them now."""
        return self.listing.manifest

    @property
    def total_bytes(self) -> int:
        """Length of all files of the journal together."""
        closed = sum(entry.size for entry in self.manifest.entries)
        return closed + self._size + sum(entry.size for _, entry in tuple(self._full))

    @property
    def synced_bytes(self) -> int:
        """How much of what was appended in this run is known to be on the device."""
        return self._synced

    @property
    def unsynced_bytes(self) -> int:
        """Appended in this run and not yet known to be on the device."""
        return self._appended - self._synced

    @property
    def oldest_unsynced_s(self) -> float:
        """Age of the oldest record that is not known to be on the device; 0.0 when all are.

        Asked once a turn.
        """
        since = self._syncing_since
        if since is None:
            since = self._dirty_since
        return 0.0 if since is None else self._now_s() - since

    # -- writing ----------------------------------------------------------------------------------

    def append(self, effects: Sequence[Effect], packed: Sequence[bytes] = ()) -> None:
        """Write the effects as one record; when this returns, a killed process loses none of them.

        ``packed`` are effects that came before them, each in its packed form.

        Raises:
            JournalFullError: there is no space. The record is kept and will be written before any
                other, so the effects stay applied in memory; the replies must be errors, because
                a kill loses them.
            JournalFailedError: the device failed; stop.
        """
        if not effects and not packed:
            return
        with self._write_lock:  # nobody else writes, except for `close` in its thread
            if self.failed is not None:
                raise JournalFailedError(self.failed)
            if self._closed:
                return  # a key that expires now expires again after the next start
            count = len(effects) + len(packed)
            if count > MAX_EFFECTS:
                self._append_in_pieces(effects, packed, MAX_EFFECTS)
                return
            with self._body(self.staging.named_in_record(effects), packed) as body:
                self.staging.forget_released()
                size = len(body)
                written = size <= MAX_BODY_BYTES and self._write_or_keep(body)
            if size > LARGE_BODY_BYTES:
                self._packer = new_packer(autoreset=False)  # else its buffer stays so large
            if size > MAX_BODY_BYTES:
                if count == 1:
                    self._fail(f"a record of {size} bytes cannot be written")
                self._append_in_pieces(effects, packed, count // 2)
                return
            if not written:
                raise JournalFullError(self._full_reason or "no space")
            if self.rotation_due:
                self.rotate_if_needed()

    def _append_staged(self, body: bytes) -> None:
        """Write a piece; what fails is told to who writes the record that names it."""
        with self._write_lock:
            if self.failed is not None or self._closed:
                return
            with contextlib.suppress(JournalFailedError):
                self._write_or_keep(body)

    def _body(self, effects: Sequence[Effect], packed: Sequence[bytes]) -> memoryview:
        """Return the body of a record, to be released before the next one is made."""
        packer = self._packer
        packer.reset()
        body: memoryview
        if not packed:
            packer.pack(effects)
            body = packer.getbuffer()  # no copy of what may be a megabyte
            return body
        packer.pack_array_header(len(packed) + len(effects))
        head = packer.bytes()
        packer.reset()
        for effect in effects:
            packer.pack(effect)
        return memoryview(b"".join((head, *packed, packer.bytes())))

    def _append_in_pieces(
        self, effects: Sequence[Effect], packed: Sequence[bytes], size: int
    ) -> None:
        """More than a reader takes from one record: a turn of a million DELs is no transaction."""
        full: JournalFullError | None = None
        for start in range(0, len(packed) + len(effects), size):
            behind = max(0, start - len(packed))
            end = max(0, start + size - len(packed))
            try:
                self.append(effects[behind:end], packed[start : start + size])
            except JournalFullError as error:
                full = error
        if full is not None:
            raise full

    # -- durability -------------------------------------------------------------------------------

    def sync(self) -> None:
        """Return once everything appended before the call is on the device.

        It blocks: call it in a thread.

        Raises:
            JournalFailedError: the device failed, now or before. There is no second try.
        """
        with self._sync_lock:
            if self.failed is not None:
                raise JournalFailedError(self.failed)
            if self._closed:
                return
            started = self._now_s()
            # The order of these reads matters: `append` may run at the same time, and whatever it
            # does in between must make us believe less, never more.
            if self._syncing_since is None:
                self._syncing_since, self._dirty_since = self._dirty_since, None
            self.sync_wanted = False
            mark = self._appended
            active = self._file
            files = [file for file, _ in tuple(self._full)]
            if active not in files:
                files.append(active)
            try:
                for file in files:
                    file.sync()
            except OSError as error:
                self._fail(
                    f"fsync failed: {error.strerror}; what was promised may not be on the device"
                )
            self._synced = mark
            self._syncing_since = None
            self.syncs += 1
            self.last_sync_s = self._now_s() - started

    # -- segments ---------------------------------------------------------------------------------

    def maintain(self) -> None:
        """Prepare the next segment and close full ones. Blocks: call it in a thread.

        Raises:
            JournalFailedError: the device failed.
        """
        with self._maintain_lock:
            if self.failed is not None or self._closed:
                return
            self._seal_full()
            if self.needs_maintenance and self._prepared is None:
                try:
                    self._prepared = self.listing.add_segment()
                except JournalFullError as error:
                    self.maintenance_failures += 1
                    self.maintenance_error = str(error)
            self.maintenances += 1

    @property
    def needs_maintenance(self) -> bool:
        """Whether `maintain` has something to do."""
        if self._full:
            return True
        wanted = self._rotation_wanted or self._size >= self.segment_bytes // 2
        return wanted and self._prepared is None

    def _seal_full(self) -> None:
        while self._full:
            file, entry = self._full[0]
            self.sync()  # of this file and of the active one, so that its window starts anew too
            try:
                self.listing.close_segment(entry)
            except OSError as error:  # the segment stays open in the manifest until next time
                self.maintenance_failures += 1
                self.maintenance_error = str(error)
                return
            with self._sync_lock:  # a sync under way may hold this very file
                self._full.popleft()
                file.close()

    def want_rotation(self) -> None:
        """Ask for a new segment soon, however short the active one is (compaction does)."""
        self._rotation_wanted = True

    def forget_rotation(self) -> None:
        """Take `want_rotation` back."""
        self._rotation_wanted = False

    def rotate_if_needed(self) -> bool:
        """Switch to the prepared segment when the active one is full; one small write.

        Called by the server's task: by `append`, and by whoever waits for a rotation when nothing
        is written.
        """
        with self._write_lock:
            return self._rotate_if_needed()

    def _rotate_if_needed(self) -> bool:
        if self._prepared is None or self._pending or self.failed is not None or self._closed:
            return False
        if self._records == 0 or not self.rotation_due or self.staging:
            return False
        footer = encode_footer(
            Footer(self._records, self._next - 1, self._chain, []), self._next, self._seed
        )
        if not self._write_whole(footer):
            self._full_reason = None  # the record before is safe; only the footer found no room
            return False
        first = self._next - self._records
        entry = Entry(
            self._name, False, self._size, self._records, first, self._next - 1, self._chain
        )
        self._full.append((self._file, entry))
        (self._name, self._file), self._prepared = self._prepared, None
        self._seed = seed_of(manifests.id_of(self._name))
        self._size = self._chain = self._records = 0
        self._rotation_wanted = False
        return True

    @property
    def rotation_due(self) -> bool:
        """Whether the active segment is to end, as soon as nothing is staged in it any more."""
        return self._rotation_wanted or self._size >= self.segment_bytes

    def may_stage(self, owner: object) -> bool:
        """Whether ``owner`` may begin to write ahead, or has to wait for the next segment.

        Who has begun something else goes on: a segment does not end before that is named.
        """
        return not (self.staging and self.rotation_due) or self.staging.is_of(owner)

    @property
    def rotation_done(self) -> bool:
        """Whether nothing is between the active segment and the closed ones."""
        return not self._rotation_wanted and not self._full

    def close(self) -> None:
        """Write what is pending, sync, give the lock back.

        What other tasks and threads still ask of the journal does nothing from then on.

        Raises:
            JournalFullError: pending records found no space and are lost.
            JournalFailedError: the device failed.
        """
        with self._maintain_lock:
            if self._closed:
                return
            try:
                if self.failed is not None:
                    raise JournalFailedError(self.failed)
                whole = self.retry()
                self.sync()
                self._seal_full()
                if not whole:
                    raise JournalFullError(
                        f"{len(self._pending)} records could not be written: {self._full_reason}"
                    )
            finally:
                with self._write_lock, self._sync_lock:
                    self._closed = True
                    self.listing.close()
                    self._release()

    def _release(self) -> None:
        for file, _ in self._full:
            file.close()
        if self._prepared is not None:
            self._prepared[1].close()
        self._file.close()
        self._lock.release()
