"""The server beside Debian's redis-server, in one run, on one machine.

Usage: ``python benchmarks/server.py [--rounds 3] [--quick] [--out benchmarks/results/server.md]``

Both keep an append-only journal that is synced every second. Each row runs ``redis-benchmark``
against one and then the other, several rounds in turn; the figure is the median, and what counts is
the ratio: absolute figures belong to the machine and to what else it is doing. Needs redis-server
and redis-benchmark. Compare like with like: Debian's Redis with Debian's Python, which is compiled
with its own profile; one that pyenv compiled takes a quarter more time in the interpreter.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs as a file, too

from benchmarks.servers import CLIENT_CORES, ROOT, cpu_s, free_port, is_rewriting, publish

RESULTS = Path(__file__).resolve().parent / "results" / "server.md"
MEMORY_KEYS = 1_000_000

NOT_MEASURED = [
    "several benchmark processes, or one on another machine: on two cores the client takes as much",
    "TLS, Unix sockets, publish/subscribe; for pipelines of different commands see `pipelines.py`",
    "values over 1 KiB, and memory with values of other sizes than 100 bytes",
    "`--fsync always`: there the device decides, not the server",
]


def on_cores(cores: str) -> list[str]:
    """Return what to write before a command that shall run there.

    Left to itself the scheduler now and then puts client and server on one core for a whole row,
    which decides more than the servers do.
    """
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        return []
    return ["taskset", "-c", cores]


SERVER_CORES = f"1-{max(1, (os.cpu_count() or 1) - 1)}"


@dataclass(frozen=True)
class Row:
    """One comparison: what to run, and the ratio that is wanted if one is."""

    name: str
    options: str
    requests: int
    wanted: dict[str, float | None]
    client_cores: str = CLIENT_CORES


ROWS = [
    Row("50 clients", "-t set,get -c 50", 200_000, {"SET": 1.0, "GET": 1.0}),
    Row(
        "50 clients, spread keys", "-t set,get -c 50 -r 1000000", 200_000, {"SET": 1.0, "GET": 1.0}
    ),
    Row("50 clients, 1 KiB", "-t set,get -c 50 -d 1024", 200_000, {"SET": 1.0, "GET": 1.0}),
    Row("pipeline 16", "-t set,get -c 50 -P 16", 1_000_000, {"SET": 1.5, "GET": 1.0}),
    Row(
        "pipeline 16, spread keys",
        "-t set,get -c 50 -P 16 -r 1000000",
        1_000_000,
        {"SET": 1.5, "GET": 1.0},
    ),
    Row("pipeline 16, 1 KiB", "-t set,get -c 50 -P 16 -d 1024", 400_000, {"SET": 1.5, "GET": 1.0}),
    Row(
        "pipeline 16, 1 KiB, spread keys",
        "-t set,get -c 50 -P 16 -d 1024 -r 1000000",
        400_000,
        {"SET": 1.5, "GET": 1.0},
    ),
    Row(
        "50 clients, 1 KiB, spread keys",
        "-t set,get -c 50 -d 1024 -r 1000000",
        200_000,
        {"SET": 1.0, "GET": 1.0},
    ),
    Row("1 client", "-t set,get -c 1", 40_000, {"SET": 0.8, "GET": 0.8}),
    Row(
        "1 client, 1 KiB, spread keys",
        "-t set,get -c 1 -d 1024 -r 1000000",
        40_000,
        {"SET": 0.8, "GET": 0.8},
    ),
    Row("1 client, same core", "-t set,get -c 1", 40_000, {"SET": 0.8, "GET": 0.8}, SERVER_CORES),
    Row("MSET of 10 keys", "-t mset -c 50", 100_000, {"MSET": 1.0}),
    Row("MSET of 10 keys, spread", "-t mset -c 50 -r 1000000", 100_000, {"MSET": 1.0}),
    Row("MSET of 10 keys, 1 KiB", "-t mset -c 50 -d 1024", 100_000, {"MSET": 1.0}),
    Row(
        "MSET of 10 keys, 1 KiB, spread", "-t mset -c 50 -d 1024 -r 1000000", 40_000, {"MSET": 1.0}
    ),
    Row("50 clients, spread keys", "-t incr -c 50 -r 1000000", 200_000, {"INCR": None}),
    Row("pipeline 16, spread keys", "-t incr -c 50 -P 16 -r 1000000", 1_000_000, {"INCR": None}),
]

ROWS_OF_FULL = [
    Row(
        "pipeline 16, spread keys that are all there",
        "-t get -c 50 -P 16 -r 1000000",
        1_000_000,
        {"GET": 1.0},
    ),
]
"""With the servers that the memory was measured of."""


@dataclass
class Peer:
    """One of the two servers."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def resident_bytes(self) -> int:
        """Its memory."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * resource.getpagesize()


@contextlib.contextmanager
def started(name: str, command: list[str], port: int) -> Iterator[Peer]:
    """Run a server until it answers, and end it at the end."""
    process = subprocess.Popen(
        [*on_cores(SERVER_CORES), *command], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as one:
                one.sendall(b"PING\r\n")
                if one.recv(64) == b"+PONG\r\n":
                    break
            time.sleep(0.05)
        yield Peer(name, port, process)
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextlib.contextmanager
def both(directory: Path) -> Iterator[tuple[Peer, Peer]]:
    """Run both servers, each with an empty directory of its own."""
    ours, theirs = directory / "kvserver", directory / "redis"
    theirs.mkdir()
    our_port, their_port = free_port(), free_port()
    kvserver = [sys.executable, "-m", "kvserver", "--port", str(our_port), "--data-dir", str(ours)]
    kvserver += ["--fsync", "everysec", "--log-level", "warning"]
    redis = ["redis-server", "--port", str(their_port), "--dir", str(theirs), "--save", ""]
    redis += ["--appendonly", "yes", "--appendfsync", "everysec"]
    with started("kvserver", kvserver, our_port) as one, started("redis", redis, their_port) as two:
        yield one, two


def come_to_rest(peers: tuple[Peer, Peer]) -> None:
    """Wait until neither does more than serve, and all that was written is on the disk.

    Otherwise what one of them left behind would be paid by the other.
    """
    while any(is_rewriting(peer.port) for peer in peers):
        time.sleep(0.2)
    os.sync()


def benchmark(peer: Peer, row: Row, requests: int) -> dict[str, tuple[float, float]]:
    """Run a row once; return requests a second and processor microseconds of each test."""
    figures = {}
    tests = row.options.split()[1].split(",")
    rest = row.options.split()[2:]
    for test in tests:
        before = cpu_s(peer.process.pid)
        command = ["redis-benchmark", "-p", str(peer.port), "-n", str(requests), "--csv"]
        done = subprocess.run(
            [*on_cores(row.client_cores), *command, "-t", test, *rest],
            capture_output=True,
            text=True,
            check=True,
        )
        table = list(csv.reader(io.StringIO(done.stdout)))
        figures[test.upper()] = (
            float(table[-1][1]),
            (cpu_s(peer.process.pid) - before) / requests * 1e6,
        )
    return figures


def memory_per_key(peer: Peer) -> float:
    """Fill a server; return the bytes a key of 16 bytes with a value of 100 takes."""
    before = peer.resident_bytes()
    with socket.create_connection(("127.0.0.1", peer.port)) as sock:
        for start in range(0, MEMORY_KEYS, 100):
            sock.sendall(
                b"".join(
                    b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$100\r\n%b\r\n" % (n, b"x" * 100)
                    for n in range(start, start + 100)
                )
            )
            left = 500
            while left:
                left -= len(sock.recv(left))
    time.sleep(1.5)
    return (peer.resident_bytes() - before) / MEMORY_KEYS


def machine() -> str:
    """What this was measured on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def versions() -> str:
    """Versions of everything that has a part in the figures."""
    from importlib.metadata import version

    redis = subprocess.run(
        ["redis-server", "--version"], capture_output=True, text=True, check=True
    )
    ours = ", ".join(f"{name} {version(name)}" for name in ("trio", "hiredis", "msgpack"))
    built = "the system's" if sys.base_prefix == "/usr" else "built by itself"
    return (
        f"Python {platform.python_version()} ({built}), {ours}; "
        f"Redis {redis.stdout.split()[2][2:]} (the system's)"
    )


