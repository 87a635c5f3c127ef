"""A disk that is full or fails: the truth is told, nothing acknowledged is lost, what can heal
heals."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from kvserver.errors import JournalError, JournalFailedError, JournalFullError
from kvserver.journal.compaction import compact
from kvserver.journal.manifest import Entry
from kvserver.journal.recovery import recover
from kvserver.journal.writer import Journal
from tests.faults.disk import MemoryDisk
from tests.faults.story import STATES, TURNS, Mistakes, compact_now, live, restart, rotate


def test_a_full_disk_refuses_then_heals_without_loss_at_every_size_of_the_last_record() -> None:
    probe = MemoryDisk()
    journal, _, _ = restart(probe)
    sizes = [0]
    for turn in TURNS[:4]:
        journal.append(turn)
        sizes.append(journal.active_bytes)
    for space in range(sizes[3], sizes[4]):
        disk = MemoryDisk()
        journal, _, _ = restart(disk)
        disk.space = space
        for turn in TURNS[:3]:
            journal.append(turn)
        with pytest.raises(JournalFullError):
            journal.append(TURNS[3])
        assert journal.active_bytes == sizes[3]
        assert "No space left" in str(journal.readonly_reason)
        _, state, report = restart(disk.killed())
        assert (state, report.torn) == (STATES[3], [])
        with pytest.raises(JournalFullError):
            journal.append(TURNS[4])
        disk.space = 0
        assert not journal.retry()
        assert "No space left" in str(journal.readonly_reason)
        disk.space = None
        assert journal.retry()
        assert journal.readonly_reason is None
        journal.append(TURNS[5])
        journal.close()
        assert restart(disk.killed())[1] == STATES[6]


def test_a_short_write_that_cannot_be_cut_back_is_a_failed_device() -> None:
    disk = MemoryDisk()
    journal, _, _ = restart(disk)
    journal.append(TURNS[0])
    disk.space = 10
    disk.plan = fail("truncate", errno.EIO)
    with pytest.raises(JournalFailedError, match="cutting"):
        journal.append(TURNS[1])
    disk.plan, disk.space = None, None
    _, state, report = restart(disk.killed())
    assert state == STATES[1]
    assert report.torn_bytes == 10


def fail(kind: str, code: int, *, first: int = 1, last: int = 1_000_000) -> Any:
    """Fail the calls of one kind from the first to the last of them."""
    seen = iter(range(1, 1_000_000))

    def plan(_number: int, this: str, _name: str) -> OSError | None:
        if this != kind:
            return None
        return OSError(code, "planned") if first <= next(seen) <= last else None

    return plan


def test_a_failed_fsync_is_never_tried_again() -> None:
    disk = MemoryDisk()
    journal, _, _ = restart(disk)
    journal.append(TURNS[0])
    disk.plan = fail("sync", errno.EIO, last=1)  # the second would succeed, and prove nothing
    with pytest.raises(JournalFailedError, match="fsync failed"):
        journal.sync()
    syncs = sum(operation.kind == "sync" for operation in disk.trace)
    for call in (journal.sync, journal.close, lambda: journal.append(TURNS[1])):
        with pytest.raises(JournalFailedError):
            call()
    assert sum(operation.kind == "sync" for operation in disk.trace) == syncs
    assert journal.readonly_reason is not None
    assert journal.unsynced_bytes > 0


def test_a_write_error_that_is_not_about_space_is_a_failed_device() -> None:
    disk = MemoryDisk()
    journal, _, _ = restart(disk)
    disk.plan = fail("write", errno.EIO)
    with pytest.raises(JournalFailedError):
        journal.append(TURNS[0])
    assert journal.failed


def test_a_rename_that_was_done_and_says_that_it_failed_is_a_failed_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = MemoryDisk()
    journal, _, _ = restart(disk)
    journal.append(TURNS[0])
    rename = disk.rename

    def done_all_the_same(old: str, new: str) -> None:
        rename(old, new)
        raise OSError(errno.EIO, "planned")

    monkeypatch.setattr(disk, "rename", done_all_the_same)
    journal.want_rotation()
    with pytest.raises(JournalFailedError, match="renaming the manifest failed"):
        journal.maintain()
    assert restart(disk.killed())[1] == STATES[1]


def journal_and_base(disk: MemoryDisk) -> tuple[Journal, Entry]:
    """Ten turns in a journal, and a base that is about to take their place."""
    journal, _, _ = restart(disk)
    for turn in TURNS[:10]:
        journal.append(turn)
    assert rotate(journal)
    base = compact(
        disk, journal.manifest.closed, journal.listing.new_base_name(), budget_bytes=1000
    )
    return journal, base


def test_after_a_failed_device_nothing_more_is_put_into_the_manifest() -> None:
    disk = MemoryDisk()
    journal, base = journal_and_base(disk)
    disk.plan = fail("write", errno.EIO, last=1)
    with pytest.raises(JournalFailedError):
        journal.append(TURNS[10])
    listed = journal.manifest
    with pytest.raises(JournalFailedError, match="planned"):
        journal.listing.replace_by_base(base)
    assert journal.manifest == listed
    assert restart(disk.killed())[1] == STATES[10]


def test_a_device_that_fails_while_the_manifest_is_written_leaves_the_old_one() -> None:
    disk = MemoryDisk()
    journal, base = journal_and_base(disk)

    def fail_beside(_number: int, kind: str, name: str) -> OSError | None:
        if kind == "sync" and name == "MANIFEST.json.tmp":
            journal.failed = "planned"
        return None

    disk.plan = fail_beside
    listed = journal.manifest
    with pytest.raises(JournalFailedError, match="planned"):
        journal.listing.replace_by_base(base)
    assert journal.manifest == listed


def outcome(disk: MemoryDisk) -> str:
    try:
        live(disk)
    except JournalFailedError:
        return "failed"
    except JournalFullError:
        return "full"
    except (JournalError, OSError):
        return "error"
    return "clean"


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_an_error_at_the_nth_call_ends_in_an_error_and_never_in_a_loss(
    code: int, persistent: bool, deep: bool
) -> None:
    counting = MemoryDisk()
    live(counting)
    seen = set()
    for n in range(1, counting.calls + 1, 1 if deep else 3):
        disk = MemoryDisk()

        def plan(number: int, _kind: str, _name: str, n: int = n) -> OSError | None:
            hit = number >= n if persistent else number == n
            return OSError(code, "planned") if hit else None

        disk.plan = plan
        seen.add(outcome(disk))
        marks = {"started": 0, "written": 0, "durable": 0}
        for operation in disk.trace:
            if operation.kind == "mark":
                marks[operation.name] = operation.size
        again = disk.killed()
        _, state, _ = restart(again)
        allowed = STATES[marks["written"] : marks["started"] + 1]
        assert state in allowed, f"call {n}: {marks}"
    assert seen - {"clean"}


def test_a_full_disk_during_compaction_leaves_the_old_files_and_no_stray() -> None:
    probe = MemoryDisk()
    journal, _, _ = restart(probe)
    for turn in TURNS[:10]:
        journal.append(turn)
    compact_now(probe, journal, Mistakes())
    needed = journal.manifest.entries[0].size
    for space in range(0, needed, 7):
        disk = MemoryDisk()
        journal, _, _ = restart(disk)
        for turn in TURNS[:10]:
            journal.append(turn)
        assert rotate(journal)
        before = disk.names()
        disk.space = space
        with pytest.raises(OSError, match="No space"):
            compact(
                disk, journal.manifest.closed, journal.listing.new_base_name(), budget_bytes=1000
            )
        disk.space = None
        assert disk.names() == before
        assert restart(disk.killed())[1] == STATES[10]


def test_no_space_for_a_next_segment_lets_the_present_one_grow() -> None:
    disk = MemoryDisk()
    journal, _, _ = restart(disk)
    for n, turn in enumerate(TURNS[:20], 1):
        journal.append(turn)
        if n == 5:
            disk.plan = fail("create", errno.ENOSPC)
        journal.maintain()
    assert journal.maintenance_failures > 0
    assert journal.readonly_reason is None
    disk.plan = None
    journal.maintain()
    journal.append(TURNS[20])
    journal.close()
    assert len(journal.manifest.entries) > 1
    assert restart(disk.killed())[1] == STATES[21]


def test_a_disk_that_cannot_be_read_at_the_start_is_refused_in_one_line() -> None:
    disk = MemoryDisk()
    live(disk)
    for n in range(1, 6):
        broken = disk.killed()
        broken.plan = lambda number, _k, _n, n=n: (
            OSError(errno.EIO, "Input/output error") if number == n else None
        )
        with pytest.raises(JournalError, match="Input/output error"):
            recover(broken, lambda _effects: None)
        assert not broken.locked
