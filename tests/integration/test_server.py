"""A real server process: starting, stopping, limits, and clients that misbehave."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.support import ROOT, ServerProcess, resident_bytes, running_server, start_server
from tests.wire import Wire, encode


def connect(server: ServerProcess) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=10)


def exactly(sock: socket.socket, wanted: bytes) -> None:
    got = b""
    while len(got) < len(wanted):
        piece = sock.recv(len(wanted) - len(got))
        assert piece, got[-200:]
        got += piece
    assert got == wanted


def until_closed(sock: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            got += piece
    return got


def start_expecting_refusal(*options: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kvserver", *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.returncode, done.stderr


class Pinger:
    """Pings all the time, as another client would, and remembers the longest wait."""

    def __init__(self, server: ServerProcess) -> None:
        self._sock = connect(server)
        self._stop = threading.Event()
        self.longest_s = 0.0
        self.pings = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            self._sock.sendall(b"PING\r\n")
            exactly(self._sock, b"+PONG\r\n")
            self.longest_s = max(self.longest_s, time.perf_counter() - began)
            self.pings += 1
            time.sleep(0.0005)

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sock.close()


# ------------------------------------------------------------------------------- start and stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_every_answered_write_on_disk(
    tmp_path: Path, number: signal.Signals
) -> None:
    server = start_server(tmp_path / "data", "--fsync", "no")
    with connect(server) as sock:
        sock.sendall(b"".join(encode(b"SET", b"k%d" % n, b"v%d" % n) for n in range(1000)))
        exactly(sock, b"+OK\r\n" * 1000)
        server.process.send_signal(number)
        assert server.process.wait(timeout=10) == 0
        assert until_closed(sock) == b""
    with running_server(tmp_path / "data") as again, connect(again) as sock:
        sock.sendall(encode(b"DBSIZE") + encode(b"GET", b"k999"))
        exactly(sock, b":1000\r\n$4\r\nv999\r\n")


def test_shutdown_is_a_command_too(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data")
    with connect(server) as sock:
        sock.sendall(encode(b"SET", b"a", b"1") + encode(b"SHUTDOWN"))
        assert until_closed(sock) == b"+OK\r\n"
    assert server.process.wait(timeout=10) == 0


def test_a_second_signal_does_not_wait_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data")
    with connect(server) as sock:
        sock.sendall(encode(b"SET", b"big", b"x" * 1_000_000))
        exactly(sock, b"+OK\r\n")
        sock.sendall(encode(b"GET", b"big") * 30)
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        server.process.send_signal(signal.SIGINT)  # two equal ones could become one on the way
        began = time.monotonic()
        assert server.process.wait(timeout=10) == 0
        assert time.monotonic() - began < 1.5


def test_stray_signals_do_not_end_it(server: ServerProcess) -> None:
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ):
        server.process.send_signal(number)
    with connect(server) as sock:
        sock.sendall(b"PING\r\n")
        exactly(sock, b"+PONG\r\n")


def test_save_syncs_what_the_policy_leaves_to_the_system(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", "--fsync", "no") as server,
        Wire(server.host, server.port) as client,
    ):
        assert client("SET", "k", "v") == b"+OK\r\n"
        assert b"journal_unsynced_bytes:0\r\n" not in client("INFO", "everything")
        assert client("SAVE") == b"+OK\r\n"
        assert b"journal_unsynced_bytes:0\r\n" in client("INFO", "everything")


def test_options_come_from_the_environment_too(tmp_path: Path) -> None:
    environment = {"KVSERVER_MAX_CLIENTS": "2", "KVSERVER_PASSWORD": "secret"}
    server = start_server(tmp_path / "data", env=environment)
    try:
        with connect(server) as one, connect(server) as two:
            one.sendall(encode(b"GET", b"a"))
            exactly(one, b"-NOAUTH Authentication required.\r\n")
            two.sendall(encode(b"HELLO", b"3", b"AUTH", b"default", b"secret"))
            assert two.recv(4096).startswith(b"%7\r\n")
            with connect(server) as three:
                assert until_closed(three) == b"-ERR max number of clients reached\r\n"
    finally:
        assert server.stop() == 0


def test_it_refuses_with_one_line_what_cannot_work(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    status, said = start_expecting_refusal("--port", "0", "--data-dir", data, "--host", "0.0.0.0")
    assert (status, said.count("\n")) == (1, 1)
    assert "without a password" in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, said = start_expecting_refusal("--port", port, "--data-dir", data)
    assert (status, said.count("\n")) == (1, 1)
    assert f"127.0.0.1:{port}" in said
    status, said = start_expecting_refusal("--fsync", "sometimes")
    assert status == 2
    assert "Traceback" not in said
    status, said = start_expecting_refusal("--max-clients", "0")
    assert status == 2
    (tmp_path / "file").write_text("")
    status, said = start_expecting_refusal("--port", "0", "--data-dir", str(tmp_path / "file"))
    assert (status, said.count("\n")) == (1, 1)
    with running_server(tmp_path / "data"):
        status, said = start_expecting_refusal("--port", "0", "--data-dir", data)
        assert (status, said.count("\n")) == (1, 1)


def test_a_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "kv.sock"
    with running_server(tmp_path / "data", "--unix-socket", str(path)) as server:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(encode(b"SET", b"a", b"1") + encode(b"GET", b"a"))
            exactly(sock, b"+OK\r\n$1\r\n1\r\n")
        assert server.stop() == 0
    assert not path.exists()


def test_a_start_that_fails_leaves_a_running_servers_unix_socket_and_any_file_alone(
    tmp_path: Path,
) -> None:
    path, notes = tmp_path / "kv.sock", tmp_path / "notes.txt"
    notes.write_text("precious")
    data = str(tmp_path / "data")
    with running_server(tmp_path / "data", "--unix-socket", str(path)):
        for wanted in (path, notes):
            status, said = start_expecting_refusal(
                "--port", "0", "--data-dir", data, "--unix-socket", str(wanted)
            )
            assert (status, said.count("\n")) == (1, 1)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(encode(b"PING"))
            exactly(sock, b"+PONG\r\n")
    assert notes.read_text() == "precious"


# ------------------------------------------------------------------------- clients that misbehave


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with small limits."""
    with running_server(
        tmp_path_factory.mktemp("small") / "data",
        "--max-output", "4mb", "--output-stall", "1",
        "--max-query", "1mb", "--request-timeout", "1",
    ) as process:  # fmt: skip
        yield process


