"""Pipelines of different commands, as applications send them, beside Debian's redis-server.

Usage: ``python benchmarks/pipelines.py [--rounds 3] [--out benchmarks/results/pipelines.md]``

redis-benchmark repeats one command; an application asks for a session, counts a visit and sets a
deadline in one go. Eight connections each send such a pipeline of some sixteen commands, over a
million keys, and the next one when the last reply has come. The client is written in Python and
has a core for itself, on which Redis often waits for it: what is compared is the server's processor
time a command. Needs redis-server.
"""

from __future__ import annotations

import os
import random
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs as a file, too

from benchmarks.server import Peer, both, come_to_rest, machine, versions
from benchmarks.servers import cpu_s, report
from benchmarks.waits import KEYS, fill
from kvclient.protocol import encode

RESULTS = Path(__file__).resolve().parent / "results" / "pipelines.md"
CONNECTIONS = 8
COMMANDS = 16
PIPELINES = 400
SECONDS = 2.0
END = b"<the end>"
ANSWER = b"$%d\r\n%b\r\n" % (len(END), END)

Command = tuple[bytes, ...]


def some_key() -> bytes:
    return b"key:%012d" % random.randrange(KEYS)


def counter() -> bytes:
    return b"counter:%d" % random.randrange(1000)


def of_a_cache() -> list[Command]:
    key = some_key()
    return [
        (b"GET", some_key()),
        (b"SET", key, b"twenty bytes of data"),
        (b"EXPIRE", key, b"100"),
        (b"INCR", counter()),
    ]


def of_sessions() -> list[Command]:
    key = some_key()
    return [
        (b"EXISTS", key),
        (b"SET", key, b"twenty bytes of data", b"EX", b"3600"),
        (b"TTL", key),
        (b"GET", key),
        (b"DEL", some_key()),
    ]


def of_limits() -> list[Command]:
    key = counter()
    return [(b"INCR", key), (b"EXPIRE", key, b"60"), (b"GET", some_key())]


def small_transaction() -> list[Command]:
    return [(b"MULTI",), (b"SET", some_key(), b"value"), (b"INCR", counter()), (b"EXEC",)]


def whole_transaction() -> list[Command]:
    return [(b"MULTI",), *[part for _ in range(4) for part in of_a_cache()[:3]], (b"EXEC",)]


SCENARIOS: dict[str, Callable[[], list[Command]]] = {
    "a cache: GET, SET, EXPIRE, INCR": of_a_cache,
    "sessions: EXISTS, SET EX, TTL, GET, DEL": of_sessions,
    "limits: INCR, EXPIRE, GET": of_limits,
    "transactions: MULTI, SET, INCR, EXEC": small_transaction,
    "one transaction of a cache": whole_transaction,
}


def pipelines(scenario: Callable[[], list[Command]]) -> list[tuple[bytes, int]]:
    """Make what is sent, each with how many commands that is."""
    made = []
    for _ in range(PIPELINES):
        commands = scenario()
        while len(commands) < COMMANDS - 2:
            commands += scenario()
        sent = b"".join(encode(*command) for command in commands)
        made.append((sent + encode(b"ECHO", END), len(commands) + 1))
    return made


def run(peer: Peer, made: list[tuple[bytes, int]]) -> tuple[float, float]:
    """Send for a while; return commands a second, and processor microseconds of each."""
    chosen = iter(random.choices(made, k=1 << 20))
    done = 0
    under_way: dict[socket.socket, int] = {}
    with selectors.DefaultSelector() as ready:
        for _ in range(CONNECTIONS):
            sock = socket.create_connection(("127.0.0.1", peer.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(sock, selectors.EVENT_READ)
            under_way[sock] = 0
        before, began = cpu_s(peer.process.pid), time.perf_counter()
        for sock in under_way:
            sent, under_way[sock] = next(chosen)
            sock.sendall(sent)
        while (took_s := time.perf_counter() - began) < SECONDS:
            for key, _ in ready.select(1):
                sock = key.fileobj  # type: ignore[assignment]  # only sockets were registered
                if sock.recv(1 << 16).endswith(ANSWER):
                    done += under_way[sock]
                    sent, under_way[sock] = next(chosen)
                    sock.sendall(sent)
        used_s = cpu_s(peer.process.pid) - before
        for sock in under_way:
            sock.close()
    return done / took_s, used_s / done * 1e6


def measure(rounds: int) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "# Pipelines of different commands beside redis-server\n"
    yield f"- machine: {machine()}; load before the run: {os.getloadavg()[0]:.1f}"
    yield f"- versions: {versions()}"
    yield f"- both with {KEYS:,} keys and a journal synced every second; medians of {rounds} rounds"
    yield f"- {CONNECTIONS} connections, each with a pipeline of about {COMMANDS} commands"
    yield "- `cpu` is the server's processor time a command; `of Redis` what Redis takes of it"
    yield "- no goal is set: each command of such a pipeline is run by itself, in Python\n"
    yield "| pipelines | kvserver/s | redis/s | our cpu µs | redis cpu µs | of Redis |"
    yield "|---|---:|---:|---:|---:|---:|"
    with tempfile.TemporaryDirectory() as scratch, both(Path(scratch)) as peers:
        for peer in peers:
            fill(peer.port)
        for name, scenario in SCENARIOS.items():
            made = pipelines(scenario)
            found: list[list[tuple[float, float]]] = [[], []]
            for _ in range(rounds):
                for peer, each in zip(peers, found, strict=True):
                    come_to_rest(peers)
                    each.append(run(peer, made))
            (ours, our_us), (theirs, their_us) = (
                [statistics.median(column) for column in zip(*each, strict=True)] for each in found
            )
            yield (
                f"| {name} | {ours:,.0f} | {theirs:,.0f} "
                f"| {our_us:.2f} | {their_us:.2f} | {their_us / our_us:.2f} |"
            )
    yield f"\nLoad after the run: {os.getloadavg()[0]:.1f}."


if __name__ == "__main__":
    report(__doc__, measure, RESULTS)
