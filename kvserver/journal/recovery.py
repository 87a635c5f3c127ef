"""From a directory to a keyspace and an open journal, or a refusal in one line.

Rules, in this order. Exactly one server a directory. No manifest: a first start, unless there are
files of a journal, which is a refusal. Every listed file must be there. Closed files must have
the size, number of records, range and chain that the manifest says, and a footer that agrees.
Only the open files at the end may be torn: the tear is cut, kept beside as ``.torn-<offset>``,
and reported. A tear is what a crash leaves (see `segment`); any other break is damage, and the
start is refused with file, offset, record and reason. Nothing is modified before the whole
journal has been read.

There may be two open files: the writer prepares the next one ahead of time. When the older one is
torn, what the newer holds came later than the tear and was not yet synced either; it is set aside
as torn too.

``mode="strict"`` refuses a tear as well; ``mode="salvage"`` first replaces a damaged journal by
what can be read of it (see `repair`). Recovery changes the directory only by steps that leave it
recoverable at every point, so it may crash and be repeated.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from kvserver.errors import DamageError
from kvserver.journal import manifest as manifests
from kvserver.journal.directory import directory_error, take_lock
from kvserver.journal.fs import FileSystem, Lock
from kvserver.journal.manifest import Entry, Manifest
from kvserver.journal.record import BAD_EFFECT, decode_body
from kvserver.journal.segment import SegmentReader

if TYPE_CHECKING:
    from kvserver.journal.writer import Journal

log = logging.getLogger("kvserver.journal")

ApplyMany = Callable[[list[list[Any]]], Any]
"""`Keyspace.apply_many`, or anything that takes the effects of one record."""
Mode = Literal["tail", "strict", "salvage"]
MODES: tuple[str, ...] = get_args(Mode)
SLICE_S = 0.008
"""How long replay runs before it lets the caller do something else."""
FIRST_SEGMENT = "segment-00000001-"
TORN_KEPT_BYTES = 64 << 20
"""More than this of a torn tail is not kept beside; zeros are never kept."""


@dataclass(slots=True)
class Torn:
    """What was cut off one file."""

    file: str
    offset: int
    bytes: int
    reason: str


@dataclass(slots=True)
class RecoveryReport:
    """What a start found."""

    first_start: bool = False
    files: int = 0
    records: int = 0
    effects: int = 0
    bytes: int = 0
    last_sequence: int = 0
    seconds: float = 0.0
    torn: list[Torn] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    @property
    def torn_bytes(self) -> int:
        """How many bytes were cut in total."""
        return sum(torn.bytes for torn in self.torn)


@dataclass(slots=True)
class Scanned:
    """How far one file is good."""

    entry: Entry
    closed: bool
    end: int
    chain: int
    records: int
    last: int

    def closed_entry(self) -> Entry:
        """Return what the manifest says of this file once it is known to have its footer."""
        if not self.entry.open:
            return self.entry
        first = self.last - self.records + 1
        return Entry(self.entry.name, False, self.end, self.records, first, self.last, self.chain)


@dataclass(slots=True)
class OpenState:
    """Where the writer goes on."""

    manifest: Manifest
    size: int
    chain: int
    records: int
    next: int


class Recovery:
    """One start: takes the lock, reads everything, then opens the journal for writing.

    Use it as ``recovery = Recovery(fs)``, ``for done, total in
    recovery.replay(keyspace.apply_many): …``, ``journal = recovery.open(…)``. Call `abandon` when
    it goes wrong in between, so that the lock is given back.

    Raises:
        DirectoryError: the directory is in use, from a newer version, or cannot be used.
        DamageError: the manifest is damaged.
    """

    def __init__(self, fs: FileSystem, *, mode: Mode = "tail", lock: bool = True):
        self.fs = fs
        self.mode: Mode = mode
        self.report = RecoveryReport()
        self._lock: Lock | None = take_lock(fs) if lock else None
        self._scanned: list[Scanned] = []
        self._done = False
        try:
            if mode == "salvage":
                _salvage_if_damaged(fs)
            self._names = set(fs.names())
            found = manifests.load(fs)
            if found is None:
                self._refuse_lost_manifest()
            self.manifest = found or Manifest()
            self.report.first_start = found is None
            for entry in self.manifest.entries:
                if entry.name not in self._names:
                    raise DamageError(str(fs.path / entry.name), 0, "the file is missing")
        except BaseException as error:
            self.abandon()
            if isinstance(error, OSError):
                raise directory_error(error) from error
            raise

    def _refuse_lost_manifest(self) -> None:
        files = sorted(name for name in self._names if manifests.NAME.fullmatch(name))
        if all(name.startswith(FIRST_SEGMENT) and self._is_empty(name) for name in files):
            return  # the very first starts crashed before they wrote the manifest
        raise DamageError(
            str(self.fs.path / manifests.MANIFEST),
            0,
            f"the manifest is missing but {files[0]} is there",
        )

    def _is_empty(self, name: str) -> bool:
        file = self.fs.open(name)
        try:
            return file.size() == 0
        finally:
            file.close()

    def replay(self, apply_many: ApplyMany) -> Iterator[tuple[int, int]]:
        """Read all files and hand the effects on, record by record.

        Yields ``(bytes done, bytes in total)`` every few milliseconds, so that the caller can
        answer early clients. The garbage collector rests meanwhile: nothing that is made here is
        garbage.

        Raises:
            DamageError: something that no crash explains.
        """
        started = time.perf_counter()
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield from self._replay(apply_many)
        except OSError as error:
            raise directory_error(error) from error
        finally:
            if collecting:
                gc.enable()
            self.report.seconds = time.perf_counter() - started
        self._done = True

    def _replay(self, apply_many: ApplyMany) -> Iterator[tuple[int, int]]:
        sizes = []
        for entry in self.manifest.entries:
            file = self.fs.open(entry.name)
            sizes.append(file.size())
            file.close()
        total, before, sequence = sum(sizes), 0, 1
        ended = False
        for entry, size in zip(self.manifest.entries, sizes, strict=True):
            if ended:
                self._set_aside(entry, size, sequence)
                continue
            file = self.fs.open(entry.name)
            try:
                reader = SegmentReader(file, entry.id, 1 if entry.is_base else sequence)
                yield from self._read(reader, entry, apply_many, before, total)
                ended = self._conclude(reader, entry, size)
            finally:
                file.close()
            before += size
            sequence = entry.last + 1 if entry.is_base else reader.sequence
        self.report.last_sequence = sequence - 1
        yield total, total

    def _read(
        self,
        reader: SegmentReader,
        entry: Entry,
        apply_many: ApplyMany,
        before: int,
        total: int,
    ) -> Iterator[tuple[int, int]]:
        clock = time.perf_counter
        until = clock() + SLICE_S
        effects_seen = 0
        for record in reader:
            try:
                effects = decode_body(record.body)
                apply_many(effects)
            except BAD_EFFECT as error:
                raise self._damage(entry, record.offset, str(error), record.sequence) from error
            effects_seen += len(effects)
            if clock() >= until:
                yield before + reader.end, total
                until = clock() + SLICE_S
        report = self.report
        report.files += 1
        report.records += reader.records
        report.effects += effects_seen
        report.bytes += reader.end

    def _conclude(self, reader: SegmentReader, entry: Entry, size: int) -> bool:
        """Judge how a file ended; return whether it must be the last one."""
        broken, footer = reader.broken, reader.footer
        if not entry.open:
            problem = reader.problem_of_closed(entry, size)
            if problem is not None:
                raise self._damage(entry, *problem)
        elif broken is not None:
            if not broken.torn or self.mode == "strict":
                raise self._damage(entry, broken.offset, broken.reason, broken.sequence)
            self.report.torn.append(
                Torn(entry.name, broken.offset, size - broken.offset, broken.reason)
            )
        elif footer is not None and footer.last != reader.sequence - 1:
            raise self._damage(entry, reader.end, "the footer does not fit the records")
        closed = footer is not None
        self._scanned.append(
            Scanned(entry, closed, reader.end, reader.chain, reader.records, reader.sequence - 1)
        )
        return not closed

    def _set_aside(self, entry: Entry, size: int, sequence: int) -> None:
        """Drop an open file that follows one without footer."""
        if size == 0:
            return
        if self.mode == "strict":
            raise self._damage(entry, 0, "records behind a file that was never closed", sequence)
        self.report.torn.append(Torn(entry.name, 0, size, "it follows a torn file"))

    def _damage(
        self, entry: Entry, offset: int, reason: str, sequence: int | None = None
    ) -> DamageError:
        return DamageError(str(self.fs.path / entry.name), offset, reason, sequence)

    def open(self, **options: Any) -> Journal:
        """Cut what is torn, clean up, and return the journal ready for `Journal.append`.

        Takes the options of `Journal`. The lock goes over to the journal.

        Raises:
            DirectoryError: the directory cannot be written.
        """
        from kvserver.journal.writer import Journal

        if not self._done or self._lock is None:
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
        fs = self.fs
        for torn in self.report.torn:
            self._cut(torn)
        entries = []
        tail: Scanned | None = None
        for scanned in self._scanned:
            if scanned.entry.open:
                self._sync(scanned.entry.name)
                if not scanned.closed:
                    tail = scanned
            entries.append(scanned.closed_entry() if scanned.closed else scanned.entry)
        next_sequence = self.report.last_sequence + 1
        if tail is None:
            name = manifests.new_name("segment", self.manifest.next_number)
            fs.create(name).close()
            fs.sync_directory()
            entries.append(Entry(name, open=True))
            state = OpenState(Manifest(tuple(entries)), 0, 0, 0, next_sequence)
        else:
            state = OpenState(
                Manifest(tuple(entries)), tail.end, tail.chain, tail.records, next_sequence
            )
        if state.manifest != self.manifest:
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
        for _ in Recovery(fs, lock=False).replay(lambda _effects: None):
            pass
    except DamageError as error:
        log.error("%s; keeping what can be read", error)  # noqa: TRY400 - one line is enough
        salvage_in_place(fs)
