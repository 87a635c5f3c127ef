"""Every line is counted once, whichever part of an ingest is killed at whatever moment.

Each cycle starts a run, kills one part of it at a random moment (the process that commits, one that
reads, or the server), runs the same command again until it is done, and compares every summary and
the books with a plain reading of the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvclient.client import Client
from parser.fingerprint import source_id
from parser.summaryjson import from_json
from parser.synthetic import generate
from tests import hdfs_oracle
from tests.support import ROOT, ServerProcess, start_server

LINES = 8_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "hdfs.log"
    path.write_bytes(b"".join(generate("hdfs", LINES, 17)))
    return path


@pytest.fixture(scope="module")
def oracle(log: Path) -> hdfs_oracle.Oracle:
    data = log.read_bytes()
    return hdfs_oracle.read(data, source_id(data))


@contextlib.contextmanager
def ingest(port: int, log: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A run over the log; it does not outlive the block."""
    command = [sys.executable, "-m", "kvclient", "--port", str(port), "ingest", str(log)]
    with subprocess.Popen(
        [*command, "--json", "--workers", "2", "--range-bytes", "9000", *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def ingest_to_its_end(port: int, log: Path) -> tuple[int, str, str]:
    """Return the exit status of a run, and what it said on stdout and stderr."""
    with ingest(port, log) as run:
        out, err = run.communicate(timeout=60)
    return run.returncode, out, err


def wait_for_a_key(client: Client, run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while not client.execute("DBSIZE") and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.005)


def kill(pid: int) -> None:
    """Kill a process; one that ended by itself a moment ago is as good."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def producers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in children.read_text().split()]
    except FileNotFoundError:
        return []


def check(server: ServerProcess, oracle: hdfs_oracle.Oracle, log: Path) -> None:
    with Client(server.url) as client:
        keys = sorted(oracle.summaries)
        assert client.size() == len(keys)
        for key, shown in zip(keys, client.pipeline([("GET", k) for k in keys]), strict=True):
            assert shown is not None, key
            assert hdfs_oracle.plain(from_json(shown)) == oracle.summaries[key], key
        (source,) = client.execute("SOURCES")
        assert source[b"ranges"] == [[0, log.stat().st_size]]
        assert {name.decode(): n for name, n in source[b"books"].items()} == oracle.books


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["consumer", "producer", "server", "all"])
def test_a_run_that_is_killed_is_resumed_exactly(
    tmp_path: Path, log: Path, oracle: hdfs_oracle.Oracle, victim: str, deep: bool
) -> None:
    seed = random.randrange(10**6) if deep else 20_081_109
    print("seed", seed)
    draw = random.Random(f"{seed} {victim}")
    for cycle in range(25 if deep else 3):
        data = tmp_path / f"data{cycle}"
        server = start_server(data, "--fsync", "always")
        try:
            server = strike(server, data, log, victim, draw)
            for _ in range(5):
                status, out, err = ingest_to_its_end(server.port, log)
                if status == 0:
                    break
                assert "died twice" in err, err
            report = json.loads(out)
            assert report["lines"] <= oracle.books["lines"]
            check(server, oracle, log)
        finally:
            server.kill()


def strike(
    server: ServerProcess, data: Path, log: Path, victim: str, draw: random.Random
) -> ServerProcess:
    """Start a run and kill its victim at a random moment; return the server that runs then."""
    with ingest(server.port, log) as run:
        with Client(server.url) as client:
            wait_for_a_key(client, run)
        time.sleep(draw.uniform(0, 0.5))
        if victim == "consumer":
            run.kill()
        elif victim == "producer":
            for _ in range(draw.randrange(1, 4)):
                pids = producers_of(run.pid)
                if pids:
                    kill(draw.choice(pids))
                time.sleep(draw.uniform(0, 0.1))
        elif victim == "server":
            server.kill()
            time.sleep(draw.uniform(0, 0.3))
            server = start_server(data, "--fsync", "always", "--port", str(server.port))
        else:
            pids = producers_of(run.pid)
            for pid in (run.pid, *pids, server.process.pid):
                kill(pid)
            server.process.wait(timeout=30)
            server = start_server(data, "--fsync", "always")
        run.communicate(timeout=60)
    if victim == "server":  # it waited for the server, and went on by itself
        assert run.returncode == 0
    return server


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_counted_and_says_how_far_it_got(
    tmp_path: Path, log: Path, oracle: hdfs_oracle.Oracle
) -> None:
    server = start_server(tmp_path / "data", "--fsync", "always")
    try:
        with ingest(server.port, log) as run, Client(server.url) as client:
            wait_for_a_key(client, run)
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=30)
            assert run.returncode == 130, err
            assert "run the same command again to resume" in err
            first = json.loads(out)
            assert first["interrupted"] is True
            (source,) = client.execute("SOURCES")
            assert source[b"books"][b"lines"] == first["lines"]
        assert not producers_of(run.pid)
        rest = json.loads(ingest_to_its_end(server.port, log)[1])
        assert first["lines"] + rest["lines"] == LINES
        assert first["new_keys"] + rest["new_keys"] == len(oracle.summaries)
        check(server, oracle, log)
    finally:
        server.kill()


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_run_with_a_hint(
    tmp_path: Path, log: Path, oracle: hdfs_oracle.Oracle
) -> None:
    server = start_server(tmp_path / "data", "--fsync", "always")
    try:
        with ingest(server.port, log, "--retry", "500ms") as run:
            with Client(server.url) as client:
                wait_for_a_key(client, run)
            server.kill()
            _, err = run.communicate(timeout=30)
    finally:
        server.kill()
    assert run.returncode == 1
    assert "no server at" in err
    assert "run the same command again to resume" in err
    server = start_server(tmp_path / "data", "--fsync", "always")
    try:
        assert json.loads(ingest_to_its_end(server.port, log)[1])["lines"] < LINES
        check(server, oracle, log)
    finally:
        server.kill()


@pytest.mark.slow
def test_a_server_that_stops_for_a_while_is_waited_for(
    tmp_path: Path, log: Path, oracle: hdfs_oracle.Oracle
) -> None:
    server = start_server(tmp_path / "data")
    try:
        with ingest(server.port, log) as run:
            with Client(server.url) as client:
                wait_for_a_key(client, run)
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(1)
            server.process.send_signal(signal.SIGCONT)
            out, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
        assert json.loads(out)["lines"] == LINES
        check(server, oracle, log)
    finally:
        server.kill()
