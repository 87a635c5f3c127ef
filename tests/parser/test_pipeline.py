"""A run counts everything once, whatever dies, overlaps, lags or is stopped on the way."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import zstandard

import parser.extract
import parser.spawn
import parser.work
from parser.consumer import Found
from parser.extract import Engine, RangeSummary
from parser.formats import format_named
from parser.pipeline import Pipeline
from parser.plan import Planned, identify
from parser.recipe import Recipe
from parser.report import Report
from parser.run import Reading, run
from parser.sink import Commit, MemorySink, Outcome
from parser.source import Input, expand
from parser.synthetic import generate
from tests import hdfs_oracle
from tests.support import ROOT

HDFS = Reading(format="hdfs")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "hdfs.log"
    path.write_bytes(b"".join(generate("hdfs", 6000, 3)))
    return path


async def plan(sink: Any, *paths: Path | str) -> list[Planned]:
    def recipe_of(_: Input, __: bytes) -> Recipe:
        return Recipe(format_named("hdfs"), multiline=True)

    inputs, problems = expand([str(path) for path in paths])
    assert not problems
    planned, problems = await identify(inputs, sink, recipe_of)
    assert not problems
    return planned


def assert_is(sink: MemorySink, data: bytes, report: Report | None = None) -> None:
    """Compare with a plain reading: every summary, the books, and what is counted."""
    infos = [info for info in sink._sources.values() if info.ranges]
    assert len(infos) == 1
    assert infos[0].ranges == [(0, len(data))]
    oracle = hdfs_oracle.read(data, infos[0].id)
    got = {key.decode(): hdfs_oracle.plain(value) for key, value in sink.summaries().items()}
    assert got == oracle.summaries
    assert infos[0].books == oracle.books
    if report is not None:
        assert {name: getattr(report, name) for name in oracle.books} == oracle.books
        assert report.new_keys == len(oracle.summaries)
        assert not report.problems


@pytest.mark.parametrize("range_bytes", [1, 150, 9_999, 10**9])
@pytest.mark.trio
async def test_every_range_size_gives_the_same(log: Path, tmp_path: Path, range_bytes: int) -> None:
    data = log.read_bytes()
    if range_bytes < 1000:
        data = data[: 60 * range_bytes + 8000]
    path = tmp_path / "part.log"
    path.write_bytes(data)
    sink = MemorySink()
    report = await Pipeline(await plan(sink, path), sink, range_bytes=range_bytes).run()
    assert_is(sink, data, report)


@pytest.mark.trio
async def test_stack_traces_stay_with_their_event_for_every_range_size(tmp_path: Path) -> None:
    draw = random.Random(5)
    lines = []
    for n in range(50):
        lines.append(b"081109 203518 1 ERROR x: failed blk_%d\n" % (n % 40))
        lines += [
            draw.choice([b"\tat line %d for blk_%d\n", b"Caused by: %d, blk_%d\n"]) % (m, n)
            for m in range(draw.choice([0, 0, 1, 20]))
        ]
        if n % 7 == 0:
            lines.append(draw.choice([b"\n", b"nonsense\n", b"\r\n"]))
    path = tmp_path / "traces.log"
    path.write_bytes(b"".join(lines))
    seen = []
    for range_bytes in (10**9, 1, 50, 777, 10_000):
        sink = MemorySink()
        report = await Pipeline(await plan(sink, path), sink, range_bytes=range_bytes).run()
        assert report.continued > 100
        assert report.lines == len(lines)
        (info,) = sink._sources.values()
        assert info.books["continued"] == report.continued
        seen.append((info.books, dict(sink.summaries())))
    assert all(one == seen[0] for one in seen[1:])


@pytest.mark.trio
async def test_the_last_line_needs_no_newline_and_grows_without_counting_twice(
    tmp_path: Path, log: Path
) -> None:
    data = log.read_bytes()[:5000].rstrip(b"\n")
    path = tmp_path / "live.log"
    sink = MemorySink()
    cut = data.rfind(b"\n", 0, 3000) + 100  # in the middle of a line
    lines = 0
    for size in (cut, cut + 20, len(data)):
        path.write_bytes(data[:size])
        report = await run([str(path)], sink, HDFS, catch_signals=False)
        lines += report.lines
        assert not report.problems
    assert lines == data.count(b"\n") + 1
    (info,) = sink._sources.values()
    assert info.ranges == [(0, len(data))]


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress, bytes]
)
@pytest.mark.trio
async def test_a_compressed_copy_is_the_same_source(log: Path, tmp_path: Path, pack: Any) -> None:
    data = log.read_bytes()
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(pack(data[: data.rfind(b"\n", 0, 300_000) + 1]))
    second.write_bytes(pack(data))
    sink = MemorySink()
    await run([str(first)], sink, HDFS, catch_signals=False)
    await run([str(second)], sink, HDFS, catch_signals=False)
    again = await run([str(log)], sink, HDFS, catch_signals=False)
    assert (again.lines, again.counted_before_bytes) == (0, len(data))
    assert_is(sink, data)


@pytest.mark.trio
async def test_a_compressed_log_is_cut_where_its_events_begin_as_a_plain_one_is(
    tmp_path: Path,
) -> None:
    event = b"2024-05-01 12:00:00,0 ERROR a.B: bad blk_%d\n" + b"\n\tat one of blk_7\n" * 20
    data = b"".join(event % n for n in range(2000))
    reading = Reading(format="log4j", keys=("content ~ blk_<int> -> block_{}",))
    summaries, books = [], []
    for pack in (bytes, gzip.compress):
        path = tmp_path / pack.__name__
        path.write_bytes(pack(data))
        sink = MemorySink()
        await run([str(path)], sink, reading, catch_signals=False)
        summaries.append(sink.summaries())
        books.append([info.books for info in await sink.sources()])
    assert books[0] == [
        {"lines": 82_000, "matched": 2000, "unparsed": 0, "skipped": 40_000, "continued": 40_000}
    ]
    assert books[1] == books[0]
    assert summaries[1] == summaries[0]


@pytest.mark.trio
async def test_copies_named_together_count_once(log: Path, tmp_path: Path) -> None:
    data = log.read_bytes()
    (tmp_path / "a.log").write_bytes(data[: data.rfind(b"\n", 0, 200_000) + 1])
    (tmp_path / "b.log").write_bytes(data)
    (tmp_path / "c.gz").write_bytes(gzip.compress(data))
    (tmp_path / "d.zst").write_bytes(zstandard.compress(data))
    sink = MemorySink()
    report = await run([str(tmp_path)], sink, HDFS, catch_signals=False)
    assert_is(sink, data, report)


@pytest.mark.trio
async def test_a_truncated_gz_counts_as_far_as_it_goes_and_goes_on_when_it_is_whole(
    log: Path, tmp_path: Path
) -> None:
    data = log.read_bytes()
    packed = gzip.compress(data)
    path = tmp_path / "app.log.gz"
    path.write_bytes(packed[: len(packed) // 2])
    sink = MemorySink()
    report = await run([str(path)], sink, HDFS, catch_signals=False)
    assert report.lines > 1000
    assert "cut off at byte" in report.problems[0].reason
    assert report.unparsed == 0
    path.write_bytes(packed)
    await run([str(path)], sink, HDFS, catch_signals=False)
    assert_is(sink, data)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.trio
async def test_a_producer_that_dies_or_stops_is_replaced(log: Path, how: signal.Signals) -> None:
    sink = MemorySink()
    pipeline = Pipeline(await plan(sink, log), sink, workers=2, range_bytes=20_000, lease_s=1.0)
    struck: list[int] = []

    async def strike() -> None:
        draw = random.Random(7)
        while len(struck) < 3:
            await trio.sleep(0.02)
            if pipeline.report.lines > 1000 * len(struck) and pipeline.producers:
                pid = draw.choice(sorted(pipeline.producers))
                os.kill(pid, how)
                struck.append(pid)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(strike)
        with trio.fail_after(60):
            report = await pipeline.run()
        nursery.cancel_scope.cancel()
    assert struck
    if not report.problems:
        assert_is(sink, log.read_bytes(), report)
    else:  # the same range was hit twice: it says which, and the next run counts it
        assert all("died twice" in problem.reason for problem in report.problems)
        await run([str(log)], sink, HDFS, catch_signals=False)
        assert_is(sink, log.read_bytes())
    assert not pipeline.producers


@pytest.mark.slow
@pytest.mark.trio
async def test_a_range_that_kills_its_producer_twice_is_reported_and_the_rest_goes_on(
    log: Path,
) -> None:
    sink = MemorySink()
    planned = await plan(sink, log)
    pipeline = Pipeline(planned, sink, workers=2, range_bytes=100_000)
    victims = sorted(task.cut for task in pipeline._tasks)[3:4]

    async def murder() -> None:
        while True:
            await trio.sleep(0.005)
            for pid, held in pipeline.producers.items():
                if held and held[0].cut in victims:
                    os.kill(pid, signal.SIGKILL)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(murder)
        with trio.fail_after(60):
            report = await pipeline.run()
        nursery.cancel_scope.cancel()
    low, high = victims[0]
    assert [problem.reason for problem in report.problems] == [
        f"bytes {low} to {high} failed: the process that read it died twice"
    ]
    (info,) = sink._sources.values()
    assert info.counted_bytes > log.stat().st_size - 110_000
    again = await run([str(log)], sink, HDFS, catch_signals=False)
    assert again.counted_bytes < 110_000
    assert_is(sink, log.read_bytes())


@pytest.mark.slow
@pytest.mark.trio
async def test_two_runs_over_the_same_log_at_once_stay_exact(log: Path) -> None:
    sink = MemorySink()
    reports = []

    async def one(range_bytes: int) -> None:
        reading = Reading(format="hdfs", range_bytes=range_bytes)
        reports.append(await run([str(log)], sink, reading, catch_signals=False))

    async with trio.open_nursery() as nursery:
        for range_bytes in (30_000, 44_444, 1_000_000):
            nursery.start_soon(one, range_bytes)
    assert_is(sink, log.read_bytes())
    assert sum(report.lines for report in reports) == 6000
    assert sum(report.new_keys for report in reports) == len(sink.deltas)


class Poisoned:
    """An engine that fails on some lines."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def summarize(self, data: bytes | memoryview, *, source: int, offset: int) -> RangeSummary:
        if b"poison" in bytes(data):
            raise ZeroDivisionError("poison")
        return self.engine.summarize(data, source=source, offset=offset)


