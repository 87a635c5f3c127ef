"""Looks at a data directory without changing it, with the codec and the rules of the server.

The verdict is the server's own: `sound`, `torn` (it would start and cut a tail), or `damaged` (it
would refuse). While a server has the directory, the open file is read up to its last whole record
only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from kvserver.errors import JournalError
from kvserver.journal import manifest as manifests
from kvserver.journal.directory import lock_holder
from kvserver.journal.fs import FileSystem
from kvserver.journal.manifest import Entry
from kvserver.journal.replay import Replay
from kvserver.journal.segment import SegmentReader

LIVE_TRIES = 5
Verdict = Literal["sound", "torn", "damaged"]


@dataclass(slots=True)
class FileReport:
    """One file, as it is."""

    name: str
    state: str
    bytes: int = 0
    records: int = 0
    first: int = 0
    last: int = 0
    problem: str = ""


@dataclass(slots=True)
class CheckReport:
    """A whole directory."""

    directory: str
    verdict: Verdict = "sound"
    reason: str = ""
    in_use_by: int | None = None
    keys: int = 0
    records: int = 0
    torn_bytes: int = 0
    files: list[FileReport] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)


def check(
    fs: FileSystem, progress: Callable[[int, int], Any] = lambda _done, _total: None
) -> CheckReport:
    """Read everything and say what a start would do."""
    for _ in range(LIVE_TRIES):
        before = _manifest_bytes(fs)
        report = _check_once(fs, progress)
        if report.in_use_by is None or _manifest_bytes(fs) == before:
            break  # else a server changed the list of files while we read them
    return report


def _manifest_bytes(fs: FileSystem) -> bytes:
    try:
        file = fs.open(manifests.MANIFEST)
    except OSError:
        return b""
    try:
        return file.read(0, manifests.MAX_MANIFEST_BYTES)
    finally:
        file.close()


def _check_once(fs: FileSystem, progress: Callable[[int, int], Any]) -> CheckReport:
    from kvserver.keyspace import Keyspace

    report = CheckReport(str(fs.path), in_use_by=lock_holder(fs.path))
    report.files = list(_look(fs, live=report.in_use_by is not None))
    named = {each.name for each in report.files}
    report.strays = [
        name
        for name in fs.names()
        if name == manifests.MANIFEST_TEMP
        or (manifests.OURS.fullmatch(name) is not None and name not in named)
    ]
    keyspace = Keyspace(lambda: 0)
    try:
        replay = Replay(fs)
        for done, total in replay.run(keyspace.apply_many):
            progress(done, total)
    except JournalError as error:
        report.verdict, report.reason = "damaged", str(error)
        return report
    report.keys = len(keyspace)
    report.records = replay.report.records
    if replay.report.torn and report.in_use_by is None:
        torn = replay.report.torn[0]
        report.verdict = "torn"
        report.torn_bytes = replay.report.torn_bytes
        report.reason = f"{fs.path / torn.file} at byte {torn.offset}: {torn.reason}"
    return report


def _look(fs: FileSystem, *, live: bool) -> Iterator[FileReport]:
    try:
        manifest = manifests.load(fs)
    except (JournalError, OSError):
        return
    sequence = 1
    for entry in manifest.entries if manifest else ():
        look = _look_at(fs, entry, sequence, live=live)
        yield look
        sequence = entry.last + 1 if not entry.open else look.last + 1


def _look_at(fs: FileSystem, entry: Entry, sequence: int, *, live: bool) -> FileReport:
    report = FileReport(entry.name, "open" if entry.open else "closed")
    report.first, report.last = sequence, sequence - 1
    try:
        file = fs.open(entry.name)
    except OSError as error:
        report.state, report.problem = "unreadable", error.strerror or str(error)
        return report
    try:
        report.bytes = file.size()
        reader = SegmentReader(file, entry.id, 1 if entry.is_base else sequence)
        for _ in reader:
            pass
        broken = reader.broken
        if not entry.open:
            problem = reader.problem_of_closed(entry, report.bytes)
            if problem is not None:
                report.state = "damaged"
                report.problem = f"byte {problem[0]}: {problem[1]}"
        elif broken is not None and not live:
            report.state = "torn" if broken.torn else "damaged"
            report.problem = f"byte {broken.offset}: {broken.reason}"
        report.records = reader.records
        report.last = entry.last if entry.is_base else reader.sequence - 1
    finally:
        file.close()
    return report
