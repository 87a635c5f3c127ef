"""A real server, killed under load at random moments: nothing acknowledged is lost, under any
policy."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.load import Connection, Writer, run_writers
from tests.support import start_server

SMALL = ("--segment", "64kb", "--compaction-min", "200kb", "--compaction-ratio", "1")
CYCLES = 25
DEEP_CYCLES = 500
LONG_LIFE = 10
"""In one of so many cycles the server lives until it has compacted."""
PATIENCE_S = 120
"""A compaction gives way to whatever else wants the core, so that on a full machine it is slow."""


def wait_for_compaction(port: int) -> None:
    """Return once a compaction has ended."""
    connection = Connection(port)
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        figures = connection.ask(b"STATS")
        stats = dict(zip(figures[::2], figures[1::2], strict=True))
        if int(stats[b"compaction_runs"]) > 0:
            break
        time.sleep(0.05)
    else:
        raise AssertionError(f"no compaction in {PATIENCE_S} s")
    connection.close()


def kill_cycles(directory: Path, policy: str, cycles: int, seed: int) -> tuple[int, float]:
    """Kill and start again; return how many writes were acknowledged, and the longest start.

    Most lives are too short for a compaction to end; some are long enough, or the journal would
    only grow, and a kill during a compaction would always meet the same first one.
    """
    chance = random.Random(seed)
    writers = [Writer(b"w%d" % n, seed + n) for n in range(3)]
    longest_s = 0.0
    for cycle in range(1, cycles + 1):
        began = time.monotonic()
        server = start_server(directory, "--fsync", policy, *SMALL)
        longest_s = max(longest_s, time.monotonic() - began)
        try:
            for writer in writers:
                writer.verify(server.port)
            threads = run_writers(writers, server.port)
            if cycle % LONG_LIFE == 0:
                wait_for_compaction(server.port)
            time.sleep(chance.uniform(0.03, 0.2))
        finally:
            server.kill()
        for thread in threads:
            thread.join()
    server = start_server(directory, "--fsync", policy, *SMALL)
    try:
        for writer in writers:
            writer.verify(server.port)
    finally:
        assert server.stop() == 0
    problems = [problem for writer in writers for problem in writer.problems]
    assert problems == [], f"seed {seed}"
    return sum(writer.acknowledged for writer in writers), longest_s


@pytest.mark.slow
def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path, deep: bool) -> None:
    seed = random.randrange(1 << 30) if deep else 4
    cycles = DEEP_CYCLES if deep else CYCLES
    policies = ["always", "everysec", "no"]
    with ThreadPoolExecutor(len(policies)) as pool:  # a start is mostly waiting for Python
        runs = [
            pool.submit(kill_cycles, tmp_path / policy, policy, cycles, seed) for policy in policies
        ]
        results = [run.result() for run in runs]
    for policy, (acknowledged, longest_s) in zip(policies, results, strict=True):
        print(f"{policy}: {acknowledged} writes, longest start {longest_s:.2f} s, seed {seed}")
        assert acknowledged > cycles * 20


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
def test_sigterm_under_load_ends_with_status_0_and_keeps_everything(
    tmp_path: Path, policy: str, deep: bool
) -> None:
    chance = random.Random(7)
    writers = [Writer(b"w%d" % n, n) for n in range(3)]
    for _ in range(20 if deep else 2):
        server = start_server(tmp_path, "--fsync", policy, *SMALL)
        threads = run_writers(writers, server.port)
        time.sleep(chance.uniform(0.02, 0.2))
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
        for thread in threads:
            thread.join()
        again = start_server(tmp_path, "--fsync", policy, *SMALL)
        for writer in writers:
            writer.verify(again.port)
            assert writer.problems == []
        assert again.stop() == 0


def test_signals_that_are_no_order_to_stop_do_not_stop_it(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR1):
        server.process.send_signal(number)
    Writer(b"w", 1).verify(server.port)
    time.sleep(0.05)
    assert server.process.poll() is None
    assert server.stop() == 0
