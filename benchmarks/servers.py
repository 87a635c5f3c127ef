"""kvserver and redis-server: started until they have loaded everything, asked, loaded, and ended.

Redis runs with its append-only file on and its own rewriting off, so that both load what they wrote
while serving.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hiredis

from kvclient.protocol import encode

ROOT = Path(__file__).resolve().parent.parent
REDIS = shutil.which("redis-server")
BENCHMARK = shutil.which("redis-benchmark")
CLIENT_CORES = "0"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def publish(lines: Iterable[str], path: Path | None) -> None:
    """Show each line of a report as soon as it is there; write all of them, if somewhere."""
    shown = []
    for line in lines:
        print(line, flush=True)
        shown.append(line)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(shown) + "\n", encoding="utf-8")


def report(description: str, measure: Callable[[int], Iterator[str]], results: Path) -> None:
    """Be the command of a benchmark that a client with a core for itself runs on both servers."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=results)
    options = parser.parse_args()
    if REDIS is None:
        sys.exit("redis-server is not installed (Debian: apt-get install redis-server)")
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {int(CLIENT_CORES)})
    random.seed(1)
    publish(measure(options.rounds), options.out)


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(port: int, *command: bytes) -> object:
    """Send one command on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=600) as sock:
        sock.sendall(encode(*command))
        reader = hiredis.Reader()
        while (reply := reader.gets()) is False:
            reader.feed(sock.recv(65536))
        return reply


def is_rewriting(port: int) -> bool:
    """Whether a server makes its journal shorter beside serving, or is about to."""
    info = ask(port, b"INFO", b"persistence")
    assert isinstance(info, bytes)
    return b"aof_rewrite_in_progress:1" in info or b"aof_rewrite_scheduled:1" in info


@dataclass
class Server:
    """A server that has loaded what there was."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    start_s: float
    log: Path
    start_cpu_s: float = 0.0
    """Processor time until it was ready: what a busy machine does not change."""

    def ask(self, *command: bytes) -> object:
        """Send one command on a connection of its own."""
        return ask(self.port, *command)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def rss_mb(self) -> float:
        """Return its memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


def start(name: str, directory: Path, policy: str, *options: str) -> Server:
    """Start a server and wait until it has loaded everything."""
    directory.mkdir(exist_ok=True)
    port = free_port()
    log = directory.parent / f"{name}.log"
    if name == "redis":
        assert REDIS is not None
        command = [REDIS, "--port", str(port), "--dir", str(directory), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", policy]
        command += ["--auto-aof-rewrite-percentage", "0", "--aof-use-rdb-preamble", "no"]
    else:
        command = [sys.executable, "-m", "kvserver", "--port", str(port), "--fsync", policy]
        command += ["--data-dir", str(directory), *options]
    began = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
    server = Server(name, process, port, 0.0, log)
    while True:
        if process.poll() is not None:
            raise RuntimeError(log.read_text()[-2000:])
        with contextlib.suppress(OSError):
            if not isinstance(server.ask(b"DBSIZE"), hiredis.ReplyError):
                break
        time.sleep(0.01)
    server.start_s = time.perf_counter() - began
    server.start_cpu_s = cpu_s(process.pid)
    return server


@contextlib.contextmanager
def running(name: str, directory: Path, policy: str, *options: str) -> Iterator[Server]:
    server = start(name, directory, policy, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def requests_per_s(server: Server, count: int, *options: str) -> float:
    assert BENCHMARK is not None
    command = [BENCHMARK, "-p", str(server.port), "-n", str(count), "-c", "50", "--csv", *options]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = list(csv.reader(io.StringIO(said)))
    return float(rows[-1][1])