@pytest.mark.trio
async def test_a_line_the_parser_fails_on_costs_only_itself(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser.work.Work, "_engine", lambda self, m: _poisoned(Recipe.read(m)))
    lines = log.read_bytes()[:60_000].split(b"\n")
    bad = [10, 11, 200, len(lines) - 1]
    for at in bad:
        lines[at] = b"081109 203518 1 INFO x: poison blk_1"
    path = tmp_path / "bad.log"
    path.write_bytes(b"\n".join(lines))
    sink = MemorySink()
    rejected: list[Any] = []
    report = await Pipeline(
        await plan(sink, path),
        sink,
        range_bytes=20_000,
        on_commit=lambda found: rejected.extend(found.message["rejected"]),
    ).run()
    assert (report.lines, report.unparsed) == (len(lines), len(bad))
    assert len(rejected) == len(bad)
    assert all("ZeroDivisionError" in reason for _, _, reason in rejected)
    for offset, data, _ in rejected:
        assert path.read_bytes()[offset:].startswith(data)
    (info,) = sink._sources.values()
    assert info.ranges == [(0, path.stat().st_size)]


def _poisoned(recipe: Recipe) -> tuple[Recipe, Engine]:
    return recipe, Poisoned(recipe.engine())


def test_a_compiler_that_does_not_work_costs_speed_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, expected_bytes: int, **more: Any) -> Engine:
        if expected_bytes:
            raise RuntimeError("no compiler\nand more")
        return make(*_, expected_bytes=expected_bytes, **more)

    make = parser.extract.engine_for
    monkeypatch.setattr(parser.extract, "engine_for", broken)
    engine = Recipe(format_named("hdfs"), expected_bytes=1 << 40).engine()
    assert engine.summarize(b"x\n", source=1, offset=0).unparsed == 1
    assert "reading hdfs slowly, no kernel: RuntimeError: no compiler" in caplog.text


