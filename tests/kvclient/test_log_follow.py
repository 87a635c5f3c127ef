"""``kvcli log tail -f`` shows what is written, over a rotation, and ends quietly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.mark.slow
def test_following_survives_rotation_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"one\ntwo\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "kvclient", "log", "tail", "-f", "-n", "1", str(log)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"two\n"
        with log.open("ab") as file:
            file.write(b"three\n")
        assert process.stdout.readline() == b"three\n"
        log.rename(tmp_path / "app.log.1")
        log.write_bytes(b"four\n")
        assert process.stdout.readline() == b"four\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert b"new file" in told
    assert b"Traceback" not in told


@pytest.mark.slow
@pytest.mark.parametrize("command", [["parse", "-"], ["grep", "-", "INFO"], ["tail", "-"]])
def test_a_closed_pipe_is_no_error(command: list[str]) -> None:
    line = " ".join(command)
    script = (
        f"{sys.executable} -m kvclient log generate --lines 60000 |"
        f" {sys.executable} -m kvclient log {line} | head -1; echo ${{PIPESTATUS[@]}}"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    assert done.stderr == b""
    assert done.stdout.splitlines()[-1].split()[-1] == b"0"
    assert b"141" not in done.stdout.splitlines()[-1]
