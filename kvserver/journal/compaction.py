"""From closed files to one base: a function of files, run by a process of its own.

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

As a process (``python -m kvserver.journal.compaction``) it gets its plan as one JSON line on
stdin, answers with one on stdout, gives way to everybody else (lowest priority), and ends when its
parent does. It is started by exec, never by fork, so it cannot inherit the lock.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zlib_ng.zlib_ng import crc32

from kvserver.errors import DamageError, JournalError
from kvserver.journal import manifest as manifests
from kvserver.journal.fs import File, FileSystem, RealFileSystem
from kvserver.journal.manifest import Entry
from kvserver.journal.partition import PARTS, PartMemory, buckets_for, distribute
from kvserver.journal.record import (
    BAD_EFFECT,
    Effect,
    Footer,
    encode_footer,
    encode_header,
    new_packer,
    seed_of,
)
from kvserver.journal.segment import SegmentReader, read_footer
from kvserver.journal.staging import StagedReader

if TYPE_CHECKING:
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
RECORD_BYTES = 1 << 18
FIRST_EFFECTS = 64
MAX_EFFECTS = 4096
NICENESS = 10
"""A tenth of a core when all cores are wanted, so that it comes to an end even then."""
SYNC_BYTES = 8 << 20
"""The base is synced in steps of this size: one big sync at its end would make the server's own
syncs wait behind it."""


class BaseWriter:
    """Writes a base part by part."""

    def __init__(self, file: File, file_id: int):
        self._file = file
        self._seed = seed_of(file_id)
        self._pack = new_packer().pack
        self._unsynced = 0
        self.size = 0
        self.records = 0
        self.chain = 0
        self.partitions: list[tuple[int, int]] = []

    def write_part(self, effects: Iterator[Effect]) -> None:
        """Write all effects of the next part, in records of about `RECORD_BYTES`."""
        start, before = self.size, self.records
        count = FIRST_EFFECTS
        while chunk := list(islice(effects, count)):
            body = self._pack(gather(chunk))
            self.records += 1
            header = encode_header(body, self.records, self._seed)
            self.chain = crc32(header, self.chain)
            self._write(header + body)
            average = len(body) // len(chunk) + 1
            count = max(1, min(MAX_EFFECTS, RECORD_BYTES // average))
        self.partitions.append((start, self.records - before))

    def finish(self, last: int) -> None:
        """Write the footer and sync."""
        footer = Footer(self.records, last, self.chain, self.partitions)
        self._write(encode_footer(footer, self.records + 1, self._seed))
        self._file.sync()

    def _write(self, data: bytes) -> None:
        manifests.write_all(self._file, data)
        self.size += len(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            self._file.sync()
            self._unsynced = 0


def gather(effects: Sequence[Effect]) -> list[Effect]:
    """Write plain sets of different keys as one ``mst``: half the work for who reads it."""
    plain = [effect for effect in effects if len(effect) == 3 and effect[0] == "set"]
    if len(plain) < 2:
        return list(effects)
    _, keys, values = zip(*plain, strict=True)
    rest = [effect for effect in effects if len(effect) != 3 or effect[0] != "set"]
    return [("mst", keys, values), *rest]


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
    from kvserver.keyspace import Keyspace  # not needed by those who only check or repair

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
            read_closed(fs, entry, apply_wanted)
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


def read_closed(fs: FileSystem, entry: Entry, apply: Callable[[list[list[Any]]], Any]) -> None:
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


def main() -> int:
    """Run one compaction as the plan on stdin says; exit status 1 and one line when it fails."""
    stdin = sys.stdin.buffer
    plan_line = stdin.readline()
    if not plan_line:
        return 1
    _give_way()
    _end_with_parent(stdin)
    task = json.loads(plan_line)
    try:
        entry = compact(
            RealFileSystem(Path(task["directory"])),
            [Entry(**fields) for fields in task["entries"]],
            task["name"],
            budget_bytes=task["budget_bytes"],
            max_patterns=task["max_patterns"],
        )
    except JournalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.strerror or error} ({task['name']})\n")
        return 1
    except MemoryError:
        sys.stderr.write("out of memory\n")
        return 1
    sys.stdout.write(json.dumps(asdict(entry)) + "\n")
    sys.stdout.flush()
    return 0


def task_line(
    directory: Path, entries: Sequence[Entry], name: str, budget_bytes: int, max_patterns: int
) -> bytes:
    """Return what `main` reads."""
    task = {
        "directory": str(directory.absolute()),
        "entries": [asdict(entry) for entry in entries],
        "name": name,
        "budget_bytes": budget_bytes,
        "max_patterns": max_patterns,
    }
    return (json.dumps(task) + "\n").encode()


def _give_way() -> None:
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError, AttributeError):  # Linux: never take a core from who wakes up
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _end_with_parent(stdin: Any) -> None:
    """The parent never closes our stdin; when it ends, the system does."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(stdin.fileno(), 1):
                pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
