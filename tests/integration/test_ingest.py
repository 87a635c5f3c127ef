"""A log goes in, and every summary is what a plain reading of the log says it is."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvclient.client import Client
from parser.fingerprint import source_id
from parser.summaryjson import from_json
from parser.synthetic import generate
from tests import hdfs_oracle
from tests.support import (
    ROOT,
    ServerProcess,
    real_log,
    run,
    run_kvcli,
    running_server,
    start_server,
)

LINES = 4000


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An HDFS-like log with bad lines strewn in and no newline at its end."""
    path = tmp_path_factory.mktemp("logs") / "generated.log"
    lines = b"".join(generate("hdfs", LINES, 11)).split(b"\n")
    for at in range(100, len(lines), 701):
        lines.insert(at, b"\xff\xfe binary \x00 blk_1")
        lines.insert(at + 50, b"")
        lines.insert(at + 90, b"081109 203518 143 INFO dfs.DataNode: no key in this one")
    path.write_bytes(b"\n".join(lines).rstrip(b"\n"))
    return path


@pytest.fixture
def server(cleared_server: ServerProcess) -> ServerProcess:
    return cleared_server


def ingest(server: ServerProcess, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = run_kvcli("--url", server.url, "ingest", "--json", *arguments)
    assert done.returncode == code, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def assert_store_is(server: ServerProcess, oracle: hdfs_oracle.Oracle) -> None:
    """Compare every summary and the books."""
    with Client(server.url) as client:
        assert client.size() == len(oracle.summaries)
        keys = sorted(oracle.summaries)
        for start in range(0, len(keys), 500):
            page = keys[start : start + 500]
            for key, shown in zip(page, client.pipeline([("GET", k) for k in page]), strict=True):
                assert shown is not None, key
                assert hdfs_oracle.plain(from_json(shown)) == oracle.summaries[key], key
        books: dict[str, int] = {}
        for source in client.execute("SOURCES"):
            for name, n in source[b"books"].items():
                books[name.decode()] = books.get(name.decode(), 0) + n
        assert books == oracle.books


def oracle_of(*paths: Path) -> hdfs_oracle.Oracle:
    whole = hdfs_oracle.Oracle()
    for path in paths:
        data = path.read_bytes()
        whole.merge(hdfs_oracle.read(data, source_id(data)))
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_every_summary_of_a_real_log_is_right(server: ServerProcess, workers: int) -> None:
    path = real_log("loghub/HDFS/HDFS_2k.log")
    oracle = oracle_of(path)
    report = ingest(server, str(path), "--workers", str(workers), "--range-bytes", "40000")
    assert {name: report[name] for name in oracle.books} == oracle.books
    assert report["new_keys"] == len(oracle.summaries)
    assert_store_is(server, oracle)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "range_bytes"), [(1, 10**9), (2, 100_000), (4, 33_333), (None, 7_777)]
)
def test_workers_and_range_sizes_change_nothing(
    server: ServerProcess, generated: Path, workers: int | None, range_bytes: int
) -> None:
    options = [] if workers is None else ["--workers", str(workers)]
    report = ingest(server, str(generated), "--range-bytes", str(range_bytes), *options)
    oracle = oracle_of(generated)
    assert {name: report[name] for name in oracle.books} == oracle.books
    assert_store_is(server, oracle)


@pytest.mark.slow
def test_a_restart_and_a_kill_of_the_server_change_nothing(tmp_path: Path, generated: Path) -> None:
    oracle = oracle_of(generated)
    with running_server(tmp_path / "data", "--fsync", "always") as server:
        ingest(server, str(generated))
        assert server.stop() == 0
    server = start_server(tmp_path / "data", "--fsync", "always")
    assert_store_is(server, oracle)
    server.kill()
    with running_server(tmp_path / "data", "--fsync", "always") as server:
        assert_store_is(server, oracle)
        again = ingest(server, str(generated))
        assert again["lines"] == again["new_keys"] == 0
        assert again["counted_before_bytes"] == generated.stat().st_size
        assert_store_is(server, oracle)


@pytest.mark.slow
def test_several_runs_over_the_same_log_at_once_stay_exact(
    server: ServerProcess, generated: Path, tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    other = tmp_path / "logs" / "other.log"
    other.write_bytes(b"".join(generate("hdfs", 500, 12)))
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "kvclient", "--url", server.url, "ingest", "--json", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for arguments in (
            [str(generated), "--range-bytes", "11000"],
            [str(generated), "--range-bytes", "17000", "--workers", "2"],
            [str(other.parent)],
            [str(generated), str(other), "--range-bytes", "1000000"],
        )
    ]
    reports = [json.loads(run.communicate(timeout=60)[0]) for run in started]
    assert [run.returncode for run in started] == [0] * len(started)
    oracle = oracle_of(generated, other)
    assert_store_is(server, oracle)
    for name in oracle.books:
        assert sum(report[name] for report in reports) == oracle.books[name]
    assert sum(report["new_keys"] for report in reports) == len(oracle.summaries)


@pytest.mark.slow
def test_a_bomb_is_one_unparsed_line_in_bounded_memory(
    server: ServerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
    command = ["--url", server.url, "ingest", "--json", "--workers", "1", str(path)]
    done = run([sys.executable, "-c", WITH_ITS_PEAK, *command])
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["lines"], report["unparsed"]) == (1, 1)
    assert int(done.stderr.splitlines()[-1]) < 300 * 1024


WITH_ITS_PEAK = """
import re, resource, sys
from kvclient.cli import cli
cli.main(sys.argv[1:], standalone_mode=False)
own = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), file=sys.stderr)
"""
"""Says its own peak of memory, and its producers': seen from here, what this process held at the
fork would count as theirs."""
