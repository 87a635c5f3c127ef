"""What durability costs: appends, restart, compaction; beside redis-server where it has the same.

    python benchmarks/journal.py [--keys 1000000] [--quick] [--markdown FILE]

Bias: written by the authors of kvserver; client, both servers and the compaction child share the
machine's cores. Trust the ratios, not the absolute figures. Redis runs with its append-only file
on and its own rewriting off, so that both load what they wrote while serving.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import os
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import hiredis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs as a file, too

from benchmarks.servers import (
    BENCHMARK,
    REDIS,
    Server,
    is_rewriting,
    publish,
    requests_per_s,
    running,
    start,
)
from kvclient.protocol import encode

WORK = os.environ.get("KVSTORE_BENCH_DIR")
"""Where the data goes; the system's directory for temporary files unless set."""

# ------------------------------------------------------------------------------------- appends


def append_costs() -> list[tuple[str, str]]:
    """The writer alone, without a server."""
    from kvserver.journal.fs import RealFileSystem
    from kvserver.journal.recovery import recover

    rows = []
    with tempfile.TemporaryDirectory(dir=WORK) as directory:
        journal, _ = recover(RealFileSystem(directory), lambda _effects: None)
        for size in (1, 50, 800):
            effects = [("set", b"key:%012d" % n, b"xxx") for n in range(size)]
            rounds = 400_000 // (size + 20)
            times = []
            for _ in range(5):
                began = time.perf_counter()
                for _ in range(rounds):
                    journal.append(effects)
                times.append((time.perf_counter() - began) / rounds)
                journal.maintain()
            cost = statistics.median(times)
            rows.append(
                (f"append, {size} effects a record", f"{cost * 1e6 / size:.2f} µs an effect")
            )
        journal.close()
    return rows


def serving(keys: int, rounds: int) -> list[tuple[str, float, float]]:
    rows = []
    for policy in ("always", "everysec", "no"):
        for pipeline in ("1", "16"):
            count = keys // 4 if pipeline == "1" else keys
            if policy == "always":
                count //= 10
            options = ("-t", "set", "-r", "1000000", "-d", "100", "-P", pipeline)
            found: dict[str, list[float]] = {"redis": [], "kvserver": []}
            for _ in range(rounds):
                for name, rates in found.items():
                    with (
                        tempfile.TemporaryDirectory(dir=WORK) as directory,
                        running(name, Path(directory) / "d", policy) as server,
                    ):
                        rates.append(requests_per_s(server, count, *options))
            ours, theirs = (statistics.median(found[name]) for name in ("kvserver", "redis"))
            rows.append((f"SET, {policy}, pipeline {pipeline}", ours, theirs))
    return rows


# ------------------------------------------------------------------------------------- restart


def restart(keys: int, rounds: int) -> list[tuple[str, float, float]]:
    """Keys a second of processor time until ready, less what an empty start takes."""
    rates: dict[str, list[float]] = {"redis": [], "kvserver": [], "redis base": [], "base": []}
    for _ in range(rounds):
        for name in ("redis", "kvserver"):
            with (
                tempfile.TemporaryDirectory(dir=WORK) as directory,
                contextlib.ExitStack() as stack,
            ):
                data = Path(directory) / "d"
                with running(name, Path(directory) / "empty", "everysec") as server:
                    empty_s = server.start_cpu_s
                server = start(name, data, "everysec", "--compaction-min", "100gb")
                stack.callback(server.kill)
                options = ("-t", "set", "-r", str(keys), "-d", "100", "-P", "16")
                requests_per_s(server, 2 * keys, *options)
                written = int(str(server.ask(b"DBSIZE")))
                server.kill()
                server = start(name, data, "everysec", "--compaction-min", "100gb")
                stack.callback(server.kill)
                assert server.ask(b"DBSIZE") == written
                rates[name].append(2 * keys / (server.start_cpu_s - empty_s))
                if name == "kvserver":
                    compact(server)
                else:
                    rewrite(server)
                server.stop()
                server = start(name, data, "everysec")
                stack.callback(server.kill)
                folded = "base" if name == "kvserver" else "redis base"
                rates[folded].append(written / (server.start_cpu_s - empty_s))
                server.stop()
    ours, theirs, base, theirs_base = (
        statistics.median(rates[name]) for name in ("kvserver", "redis", "base", "redis base")
    )
    return [
        ("restart: writes replayed in a second of processor time", ours, theirs),
        ("restart after compaction: keys, the same", base, theirs_base),
    ]


def rewrite(server: Server) -> None:
    """Let Redis rewrite its file, and wait for that."""
    server.ask(b"BGREWRITEAOF")
    while is_rewriting(server.port):
        time.sleep(0.05)


def compact(server: Server) -> tuple[float, float]:
    """Run a compaction; return its seconds and the peak memory of the child in MB."""
    server.ask(b"BGREWRITEAOF")
    began, peak = time.perf_counter(), 0.0
    while True:
        figures = server.ask(b"STATS")
        assert isinstance(figures, list)
        named = dict(zip(figures[::2], figures[1::2], strict=True))
        if named[b"compaction_runs"] or named[b"compaction_failed_runs"]:
            assert not named[b"compaction_failed_runs"], named[b"compaction_last_error"]
            return time.perf_counter() - began, peak
        peak = max(peak, _child_peak_mb(server.process.pid))
        time.sleep(0.05)


def _child_peak_mb(pid: int) -> float:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError, IndexError):
            for child in task.read_text().split():
                status = Path(f"/proc/{child}/status").read_text()
                return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024
    return 0.0


# ------------------------------------------------------------------------- compaction's effect


