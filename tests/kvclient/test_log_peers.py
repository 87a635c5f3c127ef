"""The tools people come from give the same answers, where they are installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from parser.synthetic import generate
from tests.support import real_log, run_kvcli


def peer(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peers") / "hdfs.log"
    path.write_bytes(b"".join(generate("hdfs", 5000, 1)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("options", [["-c"], ["-ci"], ["-cv"]])
def test_grep_counts_as_grep(log: Path, options: list[str]) -> None:
    ours = run_kvcli("log", "grep", *[f"-{c}" for c in options[0][1:]], str(log), "warn|ERROR")
    assert ours.stdout == peer("grep", *options, "-E", "warn|ERROR", str(log))


@pytest.mark.slow
def test_tail_shows_what_tail_shows_and_stats_counts_as_wc(log: Path) -> None:
    assert run_kvcli("log", "tail", "-n", "7", str(log)).stdout == peer("tail", "-n7", str(log))
    told = json.loads(run_kvcli("log", "stats", "--json", str(log)).stdout)
    assert told["lines"] == int(peer("wc", "-l", str(log)).split()[0])


@pytest.mark.slow
def test_an_access_log_has_the_totals_of_goaccess(tmp_path: Path) -> None:
    log = real_log("access/apache_combined.log")
    report = tmp_path / "goaccess.json"
    peer("goaccess", str(log), "--log-format=COMBINED", "-o", str(report), "--no-progress")
    theirs = json.loads(report.read_text(encoding="utf-8"))
    told = json.loads(run_kvcli("log", "stats", "--json", "--top", "0", str(log)).stdout)
    general = theirs["general"]
    assert told["lines"] == general["total_requests"]
    assert told["events"] == general["valid_requests"]
    assert told["unparsed"] == general["failed_requests"]
    out = tmp_path / "out.jsonl"
    assert run_kvcli("log", "summarize", str(log), "--output", str(out)).returncode == 0
    ours: dict[str, int] = {}
    for line in out.read_text(encoding="utf-8").splitlines():
        for status, n in json.loads(line)["tags"]["status"].items():
            ours[status] = ours.get(status, 0) + n
    codes = {
        item["data"].split()[0]: item["hits"]["count"]
        for group in theirs["status_codes"]["data"]
        for item in group["items"]
    }
    assert ours == codes
