"""Reads a whole journal: its effects in order, and how far each file is good. Changes nothing.

Every listed file must be there. Closed files must have the size, number of records, range and chain
that the manifest says, and a footer that agrees. Only the open files at the end may be torn. A tear
is what a crash leaves (see `segment`); any other break is damage: file, offset, record and reason.

There may be two open files: the writer prepares the next one ahead of time. When the older one is
torn, what the newer holds came later than the tear and was not yet synced either; it counts as torn
too.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kvserver.errors import DamageError
from kvserver.journal import manifest as manifests
from kvserver.journal.directory import directory_error
from kvserver.journal.fs import FileSystem
from kvserver.journal.manifest import Entry, Manifest
from kvserver.journal.record import BAD_EFFECT
from kvserver.journal.segment import SegmentReader
from kvserver.journal.staging import StagedReader

ApplyMany = Callable[[list[list[Any]]], Any]
"""`Keyspace.apply_many`, or anything that takes the effects of one record."""
SLICE_S = 0.008
"""How long replay runs before it lets the caller do something else."""
FIRST_SEGMENT = "segment-00000001-"


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


class Replay:
    """One reading of a directory; ``strict`` takes a tear for damage as well.

    Raises:
        DirectoryError: the directory is from a newer version, or cannot be read.
        DamageError: the manifest is damaged, or a file that it lists is missing.
    """

    def __init__(self, fs: FileSystem, *, strict: bool = False):
        self.fs = fs
        self.strict = strict
        self.report = RecoveryReport()
        self.scanned: list[Scanned] = []
        """The files that were read; what came behind a torn one is not among them."""
        self.done = False
        try:
            names = set(fs.names())
            found = manifests.load(fs)
            if found is None:
                self._refuse_lost_manifest(names)
        except OSError as error:
            raise directory_error(error) from error
        self.manifest = found or Manifest()
        self.report.first_start = found is None
        for entry in self.manifest.entries:
            if entry.name not in names:
                raise self._damage(entry, 0, "the file is missing")

    def _refuse_lost_manifest(self, names: set[str]) -> None:
        files = sorted(name for name in names if manifests.NAME.fullmatch(name))
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

    def run(self, apply_many: ApplyMany) -> Iterator[tuple[int, int]]:
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
            yield from self._run(apply_many)
        except OSError as error:
            raise directory_error(error) from error
        finally:
            if collecting:
                gc.enable()
            self.report.seconds = time.perf_counter() - started
        self.done = True

    def _run(self, apply_many: ApplyMany) -> Iterator[tuple[int, int]]:
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
                file.leave()
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
        effects_of = StagedReader().effects_of
        for record in reader:
            try:
                effects = effects_of(record.body)
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
            if not broken.torn or self.strict:
                raise self._damage(entry, broken.offset, broken.reason, broken.sequence)
            self.report.torn.append(
                Torn(entry.name, broken.offset, size - broken.offset, broken.reason)
            )
        elif footer is not None and footer.last != reader.sequence - 1:
            raise self._damage(entry, reader.end, "the footer does not fit the records")
        closed = footer is not None
        self.scanned.append(
            Scanned(entry, closed, reader.end, reader.chain, reader.records, reader.sequence - 1)
        )
        return not closed

    def _set_aside(self, entry: Entry, size: int, sequence: int) -> None:
        """Drop an open file that follows one without footer."""
        if size == 0:
            return
        if self.strict:
            raise self._damage(entry, 0, "records behind a file that was never closed", sequence)
        self.report.torn.append(Torn(entry.name, 0, size, "it follows a torn file"))

    def _damage(
        self, entry: Entry, offset: int, reason: str, sequence: int | None = None
    ) -> DamageError:
        return DamageError(str(self.fs.path / entry.name), offset, reason, sequence)
