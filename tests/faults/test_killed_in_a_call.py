"""A real server killed on its way into one system call: every acknowledged write is there again."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.faults.load import Writer
from tests.faults.test_server_faults import strace, traced_server
from tests.support import running_server

__all__ = ["strace"]

OPTIONS = ("--segment", "2kb", "--compaction-min", "10kb", "--compaction-ratio", "1")
CALLS = ["writev", "fdatasync", "fsync", "renameat,rename", "unlinkat,unlink", "ftruncate"]


def kill_at(strace_path: str, directory: Path, call: str, when: int, seed: int) -> int:
    """Let one writer write until the kill; return how many writes were acknowledged."""
    writer = Writer(b"w", seed)
    inject = f"{call}:signal=SIGKILL:when={when}"
    with (
        contextlib.suppress(AssertionError),  # killed before it was ready
        traced_server(strace_path, directory, inject, *OPTIONS) as (process, port),
    ):
        connection_closed = False
        while not connection_closed and process.poll() is None and writer.turn < 400:
            before = writer.turn
            writer.run_some(port, 400)
            connection_closed = writer.turn == before or process.poll() is not None
    with running_server(directory, *OPTIONS) as server:
        writer.verify(server.port)
    assert writer.problems == [], f"{call}, call {when}"
    return writer.acknowledged


@pytest.mark.slow
def test_a_kill_before_a_write_loses_nothing(tmp_path: Path, strace: str) -> None:
    assert kill_at(strace, tmp_path / "a", "writev", 30, 1) > 5


@pytest.mark.deep
@pytest.mark.parametrize("call", CALLS)
def test_a_kill_before_any_call_loses_nothing(tmp_path: Path, strace: str, call: str) -> None:
    for when in range(1, 21):
        kill_at(strace, tmp_path / str(when), call, when, when)