class Probe:
    """A client that asks in a closed loop and notes how long each answer took."""

    def __init__(self, port: int, keys: int):
        self.port, self.keys = port, keys
        self.latencies_ms: list[tuple[float, float]] = []
        """When it was asked, and how long the answer took."""
        self._stop = threading.Event()

    def run(self) -> None:
        """Ask until told to stop."""
        reader = hiredis.Reader()
        with socket.create_connection(("127.0.0.1", self.port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            n = 0
            while not self._stop.is_set():
                n += 1
                key = b"key:%012d" % (n * 7919 % self.keys)
                command = (b"GET", key) if n % 2 else (b"SET", key, b"v" * 100)
                data = encode(*command)
                began = time.perf_counter()
                sock.sendall(data)
                while reader.gets() is False:
                    reader.feed(sock.recv(65536))
                self.latencies_ms.append((began, (time.perf_counter() - began) * 1000))

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def within(self, spans: list[tuple[float, float]]) -> list[float]:
        """Return the latencies of what was asked in these spans, sorted."""
        found = []
        for begin, end in spans:
            low = bisect.bisect(self.latencies_ms, (begin, 0.0))
            high = bisect.bisect(self.latencies_ms, (end, 0.0))
            found += [latency for _, latency in self.latencies_ms[low:high]]
        return sorted(found)


Spans = list[tuple[float, float]]


def compact_by_turns(server: Server, span_s: float = 0.25) -> tuple[Spans, Spans]:
    """Compact while the child is stopped every other quarter of a second.

    Returns when it ran and when it stood still: both see the same machine, whatever else goes on.
    """
    server.ask(b"BGREWRITEAOF")
    running_spans: Spans = []
    stopped_spans: Spans = []
    while (child := _child(server.process.pid)) is None:
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        while _child(server.process.pid) == child:
            for number, spans in ((signal.SIGSTOP, stopped_spans), (signal.SIGCONT, running_spans)):
                os.kill(child, number)
                began = time.perf_counter()
                time.sleep(span_s)
                spans.append((began, time.perf_counter()))
    return running_spans, stopped_spans


def _child(pid: int) -> int | None:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                if b"kvserver.journal.compactor" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return child
    return None


def compaction_effect(keys: int) -> list[tuple[str, str]]:
    with tempfile.TemporaryDirectory(dir=WORK) as directory:
        data = Path(directory) / "d"
        with running("kvserver", data, "everysec", "--compaction-min", "100gb") as server:
            options = ("-t", "set", "-r", str(keys), "-d", "100", "-P", "16")
            requests_per_s(server, 2 * keys, *options)
            size = sum(path.stat().st_size for path in data.iterdir())
            high = [0]

            def watch() -> None:
                while not done.wait(0.02):
                    with contextlib.suppress(OSError):
                        high[0] = max(high[0], sum(p.stat().st_size for p in data.iterdir()))

            done = threading.Event()
            watcher = threading.Thread(target=watch)
            watcher.start()
            seconds, child_mb = compact(server)
            done.set()
            watcher.join()
            live = sum(path.stat().st_size for path in data.iterdir())
            requests_per_s(server, 2 * keys, *options)
            with Probe(server.port, keys) as probe:
                ran, stood = compact_by_turns(server)
            during, without = probe.within(ran), probe.within(stood)
            rss_mb = server.rss_mb()
    late, usual = (each[int(len(each) * 0.999)] for each in (during, without))
    over = [sum(latency > 10 for latency in each) for each in (during, without)]
    bound = 2 * live + size
    return [
        ("journal before", f"{size / 1e6:.0f} MB, {keys:,} keys, 2 writes a key"),
        ("compaction", f"{seconds:.1f} s, to {live / 1e6:.0f} MB"),
        ("child's peak memory", f"{child_mb:.0f} MB; the server's {rss_mb:.0f} MB"),
        (
            "disk at its highest",
            f"{high[0] / 1e6:.0f} MB = {high[0] / bound:.2f} of bound",
        ),
        ("p99.9 while it stands still", f"{usual:.3f} ms (longest {without[-1]:.1f} ms)"),
        ("p99.9 while it runs", f"{late:.3f} ms (longest {during[-1]:.1f} ms)"),
        ("ratio of p99.9", f"{late / usual:.2f}"),
        (
            "answers over 10 ms",
            f"{over[0]} of {len(during):,}, {over[1]} of {len(without):,} without",
        ),
    ]


def report(keys: int, rounds: int) -> Iterator[str]:
    version = "none here"
    if REDIS:
        said = subprocess.run([REDIS, "--version"], capture_output=True, text=True, check=True)
        version = said.stdout.split("v=")[1].split()[0]
    yield "# Journal\n"
    yield f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},"
    yield f"Python {platform.python_version()}, Redis {version}, median of {rounds}.\n"
    yield "## The writer alone\n"
    for name, value in append_costs():
        yield f"- {name}: {value}"
    if REDIS and BENCHMARK:
        yield "\n## Side by side with Redis\n"
        yield "| | kvserver | Redis | ratio |\n|---|---|---|---|"
        for name, ours, theirs in (*serving(keys, rounds), *restart(keys, rounds)):
            yield f"| {name} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |"
    yield "\n## Compaction while serving\n"
    for name, value in compaction_effect(keys):
        yield f"- {name}: {value}"
    yield "\nNot measured: a device of its own for the journal; many clients during compaction."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="100,000 keys, once")
    parser.add_argument("--only", choices=["restart", "compaction", "append"])
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    keys, rounds = (100_000, 1) if options.quick else (options.keys, options.rounds)
    if options.only == "restart":
        print(*restart(keys, rounds), sep="\n")
        return
    if options.only == "compaction":
        print(*compaction_effect(keys), sep="\n")
        return
    if options.only == "append":
        print(*append_costs(), sep="\n")
        return
    publish(report(keys, rounds), options.markdown)


if __name__ == "__main__":
    main()
