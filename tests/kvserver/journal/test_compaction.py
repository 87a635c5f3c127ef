"""Compaction changes nothing that a reader can see, whatever the history and however small its
memory."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from kvserver.errors import (
    CommandError,
    DamageError,
    JournalError,
    JournalFailedError,
    RecordError,
)
from kvserver.journal import compaction
from kvserver.journal.compaction import compact, next_parts
from kvserver.journal.compactor import task_line
from kvserver.journal.fs import RealFileSystem
from kvserver.journal.manager import CompactionManager
from kvserver.journal.partition import PARTS, PartMemory, buckets_for, distribute
from kvserver.journal.recovery import recover
from kvserver.journal.service import JournalService
from kvserver.keyspace import Keyspace
from parser.summary import Summary, pack
from tests.faults.disk import MemoryDisk, MemoryFile
from tests.faults.story import rotate, state_of

KEYS = [b"a", b"b", b"block_1", b"block_2", b"\xff\x00"]
SUMMARIES = [b"sum_1", b"sum_2", b"sum_3"]


def delta(count: int) -> bytes:
    return pack(Summary(count, (count, 1, 0), (count, 1, 9), {"INFO": count}, {7: count}, {}, {}))


def ingest(source: int, start: int, keys: list[bytes]) -> list[Any]:
    pattern = [b"got <*>", 2, [start, source, 0], [start, source, 5], b"got 7"]
    header = {"source": source, "ranges": [[start, start + 10]], "books": {"lines": 2}}
    flat = [piece for key in keys for piece in (key, delta(start + 1))]
    return ["ing", msgpack.packb({**header, "patterns": {99: pattern}}), msgpack.packb(flat)]


keys = st.sampled_from(KEYS)
deadlines = st.none() | st.integers(1, 10_000)
effects = st.one_of(
    st.builds(lambda k, v: ["set", k, v], keys, st.binary(max_size=30)),
    st.builds(lambda k, v, d: ["set", k, v, d], keys, st.binary(max_size=30), deadlines),
    st.builds(lambda k: ["del", k], st.sampled_from(KEYS + SUMMARIES)),
    st.builds(lambda k, d: ["exp", k, d], st.sampled_from(KEYS + SUMMARIES), deadlines),
    st.builds(lambda k, n: ["mrg", k, delta(n)], st.sampled_from(SUMMARIES), st.integers(1, 9)),
    st.builds(
        lambda s, at, ks: ingest(s, at * 10, ks),
        st.integers(1, 2),
        st.integers(0, 5),
        st.lists(st.sampled_from(SUMMARIES), unique=True),
    ),
    st.builds(
        lambda ks, v: ["mst", ks, [v + k for k in ks]],
        st.lists(keys, max_size=4),
        st.binary(max_size=9),
    ),
    st.builds(
        lambda ks, v: [
            "tab",
            b"".join(b"<" + k + b"=" + v + b">;" for k in ks),
            [1, 1, 1, len(v), 2],
        ],
        st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=4),
        st.binary(max_size=9),
    ),
    st.builds(lambda k, n, v: ["ovr", k, n, v], keys, st.integers(0, 9), st.binary(max_size=9)),
    st.builds(lambda k, v: ["app", k, v], keys, st.binary(max_size=9)),
    st.just(["clr"]),
)
histories = st.lists(st.lists(effects, min_size=1, max_size=4), min_size=1, max_size=25)


def recovered(disk: MemoryDisk) -> Any:
    keyspace = Keyspace(lambda: 0)
    journal, _ = recover(disk, keyspace.apply_many)
    journal.close()
    return state_of(keyspace)


@given(histories, st.integers(0, 24), st.sampled_from([1000, 10_000, 1 << 20]))
def test_a_compacted_journal_recovers_to_the_same_state(
    history: list[list[Any]], at: int, budget_bytes: int
) -> None:
    direct = Keyspace(lambda: 0)
    disk = MemoryDisk()
    journal, _ = recover(disk, lambda _e: None)
    for n, turn in enumerate(history):
        direct.apply_many(turn)
        journal.append(turn)
        if n in {at, at + 7}:  # the second has a base to begin with
            assert rotate(journal)
            entries = journal.manifest.closed
            name = journal.listing.new_base_name()
            for old in journal.listing.replace_by_base(
                compact(disk, entries, name, budget_bytes=budget_bytes)
            ):
                disk.unlink(old)
    journal.close()
    assert recovered(disk.killed()) == state_of(direct)


def passes(part_bytes: list[int], budget_bytes: int) -> list[range]:
    """The passes over all parts when before each this is what a part seems to take."""
    seems = iter(part_bytes)
    done, all_passes = 0, []
    while done < PARTS:
        part = next(seems, part_bytes[-1])
        all_passes.append(next_parts(done, part, budget_bytes))
        done = all_passes[-1].stop
    return all_passes


@given(st.lists(st.integers(0, 1 << 40), min_size=1), st.integers(1, 1 << 40))
def test_every_part_is_in_exactly_one_pass(part_bytes: list[int], budget_bytes: int) -> None:
    parts = [part for group in passes(part_bytes, budget_bytes) for part in group]
    assert parts == list(range(PARTS))


def test_small_data_takes_one_pass_and_large_ones_ten() -> None:
    assert passes([1000], 1 << 20) == [range(PARTS)]
    assert len(passes([1 << 30], 1 << 20)) == 10


def test_after_a_part_that_was_overwritten_the_next_pass_takes_more() -> None:
    assert [len(parts) for parts in passes([10_000, 2500, 625], 65_000)] == [7, 20, 38]


class ReadsCounted(MemoryDisk):
    """Counts how often a segment is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def open(self, name: str, *, write: bool = False) -> MemoryFile:
        self.opened.append(name)
        return super().open(name, write=write)


