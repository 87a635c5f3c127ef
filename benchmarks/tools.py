"""The everyday tools: grep, tail, stats, summarize, generate, and FIND on a million summaries.

    python benchmarks/tools.py [--lines 2000000] [--keys 1000000] [--write]

Peers are what is installed: grep, zgrep, tail, goaccess. Both sides run as commands from the shell,
start included, on the same file in the page cache; medians of 3, wall clock and (in brackets) CPU
of all processes; the answers are compared. FIND runs on a real server that holds a million
summaries of 18 events; while the index catches up and queries run, another client asks PING all the
time, and its latencies are shown: they are what FIND costs everybody else.

What favours us: files in the page cache, a machine with little else to do. What does not: grep is
one process in C, and the start of Python is in every figure.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs as a file, too

import msgpack

from kvclient import Client
from parser.summary import Summary, pack
from parser.synthetic import FORMATS, generate

ROOT = Path(__file__).resolve().parent.parent
KVCLI = [sys.executable, "-m", "kvclient"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
PATTERNS = ["WARN", "blk_123 ", "ERROR|WARN", "WARN.*serving", "[0-9]+ WARN", "INFO"]


class Took(NamedTuple):
    """Medians of three runs, and what the last one said."""

    wall_s: float
    cpu_s: float
    """Of all processes together; says more where others use the machine too."""
    said: bytes

    def __str__(self) -> str:
        return f"{self.wall_s:.2f} ({self.cpu_s:.2f})"


def timed(command: Sequence[str]) -> Took:
    """Run a command three times."""
    walls, cpus = [], []
    said = b""
    for _ in range(3):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
        walls.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        said = done.stdout
    return Took(statistics.median(walls), statistics.median(cpus), said)


def searching(log: Path, packed: Path) -> list[str]:
    rows = ["| search | kvcli log grep -c | grep -cE | ratio (of CPU) |", "|---|---|---|---|"]

    def row(name: str, ours: Took, theirs: Took) -> None:
        assert ours.said == theirs.said, (name, ours.said, theirs.said)
        shown = name.replace("|", "\\|")
        ratio = f"{ours.wall_s / theirs.wall_s:.1f} ({ours.cpu_s / theirs.cpu_s:.1f})"
        rows.append(f"| {shown} | {ours} | {theirs} | {ratio} |")

    for pattern in PATTERNS:
        ours = timed([*KVCLI, "log", "grep", str(log), pattern, "-c"])
        row(f"`{pattern}`", ours, timed(["grep", "-cE", pattern, str(log)]))
    if shutil.which("zgrep"):
        ours = timed([*KVCLI, "log", "grep", str(packed), "WARN", "-c"])
        row("`WARN`, gzip", ours, timed(["zgrep", "-c", "WARN", str(packed)]))
    return rows


def others(log: Path, access: Path, lines: int) -> list[str]:
    rows = ["| command | seconds (CPU) | lines/s | peer |", "|---|---|---|---|"]
    ours, theirs = timed([*KVCLI, "log", "tail", str(log)]), timed(["tail", "-n20", str(log)])
    assert ours.said == theirs.said
    rows.append(f"| `log tail -n 20` | {ours} | | tail {theirs} |")
    few = min(lines, 200_000)
    short = log.with_suffix(".short")
    short.write_bytes(b"".join(generate("hdfs", few, 1)))

    def row(name: str, took: Took, of: int, peer: str = "") -> None:
        rows.append(f"| `log {name}` of {of:,} lines | {took} | {of / took.wall_s:,.0f} | {peer} |")

    for name in ("parse", "stats", "histogram", "summarize"):
        row(name, timed([*KVCLI, "log", name, str(short), "--json"]), few)
    row("stats", timed([*KVCLI, "log", "stats", str(log), "--json"]), lines)
    many = timed([*KVCLI, "log", "summarize", str(log), "--threshold", "1000000"])
    row("summarize", many, lines)
    ours = timed([*KVCLI, "log", "stats", str(access), "--json"])
    told = ""
    if shutil.which("goaccess"):
        report = access.with_suffix(".json")
        theirs = timed(
            ["goaccess", str(access), "--log-format=COMBINED", "-o", str(report), "--no-progress"]
        )
        general = json.loads(report.read_text())["general"]
        assert general["total_requests"] == json.loads(ours.said)["lines"]
        told = f"goaccess {theirs}, the same total"
    row("stats --format combined", ours, few, told)
    return rows


def writing() -> list[str]:
    rows = ["| `log generate --format` | lines/s |", "|---|---|"]
    for name in FORMATS:
        began = time.perf_counter()
        for _ in generate(name, 300_000, 1):
            pass
        rows.append(f"| {name} | {300_000 / (time.perf_counter() - began):,.0f} |")
    return rows


# ------------------------------------------------------------------------------------------- FIND


def summaries(keys: int) -> list[tuple[bytes, bytes]]:
    """Make keys with 18 events of 8 kinds out of 40, a tenth with WARN, a hundredth with ERROR."""
    chance = random.Random(1)
    ids = list(range(1, 41))
    made = []
    for n in range(2000):
        levels = {"INFO": 18}
        if n % 10 == 0:
            levels["WARN"] = 2
        if n % 100 == 0:
            levels["ERROR"] = 1
        first = 1_226_262_918_000 + chance.randrange(10**8)
        last = first + chance.randrange(10**6)
        events = {id_: chance.randrange(1, 4) for id_ in chance.sample(ids, 8)}
        made.append(
            pack(Summary(chance.randrange(1, 40), (first, 1, 0), (last, 1, 9), levels, events))
        )
    return [(b"block_%d" % chance.getrandbits(60), made[n % 2000]) for n in range(keys)]


def fill(client: Client, keys: int) -> None:
    rows = summaries(keys)
    for at in range(0, keys, 5000):
        flat = [part for row in rows[at : at + 5000] for part in row]
        header = {
            "source": 7,
            "ranges": [[at, at + 5000]],
            "books": {"lines": 5000, "matched": 5000, "unparsed": 0, "skipped": 0},
            "patterns": {n: [b"pattern number %d of words" % n, 1] for n in range(1, 41)},
        }
        client.execute("INGEST", msgpack.packb(header), msgpack.packb(flat))


class Bystander(threading.Thread):
    """Another client, which asks PING all the time."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.waits_ms: list[float] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        """Ask until told to stop."""
        with Client(self.url) as client:
            while not self.stopped.is_set():
                began = time.perf_counter()
                client.ping()
                self.waits_ms.append((time.perf_counter() - began) * 1000)
                time.sleep(0.0005)

    def told(self) -> str:
        """How long it waited."""
        waits = sorted(self.waits_ms)
        p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        return f"{p50:.2f} / {p99:.2f} / {waits[-1]:.1f}"


QUERIES: dict[str, list[str]] = {
    "first query ever, indexes everything": ["LIMIT", "1"],
    "LEVEL ERROR": ["LEVEL", "ERROR"],
    "LEVEL ERROR SORT count": ["LEVEL", "ERROR", "SORT", "count"],
    "SORT count LIMIT 10, first time": ["SORT", "count", "LIMIT", "10"],
    "SORT count LIMIT 10": ["SORT", "count", "LIMIT", "10"],
    "SINCE (0.2 % of keys), first time": ["SINCE", str(1_226_262_918_000 + 10**8)],
    "SINCE (0.2 % of keys)": ["SINCE", str(1_226_262_918_000 + 10**8)],
    "SINCE (half) LEVEL WARN": ["SINCE", str(1_226_262_918_000 + 5 * 10**7), "LEVEL", "WARN"],
    "TEMPLATE": ["TEMPLATE", "0000000000000001"],
    "TEXT LEVEL MINCOUNT": ["TEXT", "number 7 ", "LEVEL", "WARN", "MINCOUNT", "35"],
    "block_12345* (no index helps)": ["block_12345*"],
}


def finding(keys: int) -> list[str]:
    rows = [
        "| FIND | ms | index | candidates | PING of another client meanwhile, p50 / p99 / max ms |",
        "|---|---|---|---|---|",
    ]
    with (
        tempfile.TemporaryDirectory() as directory,
        Server(directory) as url,
        Client(url, timeout_s=120) as client,
    ):
        fill(client, keys)
        for name, words in QUERIES.items():
            bystander = Bystander(url)
            bystander.start()
            time.sleep(0.2)
            took = []
            for _ in range(1 if "first" in name else 5):
                began = time.perf_counter()
                client.execute("FIND", *words)
                took.append((time.perf_counter() - began) * 1000)
            time.sleep(0.2)
            bystander.stopped.set()
            bystander.join()
            flat = client.execute("FIND", *words, "EXPLAIN")
            told = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
            rows.append(
                f"| {name} | {statistics.median(took):,.1f} | {told[b'index'].decode()} |"
                f" {told[b'candidates']:,} | {bystander.told()} |"
            )
        size = client.stats()["find_index_bytes"]
    rows.append("")
    rows.append(f"{keys:,} summaries; the index takes {size / 1e6:,.0f} MB, all orders included.")
    return rows


class Server:
    """A server in a process of its own."""

    def __init__(self, directory: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kvserver", "--port", "0", "--data-dir", directory],
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            ready = re.search(r"ready.*?(\d+\.\d+\.\d+\.\d+:\d+)", line)
            if ready:
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return f"redis://{ready[1]}"
        raise RuntimeError("the server did not start")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


# ------------------------------------------------------------------------------------------- main


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=2_000_000)
    options.add_argument("--keys", type=int, default=1_000_000)
    options.add_argument("--write", action="store_true", help="into benchmarks/results/tools.md")
    asked = options.parse_args()
    out = [
        "# Tools",
        "",
        (
            f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()};"
            f" HDFS-like log of {asked.lines:,} lines. Medians of 3, start of the program included;"
            f" load average before: {os.getloadavg()[0]:.1f}."
        ),
        "",
    ]

    def part(work: Callable[[], list[str]]) -> None:
        rows = work()
        print("\n".join(rows), flush=True)
        out.extend([*rows, ""])

    with tempfile.TemporaryDirectory() as directory:
        log, access = Path(directory) / "hdfs.log", Path(directory) / "access.log"
        packed = Path(directory) / "hdfs.log.gz"
        with log.open("wb") as file, gzip.open(packed, "wb", compresslevel=1) as squeezed:
            for chunk in generate("hdfs", asked.lines, 1):
                file.write(chunk)
                squeezed.write(chunk)
        access.write_bytes(b"".join(generate("combined", min(asked.lines, 200_000), 1)))
        part(lambda: searching(log, packed))
        part(lambda: others(log, access, asked.lines))
    part(writing)
    part(lambda: finding(asked.keys))
    if asked.write:
        (ROOT / "benchmarks" / "results" / "tools.md").write_text("\n".join(out))


if __name__ == "__main__":
    main()
