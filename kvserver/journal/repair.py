"""Saves what can be read of a damaged journal, and says exactly what could not.

`salvage` reads every file like recovery does, but goes on behind damage at the next record whose
header and body have a good CRC. What it skipped is listed as `Dropped`, with file, offset, length
and sequence numbers where they are known. The result is written as a journal of one base:

- `repair_to` writes it into a new directory and touches nothing of the old one;
- `salvage_in_place` (``--log-recovery=salvage``) writes it beside the damaged files, which are
  kept under names that end in ``.damaged``. The rename of the manifest is the moment of change.

Dropping a record from the middle of history leaves a state that never was. That is why nothing here
happens unless somebody asks for it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kvserver.errors import DirectoryError, JournalError, RecordError
from kvserver.journal import manifest as manifests
from kvserver.journal.base import BaseWriter
from kvserver.journal.fs import File, FileSystem
from kvserver.journal.manifest import MANIFEST, NAME, Entry, Manifest
from kvserver.journal.partition import PARTS, buckets_for, distribute
from kvserver.journal.record import BAD_EFFECT
from kvserver.journal.segment import Record, SegmentReader, last_footer, next_record
from kvserver.journal.staging import StagedReader

log = logging.getLogger("kvserver.journal")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A piece of a file that could not be used."""

    file: str
    offset: int
    bytes: int
    reason: str
    first: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        records = ""
        if self.first is not None and self.last is not None and self.last >= self.first:
            one = self.first == self.last
            records = f", record {self.first}" if one else f", records {self.first} to {self.last}"
        size = f", {self.bytes} bytes" if self.bytes else ""
        return f"{self.file} at byte {self.offset}{size}{records}: {self.reason}"


@dataclass(slots=True)
class Salvage:
    """What was saved, in the parts of a base, and what was not."""

    spaces: list[Any]
    last: int = 0
    records: int = 0
    effects: int = 0
    dropped: list[Dropped] = field(default_factory=list)

    @property
    def keys(self) -> int:
        """How many keys were saved."""
        return sum(len(space) for space in self.spaces)


def salvage(fs: FileSystem, *, max_patterns: int = 10_000) -> Salvage:
    """Read what can be read; changes nothing.

    Raises:
        DirectoryError: there is no file of a journal at all, or the manifest is from a newer
        version.
    """
    from kvserver.keyspace import Keyspace

    saved = Salvage([Keyspace(lambda: 0, max_patterns=max_patterns) for _ in range(PARTS)])
    entries = _entries(fs, saved)
    if not entries:
        raise DirectoryError(f"{fs.path}: no file of a journal")
    expected = 1
    for entry in entries:
        try:
            file = fs.open(entry.name)
        except OSError as error:
            last = entry.last if not entry.open else None
            saved.dropped.append(
                Dropped(entry.name, 0, 0, error.strerror or str(error), expected, last)
            )
            continue
        try:
            if entry.is_base:
                _read(file, entry, 1, saved)
                expected = max(expected, entry.last + 1)
            else:
                expected = _read(file, entry, expected, saved)
        finally:
            file.close()
    saved.last = expected - 1
    return saved


def _entries(fs: FileSystem, saved: Salvage) -> Sequence[Entry]:
    """Return the files in order: as the manifest says, else as their names and footers say."""
    try:
        manifest = manifests.load(fs)
        if manifest is not None:
            return manifest.entries
        reason = "the manifest is missing"
    except DirectoryError:
        raise
    except JournalError as error:
        reason = str(error)
    saved.dropped.append(Dropped(MANIFEST, 0, 0, reason))
    bases, segments = [], []
    for name in fs.names():
        if NAME.fullmatch(name) is None:
            continue
        if name.startswith("base-"):
            file = fs.open(name)
            with contextlib.suppress(RecordError):
                footer = last_footer(file, manifests.id_of(name))
                if footer is not None:
                    bases.append(Entry(name, False, 0, footer.records, 1, footer.last))
            file.close()
        else:
            segments.append(Entry(name, open=True))
    segments.sort(key=lambda entry: entry.number)
    return [*sorted(bases, key=lambda entry: entry.last)[-1:], *segments]