def compared(row: Row, peers: tuple[Peer, Peer], rounds: int, requests: int) -> Iterator[str]:
    """Run a row against both in turn; yield its lines of the table."""
    runs: dict[str, list[dict[str, tuple[float, float]]]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            come_to_rest(peers)
            runs[peer.name].append(benchmark(peer, row, requests))
    for test, wanted in row.wanted.items():
        ours, theirs = (
            [statistics.median(run[test][part] for run in runs[peer.name]) for part in (0, 1)]
            for peer in peers
        )
        each = sorted(
            our_run[test][0] / their_run[test][0]
            for our_run, their_run in zip(*runs.values(), strict=True)
        )
        yield (
            f"| {test}, {row.name} | {ours[0]:,.0f} | {theirs[0]:,.0f} "
            f"| {ours[0] / theirs[0]:.2f} | {each[0]:.2f}-{each[-1]:.2f} "
            f"| {'' if wanted is None else f'{wanted:.1f}'} "
            f"| {ours[1]:.2f} | {theirs[1]:.2f} |"
        )


def measure(rounds: int, share: float, *, fresh: bool) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "# The server beside redis-server\n"
    yield f"- machine: {machine()}; load before the run: {os.getloadavg()[0]:.1f}"
    yield f"- versions: {versions()}"
    yield "- both with an append-only journal, synced every second; all figures in one run, "
    yield f"  medians of {rounds} rounds in turn; `cpu` is the server's processor time a request"
    yield "- a run begins when neither server rewrites its journal and the disk is at rest, so that"
    yield "  what one of them does beside serving is not paid by the other"
    yield "- `rounds`: the lowest and the highest ratio of one round"
    yield "- of spread keys a GET finds those that the SETs before it happened to hit: 63 % in the"
    yield "  first round with empty servers, 95 % in the third"
    yield "- the rows without spread keys favour us: a chunk that equals the one before is"
    yield "  recognised, and of SETs of one key our journal gets the last, where Redis writes each"
    yield "- redis-benchmark has the first core for itself, the servers the others, except where a"
    yield "  lone client shares the server's core"
    if fresh:
        yield "- each row with servers that were empty before it\n"
    else:
        yield "- all rows on the same two servers, which keep the keys of the rows before\n"
    yield "| test | kvserver/s | redis/s | ratio | rounds | wanted | our cpu µs | redis cpu µs |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for rows in [[row] for row in ROWS] if fresh else [ROWS]:
        with tempfile.TemporaryDirectory() as scratch, both(Path(scratch)) as peers:
            for row in rows:
                yield from compared(row, peers, rounds, max(1000, int(row.requests * share)))
    with tempfile.TemporaryDirectory() as scratch, both(Path(scratch)) as peers:
        ours, theirs = map(memory_per_key, peers)
        for row in ROWS_OF_FULL:
            yield from compared(row, peers, rounds, max(1000, int(row.requests * share)))
    yield (
        f"\nMemory of {MEMORY_KEYS:,} keys of 16 bytes with values of 100: {ours:.0f} bytes a key, "
        f"Redis {theirs:.0f}; ratio {ours / theirs:.2f} (wanted: at most 1.3)."
    )
    yield f"\nLoad after the run: {os.getloadavg()[0]:.1f}. Not measured:\n"
    yield from (f"- {line}" for line in NOT_MEASURED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--fresh", action="store_true", help="empty servers for every row")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for name in ("redis-server", "redis-benchmark"):
        if shutil.which(name) is None:
            sys.exit(f"{name} is not installed (Debian: apt-get install redis-server redis-tools)")
    share = 0.1 if options.quick else 1.0
    publish(measure(options.rounds, share, fresh=options.fresh), options.out)


if __name__ == "__main__":
    main()