def test_a_journal_of_one_key_is_read_a_few_times_however_long_it_is() -> None:
    disk = ReadsCounted()
    journal, _ = recover(disk, lambda _e: None)
    for n in range(2000):
        journal.append([["set", b"key", b"%0500d" % n]])
    assert rotate(journal)
    disk.opened.clear()
    compact(disk, journal.manifest.closed, journal.listing.new_base_name(), budget_bytes=10_000)
    assert len(disk.opened) == 4
    journal.close()


def test_an_effect_that_is_not_known_is_an_error_and_never_dropped() -> None:
    with pytest.raises(RecordError, match="unknown effect"):
        distribute([["xyz", b"a"]], buckets_for(range(PARTS)))
    memory = PartMemory()
    memory.rewind(range(PARTS))
    with pytest.raises(RecordError, match="unknown effect"):
        list(memory.wanted([["xyz", b"a"]]))
    with pytest.raises(RecordError, match="key is none"):
        list(memory.wanted([["set", 7, b"a"]]))
    disk = MemoryDisk()
    journal, _ = recover(disk, lambda _e: None)
    journal.append([["xyz", b"a"]])
    assert rotate(journal)
    with pytest.raises(DamageError, match=r"record 1.*unknown effect"):
        compact(disk, journal.manifest.closed, journal.listing.new_base_name())
    assert [n for n in disk.names() if n.startswith("base")] == []


def test_a_damaged_base_is_not_compacted_into_a_sound_one() -> None:
    disk = MemoryDisk()
    journal, _ = recover(disk, lambda _e: None)
    for n in range(50):
        journal.append([["set", b"%d" % n, b"x" * 50]])
    assert rotate(journal)
    journal.listing.replace_by_base(
        compact(disk, journal.manifest.closed, journal.listing.new_base_name())
    )
    base = journal.manifest.entries[0]
    inode = disk.inodes[disk.entries[base.name]]
    for at in range(0, base.size, 11):
        inode.data[at] ^= 1
        with pytest.raises(JournalError):
            compact(disk, [base], journal.listing.new_base_name(), budget_bytes=1000)
        inode.data[at] ^= 1
    compact(disk, [base], journal.listing.new_base_name(), budget_bytes=1000)


