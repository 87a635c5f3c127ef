"""A follower that is killed and started again, over logs that rotate in every way at random.

The writer gives every line a key of its own, so that each that is counted twice or lost shows.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvclient.client import Client
from tests.support import ROOT, ServerProcess


@pytest.fixture
def server(cleared_server: ServerProcess) -> ServerProcess:
    return cleared_server


def start_follower(server: ServerProcess, logs: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kvclient", "--url", server.url, "ingest", "--follow"]
    return subprocess.Popen(
        [*command, "--format", "hdfs", str(logs)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


class Writer:
    """Writes a log and rotates it."""

    def __init__(self, logs: Path, draw: random.Random) -> None:
        self.logs, self.draw = logs, draw
        self.path = logs / "app.log"
        self.file = self.path.open("ab", buffering=0)
        self.lines = self.files = 0
        self.rest = b""

    def line(self) -> bytes:
        self.lines += 1
        n = self.lines
        return b"081109 %06d %d INFO dfs.DataNode: got blk_%d\n" % (n % 60, n, n)

    def write(self) -> None:
        data = self.rest + b"".join(self.line() for _ in range(self.draw.randrange(1, 200)))
        self.rest = b""
        if self.draw.random() < 0.3:  # the last line in two halves
            cut = self.draw.randrange(1, 30)
            data, self.rest = data[:-cut], data[-cut:]
        self.file.write(data)

    def rotate(self) -> None:
        self.file.write(self.rest)
        self.rest = b""
        self.files += 1
        rotated = self.logs / f"app.log.{self.files}"
        how = self.draw.choice(["rename", "late", "copytruncate", "gzip"])
        if how == "copytruncate":
            shutil.copy(self.path, rotated)
            os.truncate(self.path, 0)
            return
        self.path.rename(rotated)
        if how == "late":  # the writer goes on in the old file for a moment
            self.write()
            self.file.write(self.rest)
            self.rest = b""
        self.file.close()
        self.file = self.path.open("ab", buffering=0)
        if how == "gzip":
            packed = rotated.with_name(rotated.name + ".gz")
            with rotated.open("rb") as old, gzip.open(packed, "wb") as new:
                shutil.copyfileobj(old, new)
            rotated.unlink()


@pytest.mark.slow
def test_new_lines_are_in_the_store_within_a_second(server: ServerProcess, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    writer = Writer(logs, random.Random(1))
    follower = start_follower(server, logs)
    try:
        with Client(server.url) as client:
            writer.file.write(writer.line())
            wait_for(client, 1, 20.0)
            for _ in range(5):
                writer.file.write(writer.line())
                started = time.monotonic()
                wait_for(client, writer.lines, 5.0)
                assert time.monotonic() - started < 1.0
        follower.send_signal(signal.SIGTERM)
        _, err = follower.communicate(timeout=20)
        assert follower.returncode == 0, err
    finally:
        writer.file.close()
        follower.kill()
        follower.communicate()


def wait_for(client: Client, keys: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while client.size() < keys:
        assert time.monotonic() < deadline, (client.size(), keys)
        time.sleep(0.01)


@pytest.mark.slow
def test_nothing_is_lost_or_counted_twice_while_logs_rotate_and_followers_die(
    server: ServerProcess, tmp_path: Path, deep: bool
) -> None:
    seed = random.randrange(10**6) if deep else 4711
    print("seed", seed)
    draw = random.Random(seed)
    logs = tmp_path / "logs"
    logs.mkdir()
    writer = Writer(logs, draw)
    follower = start_follower(server, logs)
    ends = time.monotonic() + (30 if deep else 5)
    next_kill = time.monotonic() + 1.0
    try:
        with Client(server.url) as client:
            while time.monotonic() < ends:
                writer.write()
                if draw.random() < 0.06:
                    writer.rotate()
                if time.monotonic() > next_kill:
                    follower.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM]))
                    follower.communicate(timeout=20)
                    writer.write()
                    if draw.random() < 0.5:
                        writer.rotate()
                    follower = start_follower(server, logs)
                    next_kill = time.monotonic() + draw.uniform(0.5, 2.5)
                time.sleep(draw.uniform(0, 0.05))
            writer.file.write(writer.rest)
            wait_for(client, writer.lines, 30.0)
            time.sleep(1.5)  # whatever would be counted again is counted now
            keys = [f"block_{n}" for n in range(1, writer.lines + 1)]
            for page in (keys[at : at + 1000] for at in range(0, len(keys), 1000)):
                for key, shown in zip(
                    page, client.pipeline([("GET", key) for key in page]), strict=True
                ):
                    assert shown is not None, key
                    assert b'"count": 1,' in shown, (key, shown)
            assert client.size() == writer.lines
            books = [source[b"books"] for source in client.execute("SOURCES")]
            assert sum(book.get(b"lines", 0) for book in books) == writer.lines
            assert sum(book.get(b"unparsed", 0) for book in books) == 0
    finally:
        writer.file.close()
        follower.kill()
        follower.communicate()
    assert writer.files
