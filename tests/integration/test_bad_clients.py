"""Clients that misbehave: each pays for itself, the others notice nothing."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import ServerProcess, resident_bytes, run, running_server
from tests.wire import Wire, encode

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests that leave it as they found it."""
    options = ["--max-output", "1mb", "--output-stall", "1", "--max-pubsub-output", "256kb"]
    with running_server(tmp_path_factory.mktemp("bad") / "data", *options) as server:
        yield server


def open_files(server: ServerProcess) -> int:
    directory = Path(f"/proc/{server.process.pid}/fd")
    if not directory.exists():
        pytest.skip("no /proc here to count open files with")
    return len(list(directory.iterdir()))


def is_fine(server: ServerProcess, within_s: float = 1.0) -> None:
    with Wire("127.0.0.1", server.port) as other:
        began = time.perf_counter()
        assert other("PING") == b"+PONG\r\n"
        assert time.perf_counter() - began < within_s


def eventually(condition: Callable[[], object], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.02)


def narrow(port: int) -> socket.socket:
    """A connection whose receive buffer is small."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.connect(("127.0.0.1", port))
    wire.settimeout(10)
    return wire


def test_a_client_that_does_not_read_is_bounded_then_ended(shared: ServerProcess) -> None:
    with Wire("127.0.0.1", shared.port) as other, narrow(shared.port) as stuck:
        other("SET", "big", b"x" * 200_000)
        before = resident_bytes(shared)
        stuck.sendall(encode("GET", "big") * 1000)
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            is_fine(shared, within_s=0.25)
        assert resident_bytes(shared) - before < 20_000_000, "200 MB were asked for"
        eventually(lambda: b" fd=" in other("CLIENT", "LIST") and count_clients(other) == 1)


def count_clients(wire: Wire) -> int:
    return wire("CLIENT", "LIST").count(b" addr=")


def test_a_client_that_reads_slowly_gets_everything(shared: ServerProcess) -> None:
    with Wire("127.0.0.1", shared.port) as wire:
        wire("SET", "big", b"x" * 300_000)
        wire.send_raw(encode("GET", "big") * 20 + encode("PING"))
        for _ in range(20):
            time.sleep(0.02)
            assert len(wire.read()) > 300_000
        assert wire.read() == b"+PONG\r\n"
        wire("SET", "huge", b"x" * 3_000_000)
        assert len(wire("GET", "huge")) > 3_000_000, "one value may exceed the limit"


def test_a_stuck_subscriber_is_dropped_and_the_others_get_all(shared: ServerProcess) -> None:
    received: list[list[bytes]] = [[] for _ in range(20)]
    messages = 2000
    with contextlib.ExitStack() as stack:
        healthy = [stack.enter_context(Wire("127.0.0.1", shared.port)) for _ in received]
        publisher = stack.enter_context(Wire("127.0.0.1", shared.port))
        stuck = stack.enter_context(narrow(shared.port))
        stuck.sendall(encode("SUBSCRIBE", "flood"))
        assert stuck.recv(100).startswith(b"*3\r\n$9\r\nsubscribe")

        def listen(wire: Wire, into: list[bytes]) -> None:
            for _ in range(messages):
                into.append(wire.read())  # noqa: PERF401 - as they come

        threads = []
        for wire, into in zip(healthy, received, strict=True):
            assert wire("SUBSCRIBE", "flood").startswith(b"*3")
            threads.append(threading.Thread(target=listen, args=(wire, into)))
            threads[-1].start()

        def all_have(count: int) -> bool:
            return all(len(each) >= count for each in received)

        counts = set()
        for start in range(0, messages, 100):
            batch = [
                ("PUBLISH", "flood", f"{n:06d}" + "x" * 5000) for n in range(start, start + 100)
            ]
            counts.update(publisher.many(batch))
            # Healthy is who reads; on a busy machine twenty threads need a moment for that.
            sent = start + len(batch)
            eventually(partial(all_have, sent))
        for thread in threads:
            thread.join(timeout=30)
    assert counts == {b":21\r\n", b":20\r\n"}, "the stuck one was dropped on the way"
    for each in received:
        numbers = [int(message.rsplit(b"\r\n", 2)[1][:6]) for message in each]
        assert numbers == list(range(messages))


def test_a_storm_of_connections_leaves_nothing_behind(shared: ServerProcess, deep: bool) -> None:
    rng = random.Random(12)
    with Wire("127.0.0.1", shared.port) as watcher:
        watcher("PING")
        files = open_files(shared)
        scraps = [
            b"", b"*", b"*2\r\n$3\r\nGET\r\n$1", encode("PING"), encode("GET", "big") * 3,
            encode("MULTI") + encode("SET", "a", 1), encode("WATCH", "a", "b"),
            encode("SUBSCRIBE", "x", "y"), encode("PSUBSCRIBE", "z*"), encode("MONITOR"),
            encode("CLIENT", "REPLY", "OFF") + encode("SET", "a", 1), encode("QUIT"), b"\x00" * 50,
            encode("KEYS", "*") + encode("KEYS", "*"), encode("HELLO", 3) + encode("BLAH"),
        ]  # fmt: skip
        for _ in range(20_000 if deep else 600):
            wire = socket.socket()
            if rng.random() < 0.5:  # closed with a reset, whatever is on its way
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            wire.connect(("127.0.0.1", shared.port))
            with contextlib.suppress(OSError):
                wire.sendall(rng.choice(scraps))
                if rng.random() < 0.3:
                    wire.settimeout(0.005)
                    wire.recv(10)
            wire.close()
        eventually(lambda: count_clients(watcher) == 1)
        eventually(lambda: open_files(shared) <= files)
        assert watcher("PUBSUB", "CHANNELS") == b"*0\r\n"
        assert watcher("PUBSUB", "NUMPAT") == b":0\r\n"
        assert watcher("SET", "k", "v") == b"+OK\r\n"


MUTATIONS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4)
FRAMES = st.lists(
    st.sampled_from(
        [
            encode("GET", "k"),
            encode("SET", "k", b"a\r\nb"),
            encode("MGET", "a", "b"),
            b"PING\r\n",
            b'SET k "a b"\r\n',
            encode("MULTI"),
            encode("EXEC"),
            encode("SETRANGE", "k", 3, "x"),
            encode("HELLO", 3),
        ]
    ),
    max_size=5,
).map(b"".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(frames=FRAMES, mutations=MUTATIONS, garbage=st.binary(max_size=30))
def test_whatever_the_bytes_only_that_connection_ends(
    shared: ServerProcess, frames: bytes, mutations: list[tuple[int, int]], garbage: bytes
) -> None:
    data = bytearray(frames + garbage)
    for place, byte in mutations:
        if data:
            data[place % len(data)] = byte
    with socket.create_connection(("127.0.0.1", shared.port), timeout=5) as wire:
        wire.sendall(bytes(data))
        wire.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while more := wire.recv(65536):
                received += more
    assert b"internal error" not in received
    is_fine(shared)


def test_what_follows_an_http_request_is_not_run(shared: ServerProcess) -> None:
    with Wire("127.0.0.1", shared.port) as wire:
        wire.send_raw(b"POST / HTTP/1.1\r\nSET attacked yes\r\n" + encode("SET", "attacked", 1))
        assert wire.read_until_closed() == b""
    with Wire("127.0.0.1", shared.port) as wire:
        assert wire("EXISTS", "attacked") == b":0\r\n"


def test_a_client_that_does_not_read_can_be_killed(shared: ServerProcess) -> None:
    with Wire("127.0.0.1", shared.port) as other, narrow(shared.port) as stuck:
        other("SET", "big", b"x" * 900_000)
        stuck.sendall(encode("CLIENT", "SETNAME", "stuck") + encode("GET", "big") * 5)
        eventually(lambda: b"name=stuck" in other("CLIENT", "LIST"))
        address = "{}:{}".format(*stuck.getsockname())
        assert other("CLIENT", "KILL", "ADDR", address) == b":1\r\n"
        assert b"name=stuck" not in other("CLIENT", "LIST")


def test_half_a_request_does_not_stay_for_ever(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", "--request-timeout", "1") as server,
        Wire("127.0.0.1", server.port) as half,
        Wire("127.0.0.1", server.port) as idle,
    ):
        half.send_raw(b"*2\r\n$3\r\nGE")
        assert half.is_closed()
        assert idle("PING") == b"+PONG\r\n", "being idle is no crime"


def test_over_the_limit_of_clients_the_reason_is_said(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--max-clients", "3") as server:
        wires = [Wire("127.0.0.1", server.port) for _ in range(3)]
        assert [wire("PING") for wire in wires] == [b"+PONG\r\n"] * 3
        with Wire("127.0.0.1", server.port) as fourth:
            assert fourth.read_until_closed() == b"-ERR max number of clients reached\r\n"
        wires.pop().socket.close()
        eventually(lambda: count_clients(wires[0]) == 2)
        with Wire("127.0.0.1", server.port) as fourth:
            assert fourth("PING") == b"+PONG\r\n"
        for wire in wires:
            wire.socket.close()


# --------------------------------------------------------------------------- before the password


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("closed")
    (directory / "password").write_text("open sesame\n")
    options = ["--password-file", str(directory / "password"), "--login-timeout", "1"]
    with running_server(directory / "data", *options) as server:
        yield server


def test_before_the_password_long_requests_are_refused(closed: ServerProcess) -> None:
    for request, error in (
        (b"*11\r\n", b"-ERR Protocol error: unauthenticated multibulk length\r\n"),
        (b"*1\r\n$16385\r\n", b"-ERR Protocol error: unauthenticated bulk length\r\n"),
    ):
        with Wire("127.0.0.1", closed.port) as wire:
            wire.send_raw(request)
            assert wire.read_until_closed() == error
    with Wire("127.0.0.1", closed.port) as wire:
        assert wire("AUTH", b"x" * 16384).startswith(b"-WRONGPASS")


def test_after_the_password_they_are_not(closed: ServerProcess) -> None:
    with Wire("127.0.0.1", closed.port) as wire:
        assert wire("AUTH", "open sesame") == b"+OK\r\n"
        assert wire("SET", "k", b"x" * 100_000) == b"+OK\r\n"
        assert wire("MGET", *["k"] * 20).startswith(b"*20\r\n")


def test_before_the_password_a_flood_without_reading_is_cut_short(closed: ServerProcess) -> None:
    before = resident_bytes(closed)
    with narrow(closed.port) as wire, contextlib.suppress(OSError):
        for _ in range(2000):
            wire.sendall(encode("GET", "k") * 1000)
        pytest.fail("the server took 50 MB of requests without an end")
    assert resident_bytes(closed) - before < 4_000_000
    with Wire("127.0.0.1", closed.port) as other:
        assert other("PING").startswith(b"-NOAUTH")


def test_who_never_tells_it_is_disconnected(closed: ServerProcess) -> None:
    with (
        Wire("127.0.0.1", closed.port) as silent,
        Wire("127.0.0.1", closed.port) as known,
    ):
        assert known("AUTH", "open sesame") == b"+OK\r\n"
        assert silent.is_closed()
        assert known("PING") == b"+PONG\r\n"


def test_wrong_guesses_are_slow_and_hold_up_nobody(closed: ServerProcess) -> None:
    with Wire("127.0.0.1", closed.port) as guesser, Wire("127.0.0.1", closed.port) as other:
        other("AUTH", "open sesame")
        guesser.send("AUTH", "wrong")
        began = time.perf_counter()
        assert other("PING") == b"+PONG\r\n"
        assert guesser.read().startswith(b"-WRONGPASS")
        assert time.perf_counter() - began >= 0.08


def test_redis_py_gives_the_password(closed: ServerProcess) -> None:
    for protocol in (2, 3):
        with redis.Redis(port=closed.port, password="open sesame", protocol=protocol) as client:
            assert client.ping()


def test_another_address_needs_a_password_or_a_plain_word(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kvserver", "--port", "0", "--data-dir", str(tmp_path / "d")]
    outcome = run([*command, "--host", "0.0.0.0"])
    assert outcome.returncode == 1
    assert "--unprotected" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_unix_socket_serves_the_same(tmp_path: Path) -> None:
    path = tmp_path / "kv.sock"
    with (
        running_server(tmp_path / "data", "--unix-socket", str(path)),
        redis.Redis(unix_socket_path=str(path)) as client,
    ):
        assert client.set("k", "v")
        assert client.get("k") == b"v"
        assert client.client_info()["flags"] == "N"
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_debug_works_only_when_asked_for(shared: ServerProcess, tmp_path: Path) -> None:
    with Wire("127.0.0.1", shared.port) as wire:
        assert wire("DEBUG", "SLEEP", "0").startswith(b"-ERR DEBUG command not allowed.")
    with (
        running_server(tmp_path / "data", "--debug-commands") as server,
        Wire("127.0.0.1", server.port) as wire,
    ):
        began = time.perf_counter()
        assert wire("DEBUG", "SLEEP", "0.2") == b"+OK\r\n"
        assert time.perf_counter() - began >= 0.2


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_the_limit_on_memory_holds_for_the_process(tmp_path: Path, policy: str) -> None:
    options = ["--maxmemory", "64mb", "--maxmemory-policy", policy]
    with (
        running_server(tmp_path / "data", *options) as server,
        Wire("127.0.0.1", server.port) as wire,
    ):
        refused = 0
        for start in range(0, 45_000, 1000):
            batch = [
                ("SET", f"key{n}", f"{n:06d}" + "x" * 1000) for n in range(start, start + 1000)
            ]
            refused += sum(reply.startswith(b"-OOM") for reply in wire.many(batch))
        assert resident_bytes(server) < 1.5 * 64 * 1024 * 1024
        if policy == "noeviction":
            assert refused > 10_000
            assert wire("GET", "key0").startswith(b"$1006\r\n")
            assert wire("DEL", "key0") == b":1\r\n"
        else:
            assert refused == 0
            assert wire("GET", "key44999").startswith(b"$1006\r\n")
            keys = int(wire("DBSIZE")[1:-2])
            assert 5_000 < keys < 40_000


@pytest.mark.parametrize("command", [["KEYS", "*"], ["FLUSHALL"], ["DEL"], ["MGET"]])
def test_long_commands_hold_up_nobody(
    shared: ServerProcess, command: list[str], deep: bool
) -> None:
    count = 1_000_000 if deep else 80_000
    with Wire("127.0.0.1", shared.port, timeout_s=60) as loader:
        for start in range(0, count, 20_000):
            numbers = range(start, start + 20_000)
            flat = [word for n in numbers for word in (f"key{n:08d}", "value")]
            assert loader("MSET", *flat) == b"+OK\r\n"
        if command[0] in {"DEL", "MGET"}:
            command = [*command, *[f"key{n:08d}" for n in range(count)]]
        with Wire("127.0.0.1", shared.port) as other:
            loader("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")
            loader.send(*command)
            worst = 0.0
            until = time.perf_counter() + (3 if deep else 0.3)
            while time.perf_counter() < until:
                began = time.perf_counter()
                assert other("PING") == b"+PONG\r\n"
                worst = max(worst, time.perf_counter() - began)
            loader.read()
            loader("CONFIG", "SET", "client-output-buffer-limit", "normal 1048576 0 0")
            assert worst < 0.25
        loader("FLUSHALL")


@pytest.mark.deep
def test_ten_thousand_idle_clients_are_held(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 11_000:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with running_server(tmp_path / "data", "--max-clients", "10100") as server:
            before = resident_bytes(server)
            idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10_000)]
            with Wire("127.0.0.1", server.port) as other:
                assert count_clients(other) == 10_001
                assert resident_bytes(server) - before < 25_000 * 10_000
            for wire in idle:
                wire.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_limits_hold_at_n_and_refuse_at_n_plus_one(tmp_path: Path) -> None:
    options = [
        "--max-args", "5", "--max-bulk", "1000", "--max-inline", "2000", "--max-watched-keys", "3",
        "--max-subscriptions", "3", "--max-queued-commands", "3",
    ]  # fmt: skip
    with running_server(tmp_path / "data", *options) as server:

        def ends_with(request: bytes, error: bytes) -> None:
            with Wire("127.0.0.1", server.port) as wire:
                wire.send_raw(request)
                assert wire.read_until_closed() == error

        with Wire("127.0.0.1", server.port) as wire:
            assert wire("MGET", *"abcd").startswith(b"*4")
            assert wire("SET", "k", b"x" * 1000) == b"+OK\r\n"
            assert wire("APPEND", "k", "x").startswith(b"-ERR string exceeds maximum allowed size")
            assert wire("WATCH", *"abc") == b"+OK\r\n"
            assert wire("WATCH", "d") == b"-ERR too many watched keys\r\n"
            wire.send_raw(b"ECHO " + b"x" * 990 + b"\r\n")
            assert wire.read().startswith(b"$990\r\n")
            assert wire("SUBSCRIBE", *"abc").endswith(b":1\r\n")
        ends_with(encode("MGET", *"abcde"), b"-ERR Protocol error: invalid multibulk length\r\n")
        ends_with(encode("SET", "k", b"x" * 1001), b"-ERR Protocol error: invalid bulk length\r\n")
        ends_with(b"x" * 2001, b"-ERR Protocol error: too big inline request\r\n")
