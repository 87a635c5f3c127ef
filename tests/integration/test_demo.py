"""The demo shows the whole way, and leaves nothing running and nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.terminal import terminal

DEMO = [sys.executable, "-m", "kvclient", "demo", "--lines", "20000"]


def processes_of(directory: Path) -> list[str]:
    """Return the command lines of running processes that name the directory."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(directory) in line:
            found.append(line)
    return found


def nothing_left(directory: Path) -> bool:
    """Whether it is all gone; a helper that was killed may take a moment to leave /proc."""
    ends_s = time.monotonic() + 10
    while processes_of(directory) and time.monotonic() < ends_s:
        time.sleep(0.02)
    return not processes_of(directory) and not list(directory.iterdir())


@pytest.mark.slow
def test_the_demo_shows_a_block_and_books_that_balance(tmp_path: Path) -> None:
    done = subprocess.run(
        DEMO,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"^\$ kvcli get block_", done.stdout, re.MULTILINE)
    assert re.search(r"20,000 lines = .* matched \+ 0 unparsed.* ✓", done.stdout)
    assert "Receiving block <*>" in done.stdout
    assert "kvcli ingest" in done.stdout
    assert "\x1b" not in done.stdout  # no colours in a pipe
    assert nothing_left(tmp_path)


@pytest.mark.slow
def test_as_json_it_is_one_object(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--json"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    story = json.loads(done.stdout)
    assert story["lines"] == story["ingest"]["lines"] == 20_000
    assert story["summary"]["count"] > 1
    assert story["keys"] > 500
    assert nothing_left(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["a server on", "lines of an HDFS"])
def test_ctrl_c_ends_it_and_everything_it_started(tmp_path: Path, moment: str) -> None:
    with terminal([*DEMO[:-1], "400000"], cwd=ROOT, env={"TMPDIR": str(tmp_path)}) as seen:
        seen.wait_for(moment)
        seen.type("\x03")
        assert seen.ended() == 130
        assert "Traceback" not in seen.text
    assert nothing_left(tmp_path)


@pytest.mark.slow
def test_sigterm_ends_it_and_everything_it_started(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*DEMO[:-1], "400000"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if "a server on" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert nothing_left(tmp_path)


@pytest.mark.slow
def test_a_disk_that_is_full_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", 'trap "" XFSZ; ulimit -f 1000; exec "$@"', "bash", *DEMO],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"kvcli: .*\n", done.stderr), done.stderr
    assert nothing_left(tmp_path)
