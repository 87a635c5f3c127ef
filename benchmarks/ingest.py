"""The whole way from a log to a durable store, against peers that only group it.

    python benchmarks/ingest.py [--lines 10000000] [--big] [--sweep] [--write]

Ours: ``kvcli ingest`` as a command from the shell (start included) into a ``kvserver --fsync
everysec`` that starts empty, so every key is new; about 18 lines a key. What is counted by block:
count, first and last time, levels, patterns, positions of the first and the last line; and the log
itself is remembered, so that it is not counted twice.

Peers: DuckDB, Polars and mawk do count, first, last and levels by block, into nothing; Drain3
matches templates on a sample. The answers are compared: all keys, the sum of their counts, and
every figure of a sample of blocks.

While we ingest, another client asks PING and GET every millisecond; its latencies are shown, and
those of the same client with the server idle.

Ranges are at most as large as asked, and hold at most some 4,000 keys, whatever the log.

What favours us: the log is in the page cache. What does not: everything that ingests shares the
processors with the server and the client that measures. A run on a busy machine says little:
compare within one run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import resource
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs as a file, too

from benchmarks.peers import Took, drain3_took, duckdb_rows, mawk_took, median, polars_took
from benchmarks.servers import cpu_s
from kvclient.client import Client
from parser.isotime import parse_time_ms
from parser.synthetic import generate

ROOT = Path(__file__).resolve().parent.parent
SMALL_LINES = 2_000_000
BIG_LINES = 75_000_000
SAMPLE = 1000
DRAIN_LINES = 100_000


def make_log(path: Path, lines: int) -> None:
    """Write a log, the same every time."""
    with path.open("wb") as file:
        for chunk in generate("hdfs", lines, 5):
            file.write(chunk)


# ---------------------------------------------------------------------------------------- ours


@dataclass
class Run:
    """What one ingest took."""

    lines: int = 0
    seconds: float = 0.0
    ingesting_cpu_s: float = 0.0
    server_cpu_s: float = 0.0
    ingesting_mib: float = 0.0
    server_mib: float = 0.0
    journal_bytes: int = 0
    turn_ms: dict[str, float] = field(default_factory=dict)
    """How long the server worked on one INGEST: percentiles."""
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Lines a second."""
        return self.lines / self.seconds


@contextmanager
def server(directory: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "kvserver", "--port", "0", "--data-dir", str(directory)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            ready = re.search(r"\bready\b.*:(\d+)", line)
            if ready:
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield process, int(ready[1])
                break
    finally:
        process.kill()
        process.wait()


def resident_mib(pid: int) -> float:
    """Return the memory of a process and its children that nothing else shares, as PSS."""
    total = 0
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        pids = [pid, *map(int, children.read_text().split())]
    except OSError:
        return 0.0
    for one in pids:
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)
        total += int(found[1]) if found else 0
    return total / 1024


