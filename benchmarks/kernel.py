"""Reading lines as fast as they can be read: the compiled kernel against peers that group.

    python benchmarks/kernel.py [--lines 2000000] [--rounds 3] [--write]

Ours: each process reads ranges of the file (from the page cache) and makes the packed summaries of
each range, the bytes that a store would get: count, first, last, levels and pattern counts by key,
positions of the first and the last line, the catalogue of patterns. Measured from a common start
until the last process is done, once every kernel is loaded.

Peers, on the same file in the same run (see `peers`): DuckDB, Polars and mawk do count, first, last
and levels by the first block of a line. Drain3 matches templates on a sample.
The answers of DuckDB for every block are compared with ours.

What favours us: the kernel is compiled beforehand (its compile time is shown); peers read text that
was not made for them. What does not: they do less. A run on a busy machine says little: compare
within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs as a file, too

import msgpack

from benchmarks.peers import drain3_took, duckdb_rows, mawk_took, polars_took
from parser.formats import BUILTIN
from parser.kernel.engine import Kernel
from parser.summary import Summary, merge, unpack
from parser.synthetic import generate

ROOT = Path(__file__).resolve().parent.parent
RANGE_BYTES = 16 << 20
SAMPLE_LINES = 50_000


def make_log(form: str, path: Path, lines: int) -> None:
    with path.open("wb") as file:
        for chunk in generate(form, lines, 5):
            file.write(chunk)


def ranges(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the file as ranges of whole lines."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size, start = os.fstat(descriptor).st_size, 0
        while start < size:
            data = os.pread(descriptor, RANGE_BYTES, start)
            data = data[: data.rfind(b"\n") + 1] if start + len(data) < size else data
            yield start, data
            start += len(data)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------------------- ours


def worker(form: str, path: Path, number: int, workers: int) -> None:
    """Take every n-th range; a line on stdin is the start, a line on stdout the end.

    In a log of fewer ranges than workers some have none.
    """
    kernel = Kernel(BUILTIN[form])
    every = [(start, len(data)) for start, data in ranges(path)]
    bounds = every[number::workers]
    descriptor = os.open(path, os.O_RDONLY)
    buffer = memoryview(bytearray(max(size for _, size in every)))  # one for all, as producers do

    def read(start: int, size: int) -> memoryview:
        view = buffer[:size]
        if os.preadv(descriptor, [view], start) != size:
            raise OSError("a short read")
        return view

    start, size = every[0]
    kernel.summarize(read(start, size), source=1, offset=start)
    print("ready", flush=True)
    sys.stdin.readline()
    lines = keys = packed = 0
    cpu = time.process_time()
    for start, size in bounds:
        result = kernel.summarize(read(start, size), source=1, offset=start)
        lines, keys, packed = lines + result.lines, keys + result.keys, packed + len(result.packed)
    cpu = time.process_time() - cpu
    print(json.dumps({"lines": lines, "keys": keys, "packed": packed, "cpu": cpu}), flush=True)


def ours(form: str, path: Path, workers: int) -> tuple[float, float, int]:
    """Return seconds, seconds of processor, lines."""
    command = [sys.executable, __file__, "--worker", form, str(path)]
    children = [
        subprocess.Popen(
            [*command, str(number), str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(workers)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    reports = []
    for child in children:
        assert child.stdout is not None
        reports.append(json.loads(child.stdout.readline()))
    seconds = time.perf_counter() - began
    for child in children:
        child.communicate()
    return seconds, sum(r["cpu"] for r in reports), sum(r["lines"] for r in reports)


def our_answer(path: Path) -> dict[bytes, Summary]:
    """All summaries of the log, merged."""
    kernel = Kernel(BUILTIN["hdfs"])
    total: dict[bytes, Summary] = {}
    for start, data in ranges(path):
        flat = msgpack.unpackb(kernel.summarize(data, source=1, offset=start).packed)
        for key, delta in zip(flat[::2], flat[1::2], strict=True):
            held, new = total.get(key), unpack(delta)
            total[key] = new if held is None else merge(held, new)
    return total


def compare(log: Path) -> str:
    """Hold every block's figures against DuckDB's."""
    answer = our_answer(log)
    _, rows = duckdb_rows(log, exact=True)
    assert len(rows) == len(answer), (len(rows), len(answer))
    for block, count, first, last, info, warn, error in rows:
        held = answer[b"block_" + block.removeprefix("blk_").encode()]
        assert held.first is not None
        assert held.last is not None
        assert (held.count, _stamp(held.first[0]), _stamp(held.last[0])) == (count, first, last)
        levels = tuple(held.levels.get(name, 0) for name in ("INFO", "WARN", "ERROR"))
        assert levels == (info, warn, error)
        assert sum(held.events.values()) == count
    return f"{len(rows):,} blocks, every count, first, last and level the same as DuckDB's"


def _stamp(moment: int | None) -> str:
    assert moment is not None
    return time.strftime("%y%m%d %H%M%S", time.gmtime(moment / 1000))


# -------------------------------------------------------------------------------------- report


def machine() -> str:
    names = ["numba", "llvmlite", "numpy", "duckdb", "polars", "drain3"]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    count = len(os.sched_getaffinity(0))
    return f"{model}, {count} processors, Python {platform.python_version()}, {versions}"


def compile_times(form: str) -> tuple[float, float]:
    """Seconds of processor until a kernel can run: not in the cache, and in it."""
    code = (
        "import time; from parser.formats import BUILTIN; from parser.kernel.engine import Kernel; "
        f"Kernel(BUILTIN[{form!r}]); print(time.process_time())"
    )
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "KVSTORE_CACHE_DIR": directory}
        times = [
            float(
                subprocess.run(
                    [sys.executable, "-c", code],
                    check=True,
                    cwd=ROOT,
                    env=environment,
                    capture_output=True,
                ).stdout
            )
            for _ in range(2)
        ]
    return times[0], times[1]


def report(lines: int, rounds: int, directory: Path) -> Iterator[str]:
    hdfs, combined = directory / "hdfs.log", directory / "combined.log"
    make_log("hdfs", hdfs, lines)
    make_log("combined", combined, lines // 2)
    yield f"# The kernel\n\n{machine()}  \n"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    yield f"{time.strftime('%Y-%m-%d %H:%M')}, medians of {rounds}, load average before {load}. "
    yield "See benchmarks/kernel.py.\n\n"
    yield f"HDFS: {lines:,} lines, {hdfs.stat().st_size / 1e6:,.0f} MB. {compare(hdfs)}.\n\n"
    sample = min(SAMPLE_LINES, lines)
    rates: dict[str, list[float]] = {}
    cpu: list[float] = []
    for _ in range(rounds):
        for name, form, path, workers in [
            ("one process", "hdfs", hdfs, 1),
            ("two processes", "hdfs", hdfs, 2),
            ("access log by client, one process", "combined", combined, 1),
        ]:
            seconds, busy, count = ours(form, path, workers)
            rates.setdefault(name, []).append(count / seconds)
            if name == "one process":
                cpu.append(count / busy)
        for name, count, took in [
            ("DuckDB", lines, duckdb_rows(hdfs, exact=False)[0]),
            ("Polars", lines, polars_took(hdfs)),
            ("mawk", lines, mawk_took(hdfs)),
            ("Drain3", sample, drain3_took(hdfs, sample)),
        ]:
            rates.setdefault(name, []).append(count / took.seconds)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    size = hdfs.stat().st_size / lines
    yield "| | M lines/s | GB/s | ours, two processes, against it |\n|---|---|---|---|\n"
    for name in ("one process", "two processes"):
        yield f"| {name} | {middle[name] / 1e6:.2f} | {middle[name] * size / 1e9:.2f} | |\n"
    for name, goal in (("DuckDB", 5), ("Polars", 5), ("mawk", 10), ("Drain3", 20)):
        ratio = middle["two processes"] / middle[name]
        rate = middle[name]
        shown = f"{rate / 1e6:.2f} | {rate * size / 1e9:.2f} | {ratio:.1f} x (goal {goal} x)"
        yield f"| {name} | {shown} |\n"
    rate = middle["access log by client, one process"]
    size = combined.stat().st_size / (lines // 2)
    yield f"| access log by client, one process | {rate / 1e6:.2f} | {rate * size / 1e9:.2f} | |\n"
    yield f"\nOne process, by its own processor time: {statistics.median(cpu) / 1e6:.2f} M lines/s."
    cold, warm = compile_times("hdfs")
    yield f" Until a kernel runs: {cold:.1f} s compiled, {warm:.2f} s from the cache,"
    yield " imports included.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="also to benchmarks/results/kernel.md")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        form, path, number, workers = options.worker
        worker(form, Path(path), int(number), int(workers))
        return
    shown = []
    with tempfile.TemporaryDirectory() as directory:
        for text in report(options.lines, options.rounds, Path(directory)):
            print(text, end="", flush=True)
            shown.append(text)
    if options.write:
        (Path(__file__).parent / "results" / "kernel.md").write_text("".join(shown))


if __name__ == "__main__":
    main()