def test_a_client_that_does_not_read_is_disconnected_and_the_others_notice_nothing(
    small: ServerProcess,
) -> None:
    with connect(small) as other, connect(small) as deaf:
        other.sendall(encode(b"SET", b"big", b"x" * 500_000))
        exactly(other, b"+OK\r\n")
        before = resident_bytes(small)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(ConnectionError):
            deaf.sendall(encode(b"GET", b"big") * 200)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            other.sendall(b"PING\r\n")
            exactly(other, b"+PONG\r\n")
            other.sendall(b"INFO stats\r\n")
            if b"output_buffer_limit_disconnections:1" in other.recv(65536):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("still connected")
        assert resident_bytes(small) - before < 30_000_000


def test_half_a_request_costs_nothing_and_does_not_stay_for_ever(small: ServerProcess) -> None:
    before = resident_bytes(small)
    halves = [connect(small) for _ in range(100)]
    for sock in halves:
        sock.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870912\r\nx")
    with connect(small) as other:
        other.sendall(b"PING\r\n")
        exactly(other, b"+PONG\r\n")
    assert resident_bytes(small) - before < 8_000_000
    halves[0].settimeout(5)
    assert until_closed(halves[0]) == b""
    for sock in halves:
        sock.close()


def test_a_request_that_grows_over_the_limit_ends_the_connection(small: ServerProcess) -> None:
    with connect(small) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(b"*2\r\n$3\r\nGET\r\n$400000000\r\n")
        for _ in range(100):
            sock.sendall(b"x" * 65536)
        assert until_closed(sock) == b""


@pytest.mark.parametrize(
    "stream",
    [
        b"*1\r\n:1\r\n",
        b"*1000000000\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n" * 3000,
        b"*1\r\n$1_0\r\n",
    ],
)
def test_garbage_gets_a_protocol_error_and_the_end(small: ServerProcess, stream: bytes) -> None:
    with connect(small) as sock, connect(small) as other:
        sock.sendall(encode(b"PING"))
        exactly(sock, b"+PONG\r\n")
        with contextlib.suppress(ConnectionError):
            sock.sendall(stream)
        if stream[:1] == b"*":
            assert until_closed(sock).startswith(b"-ERR Protocol error: ")
        other.sendall(b"PING\r\n")
        exactly(other, b"+PONG\r\n")