class SlowSink(MemorySink):
    """Takes its time, and sees how much waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self.pipeline: Pipeline | None = None

    async def commit(self, commits: Sequence[Commit]) -> list[Outcome]:
        await trio.sleep(0.02)
        assert self.pipeline is not None
        self.most = max(self.most, self.pipeline._queued)
        return await super().commit(commits)


@pytest.mark.slow
@pytest.mark.trio
async def test_a_slow_sink_slows_the_producers(log: Path) -> None:
    sink = SlowSink()
    sink.pipeline = Pipeline(await plan(sink, log), sink, workers=2, range_bytes=5_000)
    report = await sink.pipeline.run()
    assert report.ranges > 100
    assert sink.most <= 4 + 4 + 2  # the queue, a batch, and one in the hands of each worker
    assert_is(sink, log.read_bytes(), report)


@pytest.mark.trio
async def test_a_run_that_is_stopped_says_how_far_it_got_and_is_resumed(log: Path) -> None:
    sink = SlowSink()
    sink.pipeline = Pipeline(await plan(sink, log), sink, range_bytes=5_000)

    def stop(found: Found) -> None:
        assert sink.pipeline is not None
        if sink.pipeline.report.lines > 1000 and not sink.pipeline.report.interrupted:
            sink.pipeline.stop()

    sink.pipeline._consumer.on_commit = stop
    with trio.fail_after(20):
        report = await sink.pipeline.run()
    assert report.interrupted
    assert report.pending > 0
    assert 1000 < report.lines < 6000
    (info,) = sink._sources.values()
    assert info.books["lines"] == report.lines
    assert info.counted_bytes == report.counted_bytes
    sink.pipeline = Pipeline(await plan(sink, log), sink, range_bytes=7_777)
    rest = await sink.pipeline.run()
    assert rest.lines == 6000 - report.lines
    assert_is(sink, log.read_bytes())


@pytest.mark.trio
async def test_a_file_replaced_while_it_is_read_is_not_counted_as_the_old_one(
    log: Path, tmp_path: Path
) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log.read_bytes()[:100_000])
    sink = MemorySink()
    planned = await plan(sink, path)
    other = b"".join(generate("hdfs", 1000, 99))
    path.write_bytes(other)
    report = await Pipeline(planned, sink, range_bytes=10**6).run()
    assert [problem.reason for problem in report.problems] == [
        "the file was replaced while it was read"
    ]
    assert not sink.deltas
    await run([str(path)], sink, HDFS, catch_signals=False)
    assert_is(sink, other)


@pytest.mark.trio
async def test_lines_of_megabytes_are_counted_in_bounded_memory(tmp_path: Path, log: Path) -> None:
    lines = log.read_bytes()[:20_000]
    path = tmp_path / "long.log"
    data = lines + b"x" * (5 << 20) + b"\n" + lines
    path.write_bytes(data)
    packed = tmp_path / "long.gz"
    packed.write_bytes(gzip.compress(data))
    for source in (path, packed):
        sink = MemorySink()
        report = await run([str(source)], sink, Reading(format="hdfs", range_bytes=2 << 20),
                           catch_signals=False)  # fmt: skip
        assert report.unparsed in {1, 3}  # 3: the lines that the cut at 20,000 bytes made
        (info,) = sink._sources.values()
        assert info.ranges == [(0, len(data))]
        assert report.lines == data.count(b"\n") + 1 - data.endswith(b"\n")


@pytest.mark.trio
async def test_producers_that_were_started_ahead_are_taken_or_ended(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser.spawn, "SMALL_BYTES", log.stat().st_size // 2)
    with parser.spawn.ahead([str(log)], 3) as spare:
        pids = [one.process.pid for one in spare]
        assert len(pids) == 3
        report = Report()
        sink = MemorySink()
        reading = Reading(format="hdfs", workers=2, range_bytes=100_000)
        await run([str(log)], sink, reading, report=report, catch_signals=False, spare=spare)
        assert_is(sink, log.read_bytes(), report)
        assert [one.process.pid for one in spare] == pids[:1]
        assert [_runs(pid) for pid in pids] == [True, False, False]
    assert not any(map(_runs, pids))
    with parser.spawn.ahead([str(log.parent), "/no/such\0file", "-"], 3) as spare:
        assert not spare


@pytest.mark.slow
def test_producers_are_gone_soon_after_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from parser.spawn import start\n"
        "producers = [start() for _ in range(2)]\n"
        "print(*[p.process.pid for p in producers], flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    with parent.stdout as out:
        pids = [int(word) for word in out.readline().split()]
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 2
    while any(map(_runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(_runs, pids))


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False
