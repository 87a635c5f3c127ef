"""From closed files to one base: a function of files, run by a process of its own (``compactor``).

`compact` reads a base and the closed segments behind it and writes the base that replaces them.
It holds a few of the `partition` parts of the keys in memory at a time, as many as its budget
allows, and reads the segments again for the next ones (a base has its parts in order, so of it
each byte is read once). How many that are it learns from the parts before: where most was
overwritten, three passes do instead of ten. What is in memory is a keyspace for each part, so the
result is by construction what recovery would make of the same files. Nothing expires here: an
expired key goes when the server has said so in the journal.

The new file is written under a temporary name, synced, renamed, and the directory synced. Only
then may anybody name it in a manifest. A crash in between leaves a stray file that the next start
removes.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kvserver.errors import DamageError
from kvserver.journal import manifest as manifests
from kvserver.journal.base import BaseWriter
from kvserver.journal.fs import FileSystem
from kvserver.journal.manifest import Entry
from kvserver.journal.partition import PARTS, PartMemory, buckets_for, distribute
from kvserver.journal.record import BAD_EFFECT, Effect
from kvserver.journal.segment import SegmentReader, read_footer
from kvserver.journal.staging import StagedReader
from kvserver.keyspace import Keyspace

BUDGET_BYTES = 32 << 20
"""Memory for the keys of one pass, at least; the constant beside the tenth of the data."""
EXPANSION = 3
"""Bytes of memory for a byte of a record, roughly; measured with keys of 16 bytes and values of
100."""
KEY_BYTES = 260
"""What a key takes beside itself and its value; by the same measurement."""
MOST_TRUST = 8
"""How many times fewer bytes than thought a part may be taken for, after a look at others."""
COLLECT_BYTES = 1 << 20
"""Below that, a walk over everything costs more than what it frees."""


def compact(
    fs: FileSystem,
    entries: Sequence[Entry],
    name: str,
    *,
    budget_bytes: int = BUDGET_BYTES,
    max_patterns: int = 10_000,
) -> Entry:
    """Write the base ``name`` that stands for ``entries``; return its entry for the manifest.

    Args:
        fs: the directory.
        entries: closed files, in order, as the manifest has them.
        name: the name of the new base.
        budget_bytes: memory for keys, at least; a tenth of the data when that is more.
        max_patterns: the bound of the catalogue, as the server has it.

    Raises:
        DamageError: a file is not what the manifest says; nothing was changed.
        OSError: the disk said no; the temporary file is gone again.
    """
    if not entries or any(entry.open for entry in entries):
        raise ValueError("compaction takes closed files")
    temp = name + ".tmp"
    with contextlib.suppress(FileNotFoundError):
        fs.unlink(temp)
    file = fs.create(temp)
    try:
        writer = BaseWriter(file, manifests.id_of(name))
        _write_parts(fs, entries, writer, budget_bytes, max_patterns)
        writer.finish(entries[-1].last)
        file.close()
        fs.rename(temp, name)
    except BaseException:
        file.close()
        with contextlib.suppress(OSError):
            fs.unlink(temp)
        raise
    fs.sync_directory()
    last = entries[-1].last
    return Entry(name, False, writer.size, writer.records, 1, last, writer.chain)


def _write_parts(
    fs: FileSystem,
    entries: Sequence[Entry],
    writer: BaseWriter,
    budget_bytes: int,
    max_patterns: int,
) -> None:
    base = entries[0] if entries[0].is_base else None
    segments = entries[1:] if base else entries
    index = _read_index(fs, base) if base else []
    total = sum(entry.size for entry in entries)
    part_bytes = -(-EXPANSION * total // PARTS)  # as if nothing had been overwritten
    memory = PartMemory()
    done = 0
    while done < PARTS:
        parts = next_parts(done, part_bytes, budget_bytes)
        done = parts.stop
        spaces = {part: Keyspace(lambda: 0, max_patterns=max_patterns) for part in parts}

        def apply(effects: Iterable[Effect], parts: range = parts, spaces: Any = spaces) -> None:
            buckets = buckets_for(parts)
            distribute(effects, buckets)
            for part in parts:
                bucket = buckets[part]
                if bucket:
                    spaces[part].apply_many(bucket)

        if base is not None:
            _read_parts(fs, base, index, parts, apply)
        memory.rewind(parts)

        def apply_wanted(effects: list[list[Any]], apply: Any = apply) -> None:
            apply(memory.wanted(effects))

        for entry in segments:
            _read_closed(fs, entry, apply_wanted)
        held = sum(map(held_bytes, spaces.values())) // len(parts)
        part_bytes = max(held, part_bytes // MOST_TRUST, 1)
        for part in parts:
            writer.write_part(spaces.pop(part).dump())
        if total >= COLLECT_BYTES:
            gc.collect()  # a keyspace refers to itself; without this the parts pile up


def next_parts(done: int, part_bytes: int, budget_bytes: int) -> range:
    """Return the parts of the next pass: as many of those left as fit, all passes alike.

    They fit into the budget together, or into a tenth of all the data when that is more.
    """
    left = PARTS - done
    budget_bytes = max(budget_bytes, part_bytes * PARTS // 10)
    passes = min(left, max(1, -(-part_bytes * left // budget_bytes)))
    return range(done, done + -(-left // passes))


def held_bytes(space: Keyspace) -> int:
    """Return about how much memory the keys of a part take."""
    data = space.data
    return sum(map(len, data)) + sum(map(len, data.values())) + KEY_BYTES * len(data)


def _read_index(fs: FileSystem, base: Entry) -> list[tuple[int, int]]:
    file = fs.open(base.name)
    try:
        footer = read_footer(file, base.id, base.records + 1)
    finally:
        file.close()
    if footer is None or len(footer.partitions) != PARTS:
        raise DamageError(str(fs.path / base.name), base.size, "the base has no index of its parts")
    if (footer.records, footer.last, footer.chain) != (base.records, base.last, base.chain):
        raise DamageError(
            str(fs.path / base.name), base.size, "the footer does not fit the manifest"
        )
    return footer.partitions


def _read_parts(
    fs: FileSystem,
    base: Entry,
    index: list[tuple[int, int]],
    parts: range,
    apply: Callable[[list[list[Any]]], Any],
) -> None:
    """Hand on the records of some parts of a base, and make sure that all of them are there."""
    offset = index[parts.start][0]
    skipped = sum(count for _, count in index[: parts.start])
    wanted = sum(index[part][1] for part in parts)
    if not wanted:
        return
    file = fs.open(base.name)
    try:
        reader = SegmentReader(file, base.id, skipped + 1, offset=offset)
        for _ in _applied(fs, base, reader, apply):
            wanted -= 1
            if not wanted:
                return
        broken = reader.broken
        at = broken.offset if broken else reader.end
        raise DamageError(
            str(fs.path / base.name), at, broken.reason if broken else "records are missing"
        )
    finally:
        file.close()


def _read_closed(fs: FileSystem, entry: Entry, apply: Callable[[list[list[Any]]], Any]) -> None:
    """Hand on all records of a closed file, and make sure that it is what the manifest says."""
    file = fs.open(entry.name)
    try:
        reader = SegmentReader(file, entry.id, entry.first_record)
        for _ in _applied(fs, entry, reader, apply):
            pass
        problem = reader.problem_of_closed(entry, file.size())
        if problem is not None:
            raise DamageError(str(fs.path / entry.name), *problem)
    finally:
        file.close()


def _applied(
    fs: FileSystem,
    entry: Entry,
    reader: SegmentReader,
    apply: Callable[[list[list[Any]]], Any],
) -> Iterator[None]:
    """Hand on record after record."""
    effects_of = StagedReader().effects_of
    for record in reader:
        try:
            apply(effects_of(record.body))
        except BAD_EFFECT as error:
            path = str(fs.path / entry.name)
            raise DamageError(path, record.offset, str(error), record.sequence) from error
        yield