def _read(file: File, entry: Entry, expected: int, saved: Salvage) -> int:
    """Apply every good record of a file; return the sequence number that is due next."""
    size = file.size()
    offset, sequence = 0, expected
    staged = StagedReader()
    place = next_record(file, entry.id, 0, size)
    if place is None:
        if size:
            saved.dropped.append(Dropped(entry.name, 0, size, "no record in it"))
        return expected
    if place[0] > 0:
        saved.dropped.append(Dropped(entry.name, 0, place[0], "no record", expected, place[1] - 1))
    while place is not None:
        offset, sequence = place
        if sequence > expected:
            missing = Dropped(entry.name, offset, 0, "missing", expected, sequence - 1)
            if not (saved.dropped and saved.dropped[-1].last == sequence - 1):
                saved.dropped.append(missing)
        reader = SegmentReader(file, entry.id, sequence, offset=offset)
        for record in reader:
            if record.sequence >= expected:
                _apply(entry, record, staged, saved)
        expected = max(expected, reader.sequence)
        broken = reader.broken
        if broken is None:
            break
        place = next_record(file, entry.id, broken.offset + 1, size)
        end = size if place is None else place[0]
        known = None if entry.open or entry.is_base else entry.last
        last = place[1] - 1 if place is not None else known
        saved.dropped.append(
            Dropped(entry.name, broken.offset, end - broken.offset, broken.reason, expected, last)
        )
    return expected


def _apply(entry: Entry, record: Record, staged: StagedReader, saved: Salvage) -> None:
    problem = ""
    offset, sequence = record.offset, record.sequence
    try:
        effects = staged.effects_of(record.body)
    except RecordError as error:
        size = len(record.body)
        saved.dropped.append(Dropped(entry.name, offset, size, str(error), sequence, sequence))
        return
    for effect in effects:
        try:
            buckets = buckets_for(range(PARTS))
            distribute([effect], buckets)
            for part, bucket in enumerate(buckets):
                if bucket:
                    saved.spaces[part].apply_many(bucket)
            saved.effects += 1
        except BAD_EFFECT as error:
            problem = str(error)
    saved.records += 1
    if problem:
        saved.dropped.append(Dropped(entry.name, offset, 0, problem, sequence, sequence))


def write_base(fs: FileSystem, saved: Salvage, number: int) -> Entry:
    """Write what was saved as a base, durably; return its entry."""
    name = manifests.new_name("base", number)
    temp = name + ".tmp"
    file = fs.create(temp)
    try:
        writer = BaseWriter(file, manifests.id_of(name))
        for space in saved.spaces:
            writer.write_part(space.dump())
        writer.finish(saved.last)
    finally:
        file.close()
    fs.rename(temp, name)
    fs.sync_directory()
    return Entry(name, False, writer.size, writer.records, 1, saved.last, writer.chain)


def _write_journal(fs: FileSystem, saved: Salvage, number: int) -> None:
    entries = [write_base(fs, saved, number)]
    entries.append(Entry(manifests.new_name("segment", number + 1), open=True))
    fs.create(entries[-1].name).close()
    fs.sync_directory()
    manifests.save(fs, Manifest(tuple(entries)))


def repair_to(fs: FileSystem, new: FileSystem, *, max_patterns: int = 10_000) -> Salvage:
    """Write a repaired copy of ``fs`` into the empty directory ``new``.

    Raises:
        DirectoryError: there is nothing to repair, or ``new`` is not empty.
    """
    if new.names():
        raise DirectoryError(f"{new.path}: not empty")
    saved = salvage(fs, max_patterns=max_patterns)
    _write_journal(new, saved, 1)
    return saved


def salvage_in_place(fs: FileSystem, *, max_patterns: int = 10_000) -> Salvage:
    """Replace a damaged journal by what can be read of it; the caller holds the lock."""
    saved = salvage(fs, max_patterns=max_patterns)
    old = [name for name in fs.names() if NAME.fullmatch(name) is not None]
    listed = [*old, MANIFEST] if MANIFEST in fs.names() else old
    for name in listed:
        with contextlib.suppress(FileExistsError):
            fs.link(name, name + ".damaged")
    fs.sync_directory()
    number = max((int(name.split("-")[1]) for name in old), default=0) + 1
    _write_journal(fs, saved, number)
    for name in old:
        fs.unlink(name)
    fs.sync_directory()
    for dropped in saved.dropped:
        log.error("salvage: dropped %s", dropped)
    return saved