def test_the_list_of_clients_shows_what_each_said_last(small: ServerProcess) -> None:
    with connect(small) as sock, Wire(small.host, small.port) as other:
        port = sock.getsockname()[1]

        def shown() -> str:
            lines = other("CLIENT", "LIST").decode().splitlines()
            (line,) = [line for line in lines if f"addr=127.0.0.1:{port} " in line]
            return line.partition(" cmd=")[2].partition(" ")[0]

        assert shown() == "NULL"
        for requests, replies, last in [
            ([[b"SET", b"k", b"v"]], b"+OK\r\n", "set"),
            ([[b"get", b"k"]] * 4, b"$1\r\nv\r\n" * 4, "get"),
            ([[b"SET", b"k", b"1"], [b"INCR", b"k"]], b"+OK\r\n:2\r\n", "incr"),
            ([[b"CLIENT", b"SETNAME", b"me"]], b"+OK\r\n", "client|setname"),
            ([[b"PING"], [b"CLIENT", b"GETNAME"]], b"+PONG\r\n$2\r\nme\r\n", "client|getname"),
            ([[b"CONFIG", b"RESETSTAT"], [b"PING"]], b"+OK\r\n+PONG\r\n", "ping"),
            ([[b"SUBSCRIBE", b"c"]], b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", "subscribe"),
        ]:
            sock.sendall(b"".join(encode(*request) for request in requests))
            exactly(sock, replies)
            assert shown() == last


def test_clients_that_vanish_leave_nothing_behind(small: ServerProcess) -> None:
    for n in range(300):
        sock = connect(small)
        if n % 3:
            sock.sendall(encode(b"MULTI") + encode(b"SET", b"a", b"1") + encode(b"SUBSCRIBE", b"c"))
        if n % 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    with connect(small) as sock:
        deadline = time.monotonic() + 5
        while True:
            sock.sendall(b"INFO clients\r\n")
            if b"connected_clients:1\r\n" in sock.recv(65536):
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)


# ---------------------------------------------------------------- long commands, many clients


