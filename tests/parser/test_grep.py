"""Several processes give what one gives, in the same order."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from parser import grep
from parser.chunks import stretch_of
from parser.grep import Search, search_files
from parser.synthetic import generate


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("logs")
    plain = directory / "plain.log"
    plain.write_bytes(b"".join(generate("hdfs", 20_000, 1)) + b"WARN without an end")
    packed = directory / "packed.log.gz"
    packed.write_bytes(gzip.compress(b"".join(generate("hdfs", 3000, 2)), 1))
    empty = directory / "empty.log"
    empty.write_bytes(b"")
    gaps = directory / "gaps.log"
    gaps.write_bytes(b"\n\nWARN\n" + b"x" * 50_000 + b"WARN\n\n")
    return [str(plain), str(packed), str(empty), str(gaps)]


def found(paths: list[str], search: Search, processes: int) -> list[tuple[str, bytes, int, int]]:
    return [
        (one.path, b"".join(one.chunks), one.tally.lines, one.tally.selected)
        for one in search_files(paths, search, processes)
    ]


@pytest.mark.parametrize(
    "search",
    [Search("WARN"), Search(r"blk_-\d+ to", invert=True), Search("warn", ignore_case=True)],
)
def test_pieces_in_several_processes_are_the_whole(
    logs: list[str], search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grep, "STRETCH_BYTES", 30_011)
    assert found(logs, search, 2) == found(logs, search, 1)


def test_no_cut_loses_or_repeats_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "small.log"
    log.write_bytes(b"a\n\nbb\nccc\n" + b"d" * 9 + b"\nlast")
    size = log.stat().st_size
    for cut in range(1, size):
        edges = list(range(0, size, cut))
        pieces = [b"".join(stretch_of(str(log), start, min(start + cut, size))) for start in edges]
        assert b"".join(pieces) == log.read_bytes(), cut


def test_what_cannot_be_read_is_a_problem_of_that_file_alone(
    logs: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gz"
    broken.write_bytes(Path(logs[1]).read_bytes()[:4000])
    paths = [str(tmp_path / "nope.log"), str(broken), logs[3]]
    for processes in (1, 2):
        results = []
        for one in search_files(paths, Search("WARN"), processes):
            list(one.chunks)
            results.append(one)
        assert "no such file" in results[0].problem
        assert "cut off" in results[1].problem
        assert results[1].tally.lines > 10
        assert (results[2].problem, results[2].tally.selected) == ("", 2)


def test_who_stops_early_leaves_no_process(
    logs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grep, "STRETCH_BYTES", 100_000)
    started: list[subprocess.Popen[bytes]] = []
    start = grep._start

    def start_and_note(search: Search, stretches: Sequence[Any]) -> subprocess.Popen[bytes]:
        started.append(start(search, stretches))
        return started[-1]

    monkeypatch.setattr(grep, "_start", start_and_note)
    results = search_files(logs, Search("INFO"), 2)
    next(next(results).chunks)
    assert isinstance(results, Generator)
    results.close()
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)


@pytest.mark.skipif(shutil.which("grep") is None, reason="grep is not installed")
@pytest.mark.parametrize("pattern", ["WARN", "blk_-", "[0-9]+ to", "ERROR|WARN", "^081109 2036"])
def test_counts_are_those_of_grep(logs: list[str], pattern: str) -> None:
    told = subprocess.run(["grep", "-cE", pattern, logs[0]], capture_output=True, check=False)
    results = found([logs[0]], Search(pattern, wants_lines=False), 1)
    assert results[0][3] == int(told.stdout)
