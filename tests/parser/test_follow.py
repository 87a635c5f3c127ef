"""A follower counts what is written to logs, every line once, whatever is done to the files."""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from parser.discovery import SETTLED_S
from parser.fingerprint import SourceInfo
from parser.follow import Follower
from parser.followed import FINAL_S, HOLD_S
from parser.formats import format_named
from parser.recipe import Recipe
from parser.run import Reading, recipes, run
from parser.sink import Commit, MemorySink, Outcome, SinkGone
from parser.source import Input, Problem

pytestmark = pytest.mark.trio


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def line(n: int, block: int = 1) -> bytes:
    return b"081109 %06d 148 INFO dfs.DataNode: number %d of blk_%d\n" % (
        (n // 3600) * 10000 + (n // 60 % 60) * 100 + n % 60,
        n,
        block,
    )


def lines(first: int, last: int, block: int = 1) -> bytes:
    return b"".join(line(n, block) for n in range(first, last))


class Following:
    """A follower of patterns, its sink, its clock."""

    def __init__(self, *patterns: Path | str, sink: MemorySink | None = None) -> None:
        self.patterns = [str(pattern) for pattern in patterns]
        self.sink = sink or MemorySink()
        self.clock = Clock()
        self.restart()

    def restart(self) -> None:
        """Forget everything but what is in the sink, as a kill does."""

        def recipe_of(_: Input, __: bytes) -> Recipe:
            return Recipe(format_named("hdfs"), multiline=True)

        self.follower = Follower(self.patterns, self.sink, recipe_of, clock_s=self.clock)

    async def look(self, after_s: float = HOLD_S + 0.01) -> None:
        """Poll now and once more when things have settled for ``after_s``."""
        while await self.follower.poll():
            pass
        self.clock.now_s += after_s
        while await self.follower.poll():
            pass

    async def settle(self) -> None:
        """Let every deadline pass."""
        for _ in range(3):
            await self.look(max(SETTLED_S, FINAL_S) + 0.1)

    def count(self, block: int = 1) -> int:
        summary = self.sink.summaries().get(b"block_%d" % block)
        return summary.count if summary else 0


async def test_lines_are_counted_as_they_are_written(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    at = Following(log)
    await at.look()
    for n in range(5):
        with log.open("ab") as file:
            file.write(lines(n * 10, n * 10 + 10))
        await at.look()
        assert at.count() == n * 10 + 10
    at.follower.close()


async def test_a_line_written_in_two_halves_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    whole = line(1) + line(2)
    log.write_bytes(line(0))
    at = Following(log)
    await at.look()
    for n in range(len(whole)):
        with log.open("ab") as file:
            file.write(whole[n : n + 1])
        await at.look()
        assert at.count() == 1 + (n + 1 >= len(line(1))) + (n + 1 >= len(whole))
    assert at.follower.report.lines == 3
    assert not at.follower.report.unparsed
    at.follower.close()


async def test_a_line_that_was_counted_unfinished_is_not_counted_again_when_it_is_whole(
    tmp_path: Path,
) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(lines(0, 3) + line(3)[:-1])
    os.utime(log, (1, 1))  # it rests
    sink = MemorySink()
    before = await run([str(log)], sink, Reading(format="hdfs"), catch_signals=False)
    assert before.lines == 4
    with log.open("ab") as file:
        file.write(b"0\n" + lines(4, 6))  # of blk_10, it turns out
    at = Following(log, sink=sink)
    await at.settle()
    assert at.follower.report.lines == 2
    assert (at.count(1), at.count(10)) == (6, 0)
    (info,) = await sink.sources()
    assert info.ranges == [(0, log.stat().st_size)]
    assert info.books["lines"] == 6
    at.follower.close()


async def test_a_rotation_by_renaming_loses_nothing(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(lines(0, 100))
    at = Following(log)
    await at.look()
    with log.open("ab") as writer:
        log.rename(tmp_path / "app.log.1")
        writer.write(lines(100, 150))
        writer.flush()
        log.write_bytes(lines(150, 200))
        await at.look()
        assert at.count() == 200
        writer.write(lines(200, 210))  # a writer that has not noticed yet
        writer.flush()
        await at.look()
        assert at.count() == 210
        writer.write(line(210)[:-1])  # and that ends without a newline
    await at.settle()
    assert at.count() == 211
    at.follower.close()


async def test_a_rotated_file_that_is_deleted_is_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(lines(0, 10))
    at = Following(log)
    await at.look()
    with log.open("ab") as writer:
        writer.write(lines(10, 20))
        writer.flush()
        log.unlink()
        await at.look()
    assert at.count() == 20
    await at.settle()
    assert not at.follower._tails.files
    at.follower.close()


async def test_copytruncate_is_told_from_growth(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(lines(0, 100))
    at = Following(tmp_path)
    await at.look()
    with log.open("ab") as writer:
        writer.write(lines(100, 120))
        writer.flush()
        shutil.copy(log, tmp_path / "app.log.1")
        os.truncate(log, 0)
        writer.write(lines(200, 400))  # longer than it was before
    await at.look()
    assert at.count() == 120 + 200
    await at.settle()
    assert at.count() == 120 + 200
    at.follower.close()


@pytest.mark.parametrize("others", [0, 4], ids=["open", "closed meanwhile"])
async def test_a_truncated_log_that_is_as_long_as_before_is_looked_at_again(
    tmp_path: Path, others: int
) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(lines(1000, 1100))
    at = Following(tmp_path)
    at.follower._tails.max_open = 2
    await at.settle()
    for n in range(others):
        (tmp_path / f"other.{n}").write_bytes(lines(0, 10, block=2 + n))
    await at.settle()
    was = log.stat()
    assert (was.st_ino in {inode for _, inode in at.follower._tails.files}) is (not others)
    shutil.copy(log, tmp_path / "app.log.1")
    os.truncate(log, 0)
    with log.open("ab") as writer:
        writer.write(lines(2000, 2100))
    assert log.stat().st_size == was.st_size
    os.utime(log, ns=(was.st_atime_ns, was.st_mtime_ns + 1))  # on whatever clock
    await at.settle()
    assert at.count() == 200
    at.follower.close()


async def test_a_rotated_log_that_is_compressed_counts_once(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(lines(0, 100))
    at = Following(tmp_path)
    await at.look()
    log.rename(tmp_path / "app.log.1")
    log.write_bytes(lines(100, 130))
    await at.look()
    with gzip.open(tmp_path / "app.log.1.gz", "wb") as packed:
        packed.write((tmp_path / "app.log.1").read_bytes())
    (tmp_path / "app.log.1").unlink()
    await at.settle()
    assert at.count() == 130
    assert not at.follower.report.problems
    at.follower.close()


async def test_what_was_written_and_compressed_while_nobody_followed_is_counted(
    tmp_path: Path,
) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(lines(0, 100))
    at = Following(tmp_path)
    await at.look()
    at.follower.close()
    with gzip.open(tmp_path / "app.log.1.gz", "wb") as packed:
        packed.write(lines(0, 300))
    log.write_bytes(lines(300, 310))
    at.restart()
    await at.settle()
    assert at.count() == 310
    at.follower.close()


async def test_new_files_of_a_directory_are_found(tmp_path: Path) -> None:
    at = Following(tmp_path, tmp_path / "sub" / "*.log")
    await at.look()
    (tmp_path / "b.log").write_bytes(lines(0, 10, block=2))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.log").write_bytes(lines(0, 10, block=3))
    await at.look()
    assert (at.count(2), at.count(3)) == (10, 10)
    at.follower.close()


async def test_two_logs_that_begin_alike_are_two_sources_once_they_differ(tmp_path: Path) -> None:
    banner = b"".join(b"081109 203518 1 INFO x: starting blk_7 step %d\n" % n for n in range(30))
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_bytes(banner)
    two.write_bytes(banner)
    at = Following(tmp_path)
    await at.look()
    for path, block in ((one, 1), (two, 2)):
        with path.open("ab") as file:
            file.write(lines(0, 2000, block=block))
    await at.look()
    assert (at.count(1), at.count(2)) == (2000, 2000)
    assert at.count(7) == 60
    at.follower.close()


async def test_short_logs_that_begin_alike_grow_apart(tmp_path: Path) -> None:
    at = Following(tmp_path)
    for name in ("one.log", "two.log"):
        (tmp_path / name).write_bytes(b"081109 203518 1 INFO x: starting blk_7\n" * 3)
    await at.look()
    with (tmp_path / "two.log").open("ab") as file:
        file.write(line(5, block=2))
    await at.look()
    with (tmp_path / "one.log").open("ab") as file:
        file.write(line(6, block=1))
    await at.look()
    assert (at.count(1), at.count(2), at.count(7)) == (1, 1, 6)
    at.follower.close()


async def test_a_killed_follower_goes_on_where_the_store_is(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    at = Following(log)
    for n in range(10):
        with log.open("ab") as file:
            file.write(lines(n * 7, n * 7 + 7)[: -5 if n % 2 else None])
            if n % 2:
                file.write(line(n * 7 + 6)[-5:])
        await at.look(0.0)
        at.restart()
    await at.look()
    assert at.count() == 70
    assert at.follower.report.unparsed == 0
    at.follower.close()


async def test_the_lines_that_continue_an_event_join_it_even_when_they_come_late(
    tmp_path: Path,
) -> None:
    log = tmp_path / "app.log"
    at = Following(log)
    with log.open("wb") as file:
        file.write(line(0) + b"\tat one\n")
        file.flush()
        await at.look(0.0)
        assert at.count() == 0  # it waits for more
        file.write(b"\tat two\n" + line(1))
        file.flush()
        await at.look()
        assert at.count() == 2
        file.write(b"\tat three\n" + line(2))
        file.flush()
        await at.look()
    report = at.follower.report
    assert (report.lines, report.matched, report.unparsed, report.continued) == (6, 3, 0, 3)
    at.follower.close()


async def test_a_format_is_told_when_there_is_enough_to_tell_it(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"hello, this is no format\n")
    sink = MemorySink()
    clock = Clock()
    follower = Follower([str(log)], sink, recipes(Reading(), 0), clock_s=clock)
    await follower.poll()
    with log.open("ab") as file:
        file.write(lines(0, 50))
    while await follower.poll():
        pass
    clock.now_s += 1
    await follower.poll()
    assert sink.summaries()[b"block_1"].levels == {"INFO": 50}
    follower.close()


async def test_a_line_of_many_megabytes_is_one_unparsed_line(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(line(0) + b"x" * 7_000_000)
    at = Following(log)
    await at.look()
    assert at.count() == 1
    with log.open("ab") as file:
        file.write(b"x" * 100 + b"\n" + line(1))
    await at.look()
    report = at.follower.report
    assert (report.lines, report.matched, report.unparsed) == (3, 2, 1)
    at.follower.close()


class Forgetful(MemorySink):
    """A store that comes back from a power cut without the last things it took."""

    sent_again = 0

    @property
    def retries(self) -> int:
        return self.sent_again

    @retries.setter
    def retries(self, _: int) -> None:
        pass

    def forget(self) -> None:
        self.sent_again += 1
        self.deltas.clear()
        self._sources.clear()


async def test_a_store_that_lost_its_last_second_is_told_again(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(lines(0, 50))
    sink = Forgetful()
    at = Following(log, sink=sink)
    await at.look()
    assert at.count() == 50
    sink.forget()
    await at.look()
    await at.look()
    assert at.count() == 50
    with log.open("ab") as file:
        file.write(lines(50, 60))
    await at.look()
    assert at.count() == 60
    at.follower.close()


async def test_a_store_that_lost_what_a_compressed_file_brought_is_told_again(
    tmp_path: Path,
) -> None:
    with gzip.open(tmp_path / "app.log.1.gz", "wb") as packed:
        packed.write(lines(0, 50))
    sink = Forgetful()
    at = Following(tmp_path, sink=sink)
    await at.settle()
    assert at.count() == 50
    sink.forget()
    await at.settle()
    assert at.count() == 50
    at.follower.close()


class ForgetsTheFirst(Forgetful):
    """A store that loses power right after the first thing it took."""

    async def commit(self, commits: Sequence[Commit]) -> list[Outcome]:
        outcomes = await super().commit(commits)
        if not self.sent_again:
            self.forget()
        return outcomes


async def test_a_store_that_loses_power_while_a_compressed_file_is_read_is_told_again(
    tmp_path: Path,
) -> None:
    with gzip.open(tmp_path / "app.log.1.gz", "wb") as packed:
        packed.write(lines(0, 50))
    at = Following(tmp_path, sink=ForgetsTheFirst())
    await at.settle()
    assert at.count() == 50
    at.follower.close()


class Absent(MemorySink):
    """A store that is away for a while."""

    away = False

    async def sources(self) -> list[SourceInfo]:
        if self.away:
            raise SinkGone("the server is away")
        return await super().sources()


async def test_a_compressed_file_is_read_once_the_store_is_back(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "app.log.1.gz", "wb") as packed:
        packed.write(lines(0, 50))
    sink = Absent()
    at = Following(tmp_path, sink=sink)
    sink.away = True
    with pytest.raises(SinkGone):
        await at.settle()
    sink.away = False
    await at.settle()
    assert at.count() == 50
    at.follower.close()


async def test_a_follower_whose_store_is_gone_leaves_no_file_open(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}.log").write_bytes(lines(0, 5, block=n + 1))
    sink = Absent()
    sink.away = True
    at = Following(tmp_path, sink=sink)
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(SinkGone):
        await at.look()
    at.follower.close()
    assert len(list(Path("/dev/fd").iterdir())) == before


def unreadable(*_: object) -> NoReturn:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("step", ["parser.plan.look_at", "parser.work.file_blocks"])
async def test_a_compressed_file_that_cannot_be_read_for_a_while_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "app.log.1.gz"
    with gzip.open(path, "wb") as packed:
        packed.write(lines(0, 50))
    at = Following(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(step, unreadable)
        await at.settle()
    assert at.count() == 0
    assert at.follower.report.problems == [Problem(str(path), "input/output error")]
    await at.settle()
    assert at.count() == 50
    at.follower.close()


async def test_a_compressed_file_that_cannot_be_read_is_tried_ever_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gzip.open(tmp_path / "app.log.1.gz", "wb") as packed:
        packed.write(lines(0, 50))
    at = Following(tmp_path)
    tries = []

    def count(*_: object) -> NoReturn:
        tries.append(at.clock.now_s)
        unreadable()

    monkeypatch.setattr("parser.work.file_blocks", count)
    for _ in range(100):
        await at.look(1.0)
    assert [round(later - one) for one, later in itertools.pairwise(tries)] == [2, 4, 8, 16, 32]
    at.follower.close()


async def test_a_compressed_file_that_is_cut_off_is_read_again_only_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.log.1.gz"
    whole = gzip.compress(lines(0, 5000))
    path.write_bytes(whole[: len(whole) // 2])
    at = Following(tmp_path)
    await at.settle()
    counted = at.count()
    assert 0 < counted < 5000
    with monkeypatch.context() as patched:
        patched.setattr("parser.plan.look_at", unreadable)
        for _ in range(20):
            await at.settle()
    assert [str(problem) for problem in at.follower.report.problems] == [
        f"{path}: gz data is cut off at byte {len(whole) // 2} of the compressed file"
    ]
    path.write_bytes(whole)
    await at.settle()
    assert at.count() == 5000
    at.follower.close()


async def test_more_files_than_may_be_open_are_followed_all_the_same(tmp_path: Path) -> None:
    at = Following(tmp_path)
    at.follower._tails.max_open = 3
    for n in range(8):
        (tmp_path / f"{n}.log").write_bytes(lines(0, 5, block=n + 1))
    for _ in range(4):
        await at.look()
    assert [at.count(n + 1) for n in range(8)] == [5] * 8
    assert len(at.follower._tails.files) <= 3
    for n in range(8):
        with (tmp_path / f"{n}.log").open("ab") as file:
            file.write(lines(5, 9, block=n + 1))
    for _ in range(4):
        await at.look()
    assert [at.count(n + 1) for n in range(8)] == [9] * 8
    at.follower.close()


async def test_a_file_that_cannot_be_read_for_a_while_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "good.log", tmp_path / "bad.log"
    good.write_bytes(lines(0, 5, block=1))
    bad.write_bytes(lines(0, 5, block=2))
    at = Following(good, bad)
    await at.look()
    with monkeypatch.context() as patched:
        inode, pread = bad.stat().st_ino, os.pread

        def broken(descriptor: int, size: int, offset: int) -> bytes:
            if os.fstat(descriptor).st_ino == inode:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return pread(descriptor, size, offset)

        patched.setattr(os, "pread", broken)
        for path, block in ((good, 1), (bad, 2)):
            with path.open("ab") as file:
                file.write(lines(5, 9, block))
        await at.look()
        assert (at.count(1), at.count(2)) == (9, 5)
        assert at.follower.report.problems == [Problem(str(bad), "input/output error")]
    await at.look()
    assert (at.count(1), at.count(2)) == (9, 9)
    assert at.follower.report.matched == 18
    at.follower.close()
