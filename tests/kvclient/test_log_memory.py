"""Memory does not grow with the log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from parser.synthetic import generate
from tests.support import ROOT

MEASURED = (
    "import resource, subprocess, sys\n"
    "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
    "assert done.returncode == 0\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def peak_kb(*arguments: str) -> int:
    kvcli = [sys.executable, "-m", "kvclient", "log", *arguments]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *kvcli], cwd=ROOT, capture_output=True, check=True
    )
    return int(done.stdout)


def written(path: Path, times: int) -> str:
    text = b"".join(generate("hdfs", 7000, 1))
    with path.open("wb") as file:
        for _ in range(times):
            file.write(text)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["grep", "{}", "INFO"], ["grep", "{}", "-v", "INFO"], ["tail", "-n", "5", "{}"]]
)
def test_sixteen_times_the_log_takes_the_same_memory(command: list[str], tmp_path: Path) -> None:
    small = written(tmp_path / "small.log", 4)
    large = written(tmp_path / "large.log", 64)
    peaks = [peak_kb(*(word.format(path) for word in command)) for path in (small, large)]
    assert peaks[1] < peaks[0] + 8000, peaks


@pytest.mark.deep
@pytest.mark.parametrize("command", ["parse", "stats", "histogram"])
def test_the_slower_commands_are_bounded_too(command: str, tmp_path: Path) -> None:
    small = written(tmp_path / "small.log", 20)
    large = written(tmp_path / "large.log", 120)
    peaks = [peak_kb(command, path) for path in (small, large)]
    assert peaks[1] < peaks[0] + 16_000, peaks