class Asking(threading.Thread):
    """Another client: how long does it wait?"""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.over, self.waits_ms = port, threading.Event(), list[float]()

    def run(self) -> None:
        """Ask until told to stop."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self.over.is_set():
                for command in (b"PING\r\n", b"EXISTS block_123\r\n"):
                    began = time.perf_counter()
                    connection.sendall(command)
                    connection.recv(4096)
                    self.waits_ms.append((time.perf_counter() - began) * 1000)
                time.sleep(0.001)

    def stop(self) -> list[float]:
        """Stop, and return how long each answer took."""
        self.over.set()
        self.join()
        return sorted(self.waits_ms)


def percentile(sorted_values: list[float], share: float) -> float:
    return sorted_values[min(int(len(sorted_values) * share), len(sorted_values) - 1)]


def ingest(
    log: Path, port: int, server_pid: int, data: Path, *options: str, alone: bool = False
) -> Run:
    """Ingest a log as a user does, watching what it takes; ``alone``: no other client asks."""
    run = Run()
    asking = Asking(port)
    if not alone:
        asking.start()
    before, server_before = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_s(server_pid)
    began = time.perf_counter()
    command = [sys.executable, "-m", "kvclient", "--port", str(port), "ingest", str(log), "--json"]
    process = subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE)
    ended = os.pidfd_open(process.pid)  # so that the end is noticed when it comes
    while not select.select([ended], [], [], 0.05)[0]:
        run.ingesting_mib = max(run.ingesting_mib, resident_mib(process.pid))
    run.seconds = time.perf_counter() - began
    os.close(ended)
    process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    run.ingesting_cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    run.server_cpu_s = cpu_s(server_pid) - server_before
    run.server_mib = resident_mib(server_pid)
    if not alone:
        run.latencies_ms = asking.stop()
    with Client(f"redis://127.0.0.1:{port}") as client:
        spent = client.stats().get("latency_us", {}).get("ingest", {})
        run.turn_ms = {name: float(us) / 1000 for name, us in spent.items() if name != "calls"}
    assert process.stdout is not None
    with process.stdout as out:
        report = json.loads(out.read())
    assert process.returncode == 0, report
    assert report["lines"] == report["matched"] + report["unparsed"] + report["skipped"]
    run.lines = report["lines"]
    run.journal_bytes = sum(f.stat().st_size for f in data.rglob("*") if f.is_file())
    return run


def one_run(log: Path, directory: Path, *options: str, alone: bool = False) -> Run:
    shutil.rmtree(directory / "data", ignore_errors=True)
    with server(directory / "data") as (process, port):
        return ingest(log, port, process.pid, directory / "data", *options, alone=alone)


def median_run(runs: list[Run]) -> Run:
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def idle_latencies(directory: Path) -> list[float]:
    shutil.rmtree(directory / "data", ignore_errors=True)
    with server(directory / "data") as (_, port):
        asking = Asking(port)
        asking.start()
        time.sleep(2)
        return asking.stop()


def compare(log: Path, directory: Path) -> str:
    """Ingest once more and hold everything against what DuckDB counts."""
    rows = duckdb_rows(log, exact=True)[1]
    shutil.rmtree(directory / "data", ignore_errors=True)
    with server(directory / "data") as (process, port), Client(f"redis://127.0.0.1:{port}") as c:
        ingest(log, port, process.pid, directory / "data")
        assert c.size() == len(rows), (c.size(), len(rows))
        step = max(len(rows) // SAMPLE, 1)
        sample = rows[::step]
        for block, n, first, last, *counts in sample:
            shown = c.summary(f"block_{block.removeprefix('blk_')}")
            assert shown is not None, block
            levels = dict(zip(("INFO", "WARN", "ERROR"), counts, strict=True))
            levels = {name: count for name, count in levels.items() if count}
            told = (
                shown["count"], _moment(shown["first"]), _moment(shown["last"]), shown["levels"],
            )  # fmt: skip
            assert told == (n, _duck(first), _duck(last), levels), (block, told)
    return f"{len(rows):,} keys, and every figure of {len(sample):,} of them, equal DuckDB's"


def _moment(text: str) -> int:
    return parse_time_ms(text)


def _duck(text: str) -> int:
    day, clock = text.split(" ")
    return parse_time_ms(f"20{day[:2]}-{day[2:4]}-{day[4:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}Z")


# --------------------------------------------------------------------------------------- report


def show(run: Run, size: int, seconds: float | None = None) -> list[str]:
    seconds = seconds or run.seconds
    return [
        f"{run.lines:,}",
        f"{seconds:.2f}",
        f"{run.lines / seconds / 1e6:.2f}",
        f"{size / seconds / 1e6:.0f}",
        f"{run.ingesting_cpu_s:.2f}",
        f"{run.server_cpu_s:.2f}",
        f"{run.ingesting_mib:.0f}",
        f"{run.server_mib:.0f}",
        ", ".join(f"{name} {ms:.1f}" for name, ms in run.turn_ms.items()),
        *(
            f"{percentile(run.latencies_ms, share):.2f}" if run.latencies_ms else ""
            for share in (0.5, 0.99, 0.999)
        ),
    ]


COLUMNS = (
    "lines", "s", "M lines/s", "MB/s", "CPU s ingesting", "CPU s server", "MiB ingesting",
    "MiB server", "ms an INGEST", "others p50 ms", "p99 ms", "p99.9 ms",
)  # fmt: skip
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def machine() -> str:
    busy = ""
    if os.getloadavg()[0] > 1:
        busy = (
            "\n\n**The machine was busy with other work.** Seconds, rates and the waits of other "
            "clients are those of a share of it; processor time is what can be compared."
        )
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return (
        f"{len(os.sched_getaffinity(0))} processors ({model[1] if model else '?'}), "
        f"Python {platform.python_version()}, Linux {platform.release()}; "
        f"load at the start {os.getloadavg()[0]:.1f}{busy}"
    )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--lines", type=int, default=10_000_000)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--big", action="store_true", help="also a log of 10 GB")
    options.add_argument("--sweep", action="store_true", help="also range sizes")
    options.add_argument("--no-peers", action="store_true")
    options.add_argument("--write", action="store_true", help="write results/ingest.md")
    asked = options.parse_args()
    out: list[str] = ["# Ingest", "", machine(), ""]

    def say(*lines: str) -> None:
        out.extend(lines)
        print(*lines, sep="\n", flush=True)

    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as name:
        directory = Path(name)
        log = directory / "hdfs.log"
        make_log(log, asked.lines)
        size = log.stat().st_size
        one_run(log, directory)  # compiles, and fills the page cache
        runs = [one_run(log, directory) for _ in range(asked.runs)]
        run = median_run(runs)
        idle = idle_latencies(directory)
        say(HEAD, "| " + " | ".join(show(run, size)) + " |", "")
        say(
            f"Median of {asked.runs}; spread {min(r.seconds for r in runs):.2f} to "
            f"{max(r.seconds for r in runs):.2f} s. Journal {run.journal_bytes / 1e6:.0f} MB for "
            f"{size / 1e6:.0f} MB of log. The other client with the server idle: p50 "
            f"{percentile(idle, 0.5):.2f}, p99 {percentile(idle, 0.99):.2f}, "
            f"p99.9 {percentile(idle, 0.999):.2f} ms.",
            "",
        )
        if not asked.no_peers:
            say("| same log | M lines/s | ours / peer | CPU µs a line | peer / ours |")
            say("|---|---|---|---|---|")
            own_us = (run.ingesting_cpu_s + run.server_cpu_s) / run.lines * 1e6
            say(f"| kvcli ingest, the whole way | {run.rate / 1e6:.2f} | | {own_us:.2f} | |")
            for peer, lines, took in peers(log, run.lines):
                rate, us = lines / took.seconds, took.cpu_s / lines * 1e6
                ratio = f"{run.rate / rate:.1f} | {us:.2f} | {us / own_us:.1f}"
                say(f"| {peer} | {rate / 1e6:.2f} | {ratio} |")
            say("", f"Agreement: {compare(log, directory)}.", "")
        if asked.sweep:
            say("Range sizes:", "", "| MB " + HEAD.replace("\n", "\n|---"))
            for megabytes in (1, 2, 4, 8, 16):
                swept = one_run(log, directory, "--range-bytes", str(megabytes * 1_000_000))
                say(f"| {megabytes} | " + " | ".join(show(swept, size)) + " |")
            say("")
        say("The rate over the size of the log; the second row without another client:", "", HEAD)
        make_log(log, SMALL_LINES)
        size = log.stat().st_size
        for alone in (False, True):
            small = median_run([one_run(log, directory, alone=alone) for _ in range(asked.runs)])
            say("| " + " | ".join(show(small, size)) + " |")
        wanted = not asked.no_peers and importlib.util.find_spec("duckdb") is not None
        duckdb = duckdb_beside(small, log, asked.runs) if wanted else ""
        if asked.big:
            make_log(log, BIG_LINES)
            big = one_run(log, directory)
            say("| " + " | ".join(show(big, log.stat().st_size)) + " |")
        if duckdb:
            say("", duckdb)
    if asked.write:
        (ROOT / "benchmarks" / "results" / "ingest.md").write_text("\n".join(out) + "\n")


def duckdb_beside(ours: Run, log: Path, rounds: int) -> str:
    took = median([duckdb_rows(log, exact=False)[0] for _ in range(rounds)])
    return (
        f"DuckDB's group-by of the {ours.lines:,} lines, alone: {took.seconds:.2f} s; "
        f"ours, alone, {took.seconds / ours.seconds:.1f} x that rate."
    )


def peers(log: Path, lines: int) -> Iterator[tuple[str, int, Took]]:
    """Yield what each peer that is installed took for how many lines."""
    try:
        import duckdb

        took = median([duckdb_rows(log, exact=False)[0] for _ in range(3)])
        yield f"DuckDB {duckdb.__version__}, group by the first block", lines, took
    except ImportError:
        print("DuckDB is not installed")
    try:
        import polars as pl

        took = median([polars_took(log) for _ in range(3)])
        yield f"Polars {pl.__version__}, the same", lines, took
    except ImportError:
        print("Polars is not installed")
    if shutil.which("mawk"):
        yield "mawk, the same", lines, mawk_took(log)
    try:
        yield (
            f"Drain3, templates of {DRAIN_LINES:,} lines",
            DRAIN_LINES,
            drain3_took(log, DRAIN_LINES),
        )
    except ImportError:
        print("Drain3 is not installed")


if __name__ == "__main__":
    main()