def test_long_commands_run_in_slices(tmp_path: Path, deep: bool) -> None:
    keys = 1_000_000 if deep else 200_000
    with running_server(tmp_path / "data") as server, connect(server) as sock:
        for start in range(0, keys, 10_000):
            pairs = [part for n in range(start, start + 10_000) for part in (b"key:%d" % n, b"v")]
            sock.sendall(encode(b"MSET", *pairs))
            exactly(sock, b"+OK\r\n")
        sock.settimeout(60)
        with Pinger(server) as other:
            for command in (
                encode(b"KEYS", b"*9*"),
                encode(b"MGET", *[b"key:%d" % n for n in range(keys // 2)]),
                encode(b"SCAN", b"0", b"COUNT", b"1000000"),
                encode(b"DEL", *[b"key:%d" % n for n in range(keys // 4)]),
                encode(b"FLUSHALL"),
            ):
                sock.sendall(command + encode(b"ECHO", b"the end"))
                tail = b""
                while not tail.endswith(b"$7\r\nthe end\r\n"):
                    tail = (tail + sock.recv(1 << 20))[-64:]
            time.sleep(0.2)
        # How long a step takes is asserted where the processor's time can be measured, in
        # tests/kvserver/test_slices.py; here, that others are served at all meanwhile.
        assert other.pings > 20
        assert other.longest_s < 1


def test_thousands_of_idle_connections_are_held(tmp_path: Path, deep: bool) -> None:
    wanted = 10_000 if deep else 1_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted + 100:
        pytest.skip(f"the system allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 200), hard))
    try:
        with running_server(tmp_path / "data", "--max-clients", "11000") as server:
            with connect(server) as sock:
                sock.sendall(b"PING\r\n")
                exactly(sock, b"+PONG\r\n")
            before = resident_bytes(server)
            idle = [connect(server) for _ in range(wanted)]
            with connect(server) as sock:
                sock.sendall(b"INFO clients\r\n")
                assert b"connected_clients:%d\r\n" % (wanted + 1) in sock.recv(65536)
            assert (resident_bytes(server) - before) / wanted < 25_000
            for sock in (idle[0], idle[-1]):
                sock.sendall(b"PING\r\n")
                exactly(sock, b"+PONG\r\n")
            for sock in idle:
                sock.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_under_load_nothing_is_lost_and_memory_does_not_grow(tmp_path: Path, deep: bool) -> None:
    clients, seconds = 200, 60.0 if deep else 2.0
    with running_server(tmp_path / "data") as server:
        done = [0] * clients
        failures: list[str] = []
        until = time.monotonic() + seconds
        warm: list[int] = []

        def work(me: int) -> None:
            counter, mine = b"counter:%d" % me, b"mine:%d" % me
            try:
                with connect(server) as sock:
                    while time.monotonic() < until:
                        n = done[me]
                        sock.sendall(
                            encode(b"INCR", counter)
                            + encode(b"SET", mine, b"%d" % n, b"EX", b"100")
                            + encode(b"GET", mine)
                            + encode(b"MSET", b"x", b"1", b"y", b"2")
                            + encode(b"DEL", b"gone")
                            + encode(b"MULTI") + encode(b"INCR", b"all") + encode(b"EXEC")
                        )  # fmt: skip
                        number = b"%d" % n
                        exactly(
                            sock,
                            b":%d\r\n+OK\r\n$%d\r\n%b\r\n+OK\r\n:0\r\n+OK\r\n+QUEUED\r\n*1\r\n:"
                            % (n + 1, len(number), number),
                        )
                        while sock.recv(1) != b"\n":
                            pass
                        done[me] = n + 1
            except (AssertionError, OSError) as error:
                failures.append(f"client {me}: {error!r}")

        threads = [threading.Thread(target=work, args=(me,)) for me in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 2)
        warm.append(resident_bytes(server))
        for thread in threads:
            thread.join()
        assert not failures
        assert resident_bytes(server) - warm[0] < 10_000_000
        with connect(server) as sock:
            sock.sendall(encode(b"GET", b"all"))
            total = b"%d" % sum(done)
            exactly(sock, b"$%d\r\n%b\r\n" % (len(total), total))
        assert server.stop() == 0
    with running_server(tmp_path / "data") as server, connect(server) as sock:
        sock.sendall(b"".join(encode(b"GET", b"counter:%d" % me) for me in range(clients)))
        exactly(sock, b"".join(b"$%d\r\n%d\r\n" % (len(str(n)), n) for n in done))


def test_who_comes_while_the_journal_is_read_is_told_so(tmp_path: Path) -> None:
    with running_server(tmp_path, "--fsync", "no") as server, connect(server) as sock:
        port = server.port
        for start in range(0, 400_000, 1000):
            pairs = [b"key:%d" % n for n in range(start, start + 1000) for _ in range(2)]
            sock.sendall(encode(b"MSET", *pairs))
            exactly(sock, b"+OK\r\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "kvserver", "--port", str(port), "--data-dir", str(tmp_path)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        told: set[bytes] = set()
        deadline = time.monotonic() + 30
        while b"$10\r\nkey:399999\r\n" not in told:
            assert time.monotonic() < deadline, told
            with (
                contextlib.suppress(ConnectionError),
                socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
            ):
                sock.sendall(encode(b"GET", b"key:399999"))
                told.add(sock.recv(1000))
        assert told == {
            b"-LOADING Redis is loading the dataset in memory\r\n",
            b"$10\r\nkey:399999\r\n",
        }
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.slow
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another allocator than that of glibc"
)
def test_memory_that_was_freed_goes_back_to_the_system_when_asked_for(tmp_path: Path) -> None:
    value = bytes(50_000)
    with running_server(tmp_path, "--fsync", "no") as server, connect(server) as sock:
        before = resident_bytes(server)
        for n in range(1000):
            sock.sendall(encode(b"SET", b"%d" % n, value))
            exactly(sock, b"+OK\r\n")
        assert resident_bytes(server) - before > 45_000_000
        sock.sendall(encode(b"FLUSHALL"))
        exactly(sock, b"+OK\r\n")
        ends = time.monotonic() + 10
        while resident_bytes(server) - before > 10_000_000:  # keys are freed slice by slice
            assert time.monotonic() < ends
            sock.sendall(encode(b"MEMORY", b"PURGE"))
            exactly(sock, b"+OK\r\n")