COMPACTING = "from kvserver.journal.compactor import main; main()"
LOADING = """
import sys
from pathlib import Path
from kvserver.journal.fs import File, RealFileSystem
from kvserver.journal.recovery import recover
from kvserver.keyspace import Keyspace
keyspace = Keyspace()
recover(RealFileSystem(Path(sys.stdin.readline().strip())), keyspace.apply_many)
print(len(keyspace))
"""
# The process's own peak: what getrusage says includes what the parent held at the fork.
PEAK = """
import re
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def peak_mb(program: str, line: str) -> float:
    """Run a program with one line on its stdin; return the most memory that it had."""
    with subprocess.Popen(
        [sys.executable, "-c", program + PEAK],
        stdin=subprocess.PIPE,  # kept open: the child ends with its parent
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line)
        child.stdin.flush()
        child.stdout.readline()
        return int(child.stdout.readline()) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_the_child_needs_a_tenth_of_the_data_and_a_constant(tmp_path: Path, deep: bool) -> None:
    keys, budget_bytes = 1_000_000 if deep else 150_000, 8 << 20
    empty, full = tmp_path / "empty", tmp_path / "full"
    lines = {}
    for directory, count in ((empty, 1), (full, keys)):
        directory.mkdir()
        journal, _ = recover(RealFileSystem(directory), lambda _e: None)
        for first in range(0, count, 500):
            last = min(first + 500, count)
            journal.append([["set", b"key:%012d" % n, b"v" * 400] for n in range(first, last)])
        assert rotate(journal)
        line = task_line(
            directory, journal.manifest.closed, journal.listing.new_base_name(), budget_bytes, 100
        )
        lines[directory] = line.decode()
        journal.close()
    data_mb = peak_mb(LOADING, f"{full}\n") - peak_mb(LOADING, f"{empty}\n")
    assert data_mb > keys * 400 / (1 << 20)
    extra_mb = peak_mb(COMPACTING, lines[full]) - peak_mb(COMPACTING, lines[empty])
    assert extra_mb <= data_mb / 10 + budget_bytes / (1 << 20)


# ----------------------------------------------------------------------------------- the manager


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def managed(tmp_path: Path, **options: Any) -> tuple[CompactionManager, Clock]:
    journal, _ = recover(RealFileSystem(tmp_path), lambda _e: None)
    clock = Clock()
    return CompactionManager(JournalService(journal), now_s=clock, **options), clock


def test_compaction_is_due_by_ratio_and_not_below_a_minimum(tmp_path: Path) -> None:
    manager, _ = managed(tmp_path, min_bytes=1000, ratio=2.0)
    assert not manager.due()
    while manager.debt_bytes < 1000:
        assert not manager.due()
        manager.journal.append([["set", b"a", b"x" * 100]])
    assert manager.due()
    manager.journal.close()


def test_a_journal_of_which_most_is_live_is_not_compacted(tmp_path: Path) -> None:
    live_bytes = 3000
    manager, _ = managed(tmp_path, min_bytes=1000, ratio=1.0, live_bytes=lambda: live_bytes)
    while manager.journal.total_bytes < 6000:
        assert not manager.due()
        manager.journal.append([["set", b"a", b"x" * 100]])
    assert manager.due()
    assert manager.statistics()["compaction_live_bytes"] == 3000
    live_bytes = 4000
    assert not manager.due()
    manager.journal.close()


@pytest.mark.trio
async def test_failures_back_off_twice_as_long_each_time_and_a_success_forgets_them(
    tmp_path: Path,
) -> None:
    manager, clock = managed(
        tmp_path, min_bytes=1, first_backoff_s=60.0, command=["sh", "-c", "echo no >&2; exit 3"]
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager._service.run)
        for backoff_s in (60, 120, 240):
            manager.journal.append([["set", b"a", b"b"]])
            assert manager.due()
            assert not await manager.compact_once()
            assert manager.last_error == "compaction child: no"
            clock.now_s += backoff_s - 1
            assert not manager.due()
            clock.now_s += 1
        assert manager.statistics()["compaction_failures"] == 3
        manager._command = (sys.executable, "-m", "kvserver.journal.compactor")
        assert await manager.compact_once()
        nursery.cancel_scope.cancel()
    assert manager.statistics()["compaction_failures"] == 0
    assert manager.last_error == ""
    assert not manager.due()
    assert [entry.is_base for entry in manager.journal.manifest.entries] == [True, False]
    manager.journal.close()


@pytest.mark.trio
@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"name": "../x"}', "nonsense"])
async def test_an_answer_of_the_child_is_not_believed_blindly(tmp_path: Path, answer: str) -> None:
    manager, _ = managed(tmp_path, command=["sh", "-c", f"echo '{answer}'"])
    manager.journal.append([["set", b"a", b"b"]])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager._service.run)
        assert not await manager.compact_once()
        nursery.cancel_scope.cancel()
    assert "compaction child" in manager.last_error
    manager.journal.close()


@pytest.mark.trio
async def test_a_cancelled_compaction_leaves_no_child_and_no_file(tmp_path: Path) -> None:
    manager, _ = managed(tmp_path, command=["sleep", "60"])
    manager.journal.append([["set", b"a", b"b"]])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager._service.run)
        with trio.move_on_after(0.5):
            await manager.compact_once()
        assert not manager.running
        nursery.cancel_scope.cancel()
    assert [path.name for path in tmp_path.glob("base-*")] == []
    manager.journal.close()


@pytest.mark.trio
async def test_a_failed_device_removes_nothing_since_nobody_knows_which_list_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, _ = managed(tmp_path)
    manager.journal.append([["set", b"a", b"b"]])
    fs = manager.journal.fs
    rename = fs.rename

    def done_all_the_same(old: str, new: str) -> None:
        rename(old, new)
        raise OSError(errno.EIO, "planned")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager._service.run)
        await manager._service.rotate()
        nursery.cancel_scope.cancel()
    monkeypatch.setattr(fs, "rename", done_all_the_same)
    with pytest.raises(JournalFailedError, match="renaming the manifest failed"):
        await manager.compact_once()
    with pytest.raises(JournalFailedError):
        manager.journal.close()
    found: list[Any] = []
    journal, _ = recover(RealFileSystem(tmp_path), found.extend)
    assert found == [["set", b"a", b"b"]]
    journal.close()


def test_a_second_request_is_refused_while_one_runs(tmp_path: Path) -> None:
    manager, _ = managed(tmp_path)
    assert manager.start() == "Background append only file rewriting started"
    manager.running = True
    with pytest.raises(CommandError, match="already in progress"):
        manager.start()
    manager.journal.close()


def test_the_child_without_a_plan_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kvserver.journal.compactor"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (1, b"", b"")
    assert compaction.BUDGET_BYTES > 0
