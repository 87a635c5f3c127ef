"""``MANIFEST.json``: which files make up the journal, in order.

A person can read it, and a program notices any byte that changed in it: the file must be exactly
what `encode` makes of its content, and carries a CRC of that. It lists at most one base, then
closed segments with size, number of records, last sequence number and chain (see `record`), then
one or more open segments, of which only the name is known. It is replaced as a whole: temporary
file, fsync, rename, fsync of the directory.

A file's name says what it is, its number, and its random id: ``segment-00000007-<id>.kvj``. The
id is part of every record's CRC. Names that do not have this form are refused, which leaves no
room for a path.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zlib_ng.zlib_ng import crc32

from kvserver.errors import DamageError, DirectoryError
from kvserver.journal.fs import FileSystem

MANIFEST = "MANIFEST.json"
MANIFEST_TEMP = "MANIFEST.json.tmp"
LOCK = "LOCK"
FORMAT = "kvstore-journal"
VERSION = 1
MAX_MANIFEST_BYTES = 16 << 20
NAME = re.compile(r"(base|segment)-([0-9]{8,12})-([0-9a-f]{16})\.kvj", re.ASCII)
OURS = re.compile(NAME.pattern + r"(\.tmp|\.torn-[0-9]+|\.damaged)?", re.ASCII)
"""Every name that the journal makes beside the manifest and the lock."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the journal."""

    name: str
    open: bool = False
    size: int = 0
    records: int = 0
    first: int = 0
    last: int = 0
    chain: int = 0

    @property
    def is_base(self) -> bool:
        """Whether this file replaces all history up to `last`."""
        return self.name.startswith("base-")

    @property
    def number(self) -> int:
        """The running number in the name."""
        return int(self.name.split("-")[1])

    @property
    def id(self) -> int:
        """What goes into the CRC of each record's header."""
        return id_of(self.name)

    @property
    def first_record(self) -> int:
        """The sequence number of the first record; a base counts its own from one."""
        return 1 if self.is_base else self.first


@dataclass(frozen=True, slots=True)
class Manifest:
    """The list; `version` is that of the file format."""

    entries: tuple[Entry, ...] = ()
    version: int = field(default=VERSION)

    @property
    def closed(self) -> tuple[Entry, ...]:
        """The files that no longer change."""
        return tuple(entry for entry in self.entries if not entry.open)

    @property
    def next_number(self) -> int:
        """A number that no file of the list has."""
        return max((entry.number for entry in self.entries), default=0) + 1


def new_name(kind: str, number: int) -> str:
    """Return a name with an id that no other file ever had."""
    return f"{kind}-{number:08d}-{secrets.token_hex(8)}.kvj"


def id_of(name: str) -> int:
    """Return the id in a file's name."""
    match = NAME.match(name)
    if match is None:
        raise ValueError(f"not a name of the journal: {name!r}")
    return int(match[3], 16)


def encode(manifest: Manifest) -> bytes:
    """Return the bytes of the file."""
    files: list[dict[str, Any]] = []
    for entry in manifest.entries:
        if entry.open:
            files.append({"name": entry.name, "open": True})
        else:
            files.append(
                {
                    "name": entry.name,
                    "size": entry.size,
                    "records": entry.records,
                    "first": entry.first,
                    "last": entry.last,
                    "crc": f"{entry.chain:08x}",
                }
            )
    content = {"format": FORMAT, "version": manifest.version, "files": files}
    content["crc"] = f"{crc32(json.dumps(content).encode()):08x}"
    return (json.dumps(content, indent=1) + "\n").encode()


def decode(data: bytes, path: str = MANIFEST) -> Manifest:
    """Read the bytes of the file.

    Raises:
        DirectoryError: it was written by a newer version.
        DamageError: it is not what was written.
    """

    def damaged(reason: str) -> DamageError:
        return DamageError(path, 0, reason)

    if not data.strip():
        raise damaged("the manifest is empty")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged("the manifest is not JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise damaged("this is not a manifest of kvserver")
    version = content.get("version")
    if type(version) is int and version > VERSION:
        raise DirectoryError(
            f"{path}: written by a newer kvserver (journal version {version}, this one reads"
            f" up to {VERSION})"
        )
    if type(version) is not int or version < 1:
        raise damaged("the manifest has no version")
    try:
        entries = tuple(_entry(item) for item in content["files"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(
            f"the manifest lists what cannot be a file of the journal ({error})"
        ) from error
    manifest = Manifest(entries, version)
    if encode(manifest) != data:
        raise damaged("the manifest's CRC does not fit its content")
    _check_order(manifest, damaged)
    return manifest


def _entry(item: dict[str, Any]) -> Entry:
    name = item["name"]
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise ValueError(f"name {str(name)[:80]!r}")
    if item.get("open") is True:
        return Entry(name, open=True)
    numbers = [item[key] for key in ("size", "records", "first", "last")]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"numbers of {name}")
    size, records, first, last = numbers
    return Entry(name, False, size, records, first, last, int(item["crc"], 16))


def _check_order(manifest: Manifest, damaged: Any) -> None:
    names = [entry.name for entry in manifest.entries]
    if len(set(names)) != len(names):
        raise damaged("the manifest lists a file twice")
    if not names or not manifest.entries[-1].open:
        raise damaged("the manifest lists no open segment at its end")
    expected = 1
    seen_open = False
    for index, entry in enumerate(manifest.entries):
        if entry.is_base and (index or entry.open):
            raise damaged(f"the base {entry.name} is not the first file")
        if entry.open:
            seen_open = True
            continue
        if seen_open:
            raise damaged(f"{entry.name} is closed but follows an open segment")
        if entry.first != expected:
            raise damaged(f"sequence numbers {expected} to {entry.first - 1} are missing")
        if not entry.is_base and entry.last != entry.first + entry.records - 1:
            raise damaged(f"the number of records of {entry.name} does not fit its range")
        expected = entry.last + 1


def load(fs: FileSystem) -> Manifest | None:
    """Read the manifest; None when there is none."""
    try:
        file = fs.open(MANIFEST)
    except FileNotFoundError:
        return None
    try:
        data = file.read(0, MAX_MANIFEST_BYTES)
    finally:
        file.close()
    return decode(data, str(fs.path / MANIFEST))


def save(fs: FileSystem, manifest: Manifest) -> None:
    """Replace the manifest, durably; on an error the old one still stands."""
    write_file(fs, MANIFEST_TEMP, encode(manifest))
    fs.rename(MANIFEST_TEMP, MANIFEST)
    fs.sync_directory()


def write_file(fs: FileSystem, name: str, *parts: bytes) -> None:
    """Write a whole new file and sync it; on failure there is no file of that name."""
    with contextlib.suppress(FileNotFoundError):
        fs.unlink(name)
    file = fs.create(name)
    try:
        write_all(file, *parts)
        file.sync()
    except OSError:
        with contextlib.suppress(OSError):
            fs.unlink(name)
        raise
    finally:
        file.close()


def write_all(file: Any, *parts: bytes) -> None:
    """Write until all is taken or the system says no."""
    view = memoryview(b"".join(parts))
    while view:
        taken = file.write(view)
        if taken == 0:
            raise OSError(errno.ENOSPC, "the device takes no more bytes", file.name)
        view = view[taken:]


def names_of(entries: Sequence[Entry]) -> set[str]:
    """Return the names of the files in a list."""
    return {entry.name for entry in entries}
