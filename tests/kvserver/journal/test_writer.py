"""The writing side: records, rotation, and an honest word about what is durable."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
import trio.testing

from kvserver.errors import JournalError, JournalFailedError
from kvserver.journal.fs import RealFileSystem
from kvserver.journal.recovery import recover
from kvserver.journal.service import HOLD_AFTER_S, SYNC_AFTER_S, JournalService
from kvserver.journal.writer import Journal
from tests.faults.disk import MemoryDisk


def opened(fs: Any, **options: Any) -> tuple[Journal, list[Any]]:
    seen: list[Any] = []
    journal, _ = recover(fs, seen.extend, **options)
    return journal, seen


def test_what_was_appended_comes_back_in_order_after_every_restart(tmp_path: Path) -> None:
    written: list[Any] = []
    for life in range(4):
        journal, seen = opened(RealFileSystem(tmp_path), segment_bytes=300)
        assert seen == written
        for n in range(20):
            effect = ["set", b"%d:%d" % (life, n), bytes(n)]
            journal.append([effect, ["del", b"x"]])
            written += [effect, ["del", b"x"]]
            journal.maintain()
        journal.close()
    assert len(list(tmp_path.glob("segment-*"))) > 5


def test_text_that_is_no_utf8_survives(tmp_path: Path) -> None:
    journal, _ = opened(RealFileSystem(tmp_path))
    odd = b"\xffpath".decode("utf-8", "surrogateescape")
    journal.append([["src", 1, [], {}, {"path": odd}]])
    journal.close()
    assert opened(RealFileSystem(tmp_path))[1] == [["src", 1, [], {}, {"path": odd}]]


def test_nothing_is_written_for_a_turn_without_effects() -> None:
    journal, _ = opened(MemoryDisk())
    journal.append([])
    assert (journal.active_bytes, journal.next_sequence) == (0, 1)


def test_a_turn_with_more_effects_than_a_record_may_hold_becomes_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kvserver.journal.writer.MAX_EFFECTS", 10)
    disk = MemoryDisk()
    journal, _ = opened(disk)
    effects = [["del", b"%d" % n] for n in range(25)]
    journal.append(effects)
    assert journal.next_sequence == 4
    journal.close()
    assert opened(disk)[1] == effects


def test_a_large_record_leaves_no_large_buffer_behind(tmp_path: Path) -> None:
    journal, _ = opened(RealFileSystem(tmp_path))
    value = bytes(32 << 20)
    tracemalloc.start()
    try:
        journal.append([["set", b"large", value]])
        assert tracemalloc.get_traced_memory()[0] < len(value) // 4
    finally:
        tracemalloc.stop()
        journal.close()


def test_effects_that_are_packed_come_before_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    effects = [["del", b"%d" % n] for n in range(25)]
    packed = list(map(msgpack.packb, effects[:11]))
    journal.append(effects[11:], packed)
    journal.append((), packed)
    assert journal.next_sequence == 3
    monkeypatch.setattr("kvserver.journal.writer.MAX_EFFECTS", 4)
    journal.append(effects[11:], packed)
    assert journal.next_sequence == 10
    journal.close()
    assert opened(disk)[1] == [*effects, *effects[:11], *effects]


def test_a_turn_with_more_bytes_than_a_record_may_hold_becomes_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kvserver.journal.writer.MAX_BODY_BYTES", 100)
    disk = MemoryDisk()
    journal, _ = opened(disk)
    effects = [["set", b"%d" % n, b"x" * 40] for n in range(7)]
    journal.append(effects)
    assert journal.next_sequence > 3
    journal.close()
    assert opened(disk)[1] == effects


def test_the_age_of_what_is_not_synced_is_that_of_the_oldest_record() -> None:
    now = [100.0]
    journal, _ = opened(MemoryDisk(), now_s=lambda: now[0])
    service = JournalService(journal)
    assert journal.oldest_unsynced_s == 0.0
    journal.append([["del", b"a"]])
    now[0] += SYNC_AFTER_S
    assert service.sync_due
    journal.append([["del", b"b"]])
    assert (journal.oldest_unsynced_s, service.must_commit) == (SYNC_AFTER_S, False)
    now[0] += HOLD_AFTER_S
    assert service.must_commit
    journal.sync()
    assert (journal.oldest_unsynced_s, service.must_commit) == (0.0, False)
    assert journal.unsynced_bytes == 0


@pytest.mark.parametrize("policy", ["always", "no"])
def test_only_everysec_goes_by_age(policy: str) -> None:
    now = [0.0]
    journal, _ = opened(MemoryDisk(), now_s=lambda: now[0])
    service = JournalService(journal, policy)
    journal.append([["del", b"a"]])
    now[0] += 100
    assert service.must_commit == (policy == "always")
    due = [service.sync_due]
    journal.sync_wanted = True
    due.append(service.sync_due)
    journal.sync()
    due.append(service.sync_due)
    assert due == [False, True, False]


def test_an_unknown_policy_is_refused() -> None:
    journal, _ = opened(MemoryDisk())
    with pytest.raises(ValueError, match="fsync policy"):
        JournalService(journal, "sometimes")


def test_an_unknown_option_is_refused_and_the_lock_given_back() -> None:
    disk = MemoryDisk()
    with pytest.raises(TypeError, match="unknown"):
        opened(disk, unknown=1)
    assert not disk.locked


@pytest.mark.trio
async def test_under_always_commit_returns_only_after_the_sync() -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    service = JournalService(journal, "always")
    journal.append([["del", b"a"]])
    assert service.must_commit
    await service.commit()
    assert [op.kind for op in disk.trace][-2:] == ["write", "sync"]
    assert journal.unsynced_bytes == 0


@pytest.mark.trio
async def test_everysec_syncs_within_its_window_whatever_is_written(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(work: Callable[[], None]) -> None:
        work()

    # a thread takes real time, of which a clock that jumps knows nothing
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    disk = MemoryDisk()
    journal, _ = opened(disk, now_s=autojump_clock.current_time)
    service = JournalService(journal)
    oldest = 0.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        for n in range(500):
            journal.append([["set", b"k", b"%d" % n]])
            oldest = max(oldest, journal.oldest_unsynced_s)
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert 5 <= journal.syncs <= 12
    assert oldest <= 1.0
    assert not service.must_commit


@pytest.mark.trio
async def test_everysec_on_a_slow_device_holds_replies_until_it_has_caught_up() -> None:
    now = [0.0]
    journal, _ = opened(MemoryDisk(), now_s=lambda: now[0])
    service = JournalService(journal)
    journal.append([["del", b"a"]])
    now[0] = 2.5
    assert service.must_commit
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        with trio.fail_after(5):
            await service.commit()
        nursery.cancel_scope.cancel()
    assert service.held == 1
    assert journal.unsynced_bytes == 0


@pytest.mark.trio
async def test_a_failed_sync_ends_the_service_and_every_commit() -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    service = JournalService(journal, "always")
    journal.append([["del", b"a"]])
    disk.plan = lambda _n, kind, _name: OSError(5, "Input/output error") if kind == "sync" else None
    with pytest.raises(JournalFailedError):
        await service.commit()
    with pytest.raises(JournalFailedError, match="Input/output error"):
        await service.run()


@pytest.mark.trio
async def test_the_service_heals_a_full_disk_and_rotates_when_asked() -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    service = JournalService(journal)
    journal.append([["set", b"a", b"1"]])
    disk.space = 5
    with pytest.raises(Exception, match="Errors writing"):
        journal.append([["set", b"b", b"2"]])
    assert service.statistics()["journal_pending_records"] == 1
    disk.space = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        with trio.fail_after(5):
            while journal.readonly_reason is not None:  # noqa: ASYNC110 - it knows no events
                await trio.sleep(0.01)
            await service.rotate()
        nursery.cancel_scope.cancel()
    assert [entry.open for entry in journal.manifest.entries] == [False, True]
    journal.close()
    assert opened(disk.killed())[1] == [["set", b"a", b"1"], ["set", b"b", b"2"]]


def test_whatever_comes_after_the_close_changes_nothing(tmp_path: Path) -> None:
    journal, _ = opened(RealFileSystem(tmp_path), segment_bytes=100)
    for n in range(10):
        journal.append([["set", b"%d" % n, b"x" * 30]])
        journal.maintain()
    base = journal.manifest.closed[0]
    journal.want_rotation()
    journal.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    journal.append([["del", b"1"]])
    journal.sync()
    journal.maintain()
    journal.rotate_if_needed()
    journal.retry()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.listing.replace_by_base(base)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert journal.failed is None


def test_closing_while_others_sync_and_maintain_is_no_failure(tmp_path: Path) -> None:
    for _ in range(20):
        journal, _ = opened(RealFileSystem(tmp_path), segment_bytes=100)
        threads = [
            threading.Thread(target=work)
            for work in (journal.maintain, journal.sync, journal.close, journal.maintain)
        ]
        for n in range(5):
            journal.append([["set", b"%d" % n, b"x" * 60]])
            journal.maintain()
        for thread in threads:
            thread.start()
        for n in range(5):
            journal.append([["set", b"%d" % n, b"x" * 60]])
        for thread in threads:
            thread.join()
        assert journal.failed is None
