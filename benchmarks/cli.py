"""How long kvcli's one-shot commands take from the shell, and what moving a whole store costs.

    python benchmarks/cli.py [--keys 1000000] [--runs 15]

Whole processes are timed, the interpreter's start included, one after the other, against a server
of its own. Bias: the machine's other load counts in full; the load at the start is printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kvclient import Client
from kvclient.processes import program, running_server
from parser.summary import Summary, pack

PEAK = """
import re, sys
from kvclient.cli import cli
cli.main(sys.argv[1:], standalone_mode=False)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def timed(command: list[str]) -> float:
    started_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started_s


def moved(url: str, *args: str) -> tuple[float, float]:
    """Run a command; return its seconds and its peak of memory in MiB."""
    started_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "--url", url, *args],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seconds = time.perf_counter() - started_s
    return seconds, int(re.findall(r"\d+", done.stderr)[-1]) / 1024


def fill(client: Client, keys: int) -> None:
    """Write half strings of 100 bytes, half summaries as an HDFS log gives them."""
    position = (1_226_262_918_000, 7, 0)
    later = (1_226_282_918_000, 7, 99_999)
    events = {5 * 10**18 + n: 2 for n in range(8)}
    delta = pack(Summary(20, position, later, {"INFO": 19, "WARN": 1}, events))
    for start in range(0, keys // 2, 1000):
        numbers = range(start, min(start + 1000, keys // 2))
        client.execute("MSET", *[x for n in numbers for x in (b"key:%016d" % n, b"v" * 100)])
        client.execute("MERGE", *[x for n in numbers for x in (b"block_%016d" % n, delta)])


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--keys", type=int, default=1_000_000)
    asked.add_argument("--runs", type=int, default=15)
    options = asked.parse_args()
    print("# Command line\n")
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, load {load:.1f}.\n")
    print(f"| command | median of {options.runs}, ms | fastest | slowest |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name, running_server(Path(name) / "data") as address:
        url = f"redis://{address}"
        with Client(url, retry_s=60) as client:
            fill(client, 1000)
            key = "block_0000000000000001"
            for args in (["get", key], ["set", "a", "b"], ["ping"], ["raw", "DBSIZE"], ["keys"]):
                command = program("kvclient", "--url", url, *args)
                took = sorted(timed(command) * 1000 for _ in range(options.runs))
                median = statistics.median(took)
                print(f"| `{args[0]}` | {median:.0f} | {took[0]:.0f} | {took[-1]:.0f} |")
            fill(client, options.keys)
            file = f"{name}/store.json"
            print(f"\n| {options.keys:,} keys | s | keys/s | peak MiB |\n|---|---|---|---|")
            for args in (["export", file], ["import", file]):
                seconds, peak = moved(url, *args)
                print(
                    f"| `{args[0]}` | {seconds:.1f} | {client.size() / seconds:,.0f} | {peak:.0f} |"
                )
            size = Path(file).stat().st_size
            print(f"\nThe file: {size / 1e6:,.0f} MB.")


if __name__ == "__main__":
    main()
