"""How long everybody else waits while one client asks for much, beside Debian's redis-server.

Usage: ``python benchmarks/waits.py [--rounds 3] [--out benchmarks/results/waits.md]``

Both servers hold a million keys and keep a journal. One client sends a large command or a long
pipeline; another one sends a GET every half a millisecond and notes its longest wait. What counts
is that longest wait, the median of several rounds in turn. Needs redis-server.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs as a file, too

from benchmarks.server import both, come_to_rest, machine, versions
from benchmarks.servers import report
from kvclient.protocol import encode

RESULTS = Path(__file__).resolve().parent / "results" / "waits.md"
KEYS = 1_000_000
MANY = 50_000
WANTED_MS = 10
REST_S = 0.1
"""How long the other one goes on asking when the large command is answered."""
END = b"the end of the replies"
ASKED = b"asked"
"""The key that the other client gets; large commands have nothing to do with it."""


def some_keys(number: int) -> list[bytes]:
    return [b"key:%012d" % random.randrange(KEYS) for _ in range(number)]


def pairs(number: int) -> list[bytes]:
    return [part for key in some_keys(number) for part in (key, b"value")]


def piped(name: bytes, *arguments: bytes, number: int = MANY) -> bytes:
    return b"".join(encode(name, key, *arguments) for key in some_keys(number))


def transaction(number: int, *more: bytes) -> bytes:
    sets = piped(b"SET", b"value", number=number)
    return b"".join([encode(b"MULTI"), sets, *more, encode(b"EXEC")])


def events(flags: bytes) -> bytes:
    return encode(b"CONFIG", b"SET", b"notify-keyspace-events", flags)


@dataclass(frozen=True)
class Row:
    """What one client sends, made before the time is taken."""

    name: str
    request: bytes
    before: bytes = b""
    """Sent before, without anybody being asked."""
    goal: bool = True
    """Whether nobody is to wait longer than ``WANTED_MS``."""


def rows() -> Iterator[Row]:
    value = b"x" * (1 << 20)
    big = encode(b"SET", b"big", value * 16)
    yield Row("nothing", encode(b"PING"))
    yield Row("KEYS *", encode(b"KEYS", b"*"))
    yield Row("KEYS that match nothing", encode(b"KEYS", b"*nothing*"))
    yield Row("SCAN, COUNT 1,000,000", encode(b"SCAN", b"0", b"COUNT", b"1000000"))
    yield Row("MGET of 50,000", encode(b"MGET", *some_keys(MANY)))
    yield Row("EXISTS of 50,000", encode(b"EXISTS", *some_keys(MANY)))
    yield Row("TOUCH of 50,000", encode(b"TOUCH", *some_keys(MANY)))
    yield Row("DEL of 50,000", encode(b"DEL", *some_keys(MANY)))
    yield Row("SUBSCRIBE to 9,000", encode(b"SUBSCRIBE", *some_keys(9000)))
    yield Row("pipeline of 50,000 SETs", piped(b"SET", b"value"))
    yield Row("pipeline of 50,000 GETs", piped(b"GET"))
    yield Row("pipeline of 50,000 EXPIREs", piped(b"EXPIRE", b"1000"))
    yield Row("pipeline of 50,000 APPENDs", piped(b"APPEND", b"x"))
    yield Row("GET of 16 MiB", encode(b"GET", b"big"), big)
    yield Row("BITCOUNT of 16 MiB", encode(b"BITCOUNT", b"big"), big)
    bitmap = encode(b"SETBIT", b"map", b"%d" % (8 * (64 << 20) - 1), b"1")
    bits = [b"%d" % random.randrange(64 << 23) for _ in range(1000)]
    at_bits = b"".join(encode(b"SETBIT", b"map", bit, b"1") for bit in bits)
    yield Row("1,000 SETBITs in 64 MiB", at_bits, bitmap)
    yield Row("1,000 APPENDs to 64 MiB", encode(b"APPEND", b"map", value[:100]) * 1000, bitmap)
    yield Row("BITOP of two of 16 MiB", encode(b"BITOP", b"OR", b"or", b"big", b"big"), big)
    yield Row("COPY of 16 MiB", encode(b"COPY", b"big", b"copy", b"REPLACE"), big)
    yield Row("APPEND to 16 MiB", encode(b"APPEND", b"big", b"x"), big)
    yield Row("SET of 1 MiB", encode(b"SET", b"large", value))
    yield Row("SET of 16 MiB", big)
    yield Row("SET of 64 MiB", encode(b"SET", b"big", value * 64))
    yield Row("MSET of 10,000", encode(b"MSET", *pairs(10_000)))
    yield Row("MSET of 50,000", encode(b"MSET", *pairs(MANY)))
    values = [part for key in some_keys(MANY) for part in (key, value[:1000])]
    yield Row("MSET of 50,000, values of 1,000 bytes", encode(b"MSET", *values))
    yield Row("MSET of 50,000, events of keys on", encode(b"MSET", *pairs(MANY)), events(b"KEA"))
    yield Row("nothing, events of keys off again", encode(b"PING"), events(b""))
    yield Row("EXEC of 10,000 SETs", transaction(10_000))
    yield Row("EXEC of 50,000 SETs", transaction(MANY))
    yield Row("EXEC of an MGET of 50,000", transaction(0, encode(b"MGET", *some_keys(MANY))))
    yield Row("EXEC with KEYS *", transaction(2, encode(b"KEYS", b"*")))
    touched = transaction(10_000, encode(b"SET", ASKED, b"value"))
    yield Row("EXEC of 10,000 SETs and one of the other's key", touched, goal=False)
    yield Row("FLUSHALL", encode(b"FLUSHALL"))


def ask_all_the_time(port: int, told: Connection) -> None:
    """Be the other client; whenever asked to, tell the longest wait since then."""
    with contextlib.suppress(PermissionError):  # else its own turn would be waited for, too
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    question = encode(b"GET", ASKED)
    longest_s = 0.0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            if told.poll():
                if told.recv() == "end":
                    return
                told.send(longest_s)
                longest_s = 0.0
            began = time.perf_counter()
            sock.sendall(question)
            sock.recv(4096)
            longest_s = max(longest_s, time.perf_counter() - began)
            time.sleep(0.0005)


def send(port: int, request: bytes) -> float:
    """Send and read all replies; return how many seconds that took."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(encode(b"HELLO", b"3"))  # so that a subscriber may say more
        sock.recv(65536)
        began = time.perf_counter()
        sender = threading.Thread(target=sock.sendall, args=(request + encode(b"ECHO", END),))
        sender.start()
        last = b""
        while not last.endswith(END + b"\r\n"):
            piece = sock.recv(1 << 20)
            if not piece:
                raise ConnectionError("the server ended the connection")
            last = last[-len(END) :] + piece
        sender.join()
        return time.perf_counter() - began


