"""A crash before and after every operation on the disk: nothing that was promised is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kvserver.journal import manifest as manifests
from tests.faults.disk import MemoryDisk, after
from tests.faults.story import Broken, Mistakes, check, live, promised


@pytest.fixture(autouse=True)
def numbered_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ids in every run."""
    counter = iter(range(1, 10_000_000))
    monkeypatch.setattr(
        manifests, "new_name", lambda kind, n: f"{kind}-{n:08d}-{next(counter):016x}.kvj"
    )


def crash_points(disk: MemoryDisk) -> Iterator[tuple[int, MemoryDisk, dict[str, int]]]:
    """The disk after each operation; the marks change nothing on it."""
    for n in range(len(disk.trace) + 1):
        if n == len(disk.trace) or disk.trace[n].kind != "mark":
            yield n, after(disk.trace, n, disk.start_files), promised(disk.trace[:n])


@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
def test_a_kill_at_any_operation_loses_nothing_that_was_acknowledged(policy: str) -> None:
    disk = MemoryDisk()
    live(disk, policy=policy)
    points = 0
    for n, crashed, marks in crash_points(disk):
        check(crashed.killed(), marks["written"], marks["started"], f"killed after {n}")
        points += 1
    assert points > 200


def cut_power_everywhere(disk: MemoryDisk, every: int = 1) -> int:
    found = 0
    for n, crashed, marks in crash_points(disk):
        if n % every:
            continue
        for state in crashed.power_cuts():
            check(state, marks["durable"], marks["started"], f"power cut after {n}")
            found += 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_power_cut_at_any_operation_leaves_a_prefix_with_all_that_was_synced(
    policy: str, deep: bool
) -> None:
    disk = MemoryDisk()
    live(disk, policy=policy)
    assert cut_power_everywhere(disk, 1 if deep or policy == "always" else 2) >= 2000


def lie(kind: str, part: str = "") -> Callable[[MemoryDisk], None]:
    def prepare(disk: MemoryDisk) -> None:
        disk.lies = lambda k, name: k == kind and part in name

    return prepare


def skip_directory_sync_after(kind: str, part: str) -> Callable[[MemoryDisk], None]:
    """Leave out the sync of the directory at one place in the code."""

    def prepare(disk: MemoryDisk) -> None:
        def lies(this: str, _: str) -> bool:
            changes = [op for op in disk.trace if op.kind not in {"mark", "sync", "write"}]
            last = changes[-1] if changes else None
            return (
                this == "sync_directory"
                and last is not None
                and last.kind == kind
                and (part in last.name or part in last.other)
            )

        disk.lies = lies

    return prepare


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "mistakes"),
    [
        (lie("sync", "segment-"), Mistakes()),
        (lie("sync", "base-"), Mistakes()),
        (lie("sync", "MANIFEST"), Mistakes()),
        (lie("sync_directory"), Mistakes()),
        (skip_directory_sync_after("create", "segment-"), Mistakes()),
        (skip_directory_sync_after("rename", "base-"), Mistakes()),
        (skip_directory_sync_after("rename", "MANIFEST"), Mistakes()),
        (lambda disk: None, Mistakes(early_durable=True)),
        (lambda disk: None, Mistakes(unlink_first=True)),
    ],
    ids=[
        "segments are not synced",
        "the base is not synced",
        "the manifest is not synced",
        "the directory is not synced",
        "the directory is not synced after a new segment",
        "the directory is not synced after a new base",
        "the directory is not synced after a new manifest",
        "replies leave before the sync",
        "old files are removed before the manifest changes",
    ],
)
def test_the_enumeration_notices_a_mistake(
    prepare: Callable[[MemoryDisk], None], mistakes: Mistakes
) -> None:
    disk = MemoryDisk()
    prepare(disk)
    live(disk, mistakes=mistakes)
    with pytest.raises(Broken):
        cut_power_everywhere(disk)


@pytest.mark.slow
def test_a_crash_during_recovery_leaves_what_the_first_crash_left(deep: bool) -> None:
    disk = MemoryDisk()
    live(disk, policy="everysec")
    tried = 0
    for n, crashed, marks in crash_points(disk):
        if not deep and n % 7:
            continue
        for state in list(crashed.power_cuts())[:: 1 if deep else 5]:
            check(second := MemoryDisk(state.start_files), 0, marks["started"], "first")
            for m in range(0, len(second.trace), 1 if deep else 3):
                twice = after(second.trace, m, second.start_files)
                check_either(twice.killed(), marks, f"{n}, then {m}")
                tried += 1
    assert tried > 200


def check_either(disk: MemoryDisk, marks: dict[str, int], where: str) -> None:
    """The second life may have begun to write, so its one key may be there."""
    from tests.faults.story import STATES, restart

    _, state, _ = restart(disk)
    state.pop(repr(["set", b"next life"]), None)
    assert state in STATES[marks["durable"] : marks["started"] + 1], where
