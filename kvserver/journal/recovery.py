"""From a directory to a keyspace and an open journal, or a refusal in one line.

Rules, in this order. Exactly one server a directory. No manifest: a first start, unless there are
files of a journal, which is a refusal. Then everything is read (see `replay`), and nothing is
modified before that. Damage refuses the start with file, offset, record and reason. A tear at the
end is cut, kept beside as ``.torn-<offset>``, and reported.

``mode="strict"`` refuses a tear as well; ``mode="salvage"`` first replaces a damaged journal by
what can be read of it (see `repair`). Recovery changes the directory only by steps that leave it
recoverable at every point, so it may crash and be repeated.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast, get_args

from kvserver.errors import DamageError
from kvserver.journal import manifest as manifests
from kvserver.journal.appending import OpenState
from kvserver.journal.directory import directory_error, take_lock
from kvserver.journal.fs import FileSystem, Lock
from kvserver.journal.manifest import Entry, Manifest
from kvserver.journal.replay import ApplyMany, RecoveryReport, Replay, Scanned, Torn
from kvserver.journal.writer import Journal

log = logging.getLogger("kvserver.journal")

Mode = Literal["tail", "strict", "salvage"]
MODES: tuple[str, ...] = get_args(Mode)
TORN_KEPT_BYTES = 64 << 20
"""More than this of a torn tail is not kept beside; zeros are never kept."""


class Recovery:
    """One start: takes the lock, reads everything, then opens the journal for writing.

    Use it as ``recovery = Recovery(fs)``, ``for done, total in
    recovery.replay(keyspace.apply_many): …``, ``journal = recovery.open(…)``. Call `abandon` when
    it goes wrong in between, so that the lock is given back.

    Raises:
        DirectoryError: the directory is in use, from a newer version, or cannot be used.
        DamageError: the manifest is damaged.
    """

    def __init__(self, fs: FileSystem, *, mode: Mode = "tail"):
        self.fs = fs
        self._lock: Lock | None = take_lock(fs)
        try:
            if mode == "salvage":
                _salvage_if_damaged(fs)
            self._reading = Replay(fs, strict=mode == "strict")
        except BaseException as error:
            self.abandon()
            if isinstance(error, OSError):
                raise directory_error(error) from error
            raise

    @property
    def report(self) -> RecoveryReport:
        """What was found so far."""
        return self._reading.report

    def replay(self, apply_many: ApplyMany) -> Iterator[tuple[int, int]]:
        """Read everything; see `Replay.run`."""
        return self._reading.run(apply_many)

    def open(self, **options: Any) -> Journal:
        """Cut what is torn, clean up, and return the journal ready for `Journal.append`.

        Takes the options of `Journal`. The lock goes over to the journal.

        Raises:
            DirectoryError: the directory cannot be written.
        """
        if not self._reading.done or self._lock is None:
            raise RuntimeError("replay has not come to its end")
        try:
            journal = Journal(self.fs, self._lock, self._settle(), **options)
        except OSError as error:
            self.abandon()
            raise directory_error(error) from error
        except BaseException:
            self.abandon()
            raise
        self._lock = None
        journal.torn_bytes = self.report.torn_bytes
        return journal

    def _settle(self) -> OpenState:
        """Make the directory say what was read; return where to go on."""
        fs, before = self.fs, self._reading.manifest
        for torn in self.report.torn:
            self._cut(torn)
        entries = []
        tail: Scanned | None = None
        for scanned in self._reading.scanned:
            if scanned.entry.open:
                self._sync(scanned.entry.name)
                if not scanned.closed:
                    tail = scanned
            entries.append(scanned.closed_entry() if scanned.closed else scanned.entry)
        next_sequence = self.report.last_sequence + 1
        if tail is None:
            name = manifests.new_name("segment", before.next_number)
            fs.create(name).close()
            fs.sync_directory()
            entries.append(Entry(name, open=True))
            state = OpenState(Manifest(tuple(entries)), 0, 0, 0, next_sequence)
        else:
            state = OpenState(
                Manifest(tuple(entries)), tail.end, tail.chain, tail.records, next_sequence
            )
        if state.manifest != before:
            manifests.save(fs, state.manifest)
        self._remove_strays(state.manifest)
        return state

    def _sync(self, name: str) -> None:
        """A killed process leaves bytes that only the page cache holds."""
        file = self.fs.open(name, write=True)
        try:
            file.sync()
        finally:
            file.close()

    def _cut(self, torn: Torn) -> None:
        fs = self.fs
        file = fs.open(torn.file, write=True)
        try:
            if torn.bytes <= TORN_KEPT_BYTES and torn.reason != "nothing but zeros up to the end":
                data = file.read(torn.offset, torn.bytes)
                manifests.write_file(fs, f"{torn.file}.torn-{torn.offset}", data)
                fs.sync_directory()
            file.truncate(torn.offset)
            file.sync()
        finally:
            file.close()
        log.warning(
            "%s: torn at byte %d, %d bytes cut (%s)",
            torn.file,
            torn.offset,
            torn.bytes,
            torn.reason,
        )

    def _remove_strays(self, settled: Manifest) -> None:
        """Remove what a crash left: files of ours that the manifest does not name."""
        fs = self.fs
        keep = manifests.names_of(settled.entries)
        oldest = min(entry.number for entry in settled.entries)
        for name in fs.names():
            ours = manifests.OURS.fullmatch(name) is not None or name == manifests.MANIFEST_TEMP
            if not ours or name in keep or name.endswith(".damaged"):
                continue
            if ".torn-" in name and int(name.split("-")[1]) >= oldest:
                continue  # kept for a person until compaction has passed it
            with contextlib.suppress(FileNotFoundError):
                fs.unlink(name)
            self.report.removed.append(name)
            log.warning("%s: removed, a crash left it", name)
        if self.report.removed:
            fs.sync_directory()

    def abandon(self) -> None:
        """Give the lock back; harmless when repeated."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


def recover(
    fs: FileSystem,
    apply_many: ApplyMany,
    *,
    mode: Mode = "tail",
    progress: Callable[[int, int], Any] | None = None,
    **options: Any,
) -> tuple[Journal, RecoveryReport]:
    """Do a whole start at once; for tests and tools, where nobody waits for answers."""
    recovery = Recovery(fs, mode=mode)
    try:
        for done, total in recovery.replay(apply_many):
            if progress is not None:
                progress(done, total)
        return recovery.open(**options), recovery.report
    finally:
        recovery.abandon()


def recovery_mode(name: str) -> Mode:
    """Return the mode of that name."""
    for mode in get_args(Mode):
        if mode == name:
            return cast("Mode", mode)
    raise ValueError(f"recovery mode must be one of {', '.join(MODES)}")


def _salvage_if_damaged(fs: FileSystem) -> None:
    """Replace a damaged journal by what can be read of it; reads everything twice."""
    from kvserver.journal.repair import salvage_in_place

    try:
        for _ in Replay(fs).run(lambda _effects: None):
            pass
    except DamageError as error:
        log.error("%s; keeping what can be read", error)  # noqa: TRY400 - one line is enough
        salvage_in_place(fs)