def fill(port: int) -> None:
    for start in range(0, KEYS, 10_000):
        keys = [b"key:%012d" % number for number in range(start, start + 10_000)]
        send(port, b"".join(encode(b"SET", key, b"a value") for key in keys))
    send(port, encode(b"SET", ASKED, b"a value"))


@contextlib.contextmanager
def asked_all_the_time(port: int) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=ask_all_the_time, args=(port, theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        ours.send("end")
        process.join()


def longest_wait_ms(port: int, other: Connection, row: Row) -> tuple[float, float]:
    """Return the longest wait of the other client, and how long the command itself took."""
    if row.before:
        send(port, row.before)
        time.sleep(REST_S)
    other.send("begin")
    other.recv()
    took_s = send(port, row.request)
    time.sleep(REST_S)
    other.send("tell")
    longest_s: float = other.recv()
    return longest_s * 1000, took_s * 1000


def measure(rounds: int) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "# How long others wait while one client asks for much\n"
    yield f"- machine: {machine()}; load before the run: {os.getloadavg()[0]:.1f}"
    yield f"- versions: {versions()}"
    yield f"- both with {KEYS:,} keys and a journal synced every second; medians of {rounds} rounds"
    yield "- `waits`: the longest of the other client, who sends a GET every half a millisecond;"
    yield "  `takes`: what the one who asked for much waited for its own answers, of which its"
    yield "  own work in Python is a part"
    yield "- without a goal: a write of the very key that the other asks for, who waits\n"
    yield "| one client sends | others wait, ms | Redis | wanted | takes, ms | Redis |"
    yield "|---|---:|---:|---:|---:|---:|"
    with tempfile.TemporaryDirectory() as scratch, both(Path(scratch)) as peers:
        for peer in peers:
            fill(peer.port)
        with (
            asked_all_the_time(peers[0].port) as of_ours,
            asked_all_the_time(peers[1].port) as of_redis,
        ):
            for row in rows():
                found: list[list[tuple[float, float]]] = [[], []]
                for _ in range(1 if row.name == "FLUSHALL" else rounds):
                    for peer, other, each in zip(peers, (of_ours, of_redis), found, strict=True):
                        come_to_rest(peers)
                        each.append(longest_wait_ms(peer.port, other, row))
                (wait, takes), (their_wait, they_take) = (
                    [statistics.median(column) for column in zip(*each, strict=True)]
                    for each in found
                )
                yield (
                    f"| {row.name} | {wait:.1f} | {their_wait:.1f} "
                    f"| {WANTED_MS if row.goal else ''} | {takes:.0f} | {they_take:.0f} |"
                )
    yield f"\nLoad after the run: {os.getloadavg()[0]:.1f}."


if __name__ == "__main__":
    report(__doc__, measure, RESULTS)
