"""Export and import through a real server: nothing changes, memory stays small, twice is once."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvclient import Client
from parser.summary import Summary, pack
from tests.support import ROOT, ServerProcess, run_kvcli, start_server

SAMPLE = ROOT / "kvstore.json"


def kvcli(server: ServerProcess, *args: str) -> str:
    done = run_kvcli("--url", server.url, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fill(client: Client, n: int, seed: int) -> None:
    """Write strings of any bytes, summaries, and deadlines, at random from the seed."""
    draw = random.Random(seed)
    for number in range(n):
        key = b"%d:" % number + draw.randbytes(draw.randrange(6))
        if draw.random() < 0.5:
            client.set(key, draw.randbytes(draw.randrange(50)))
        else:
            first = (draw.randrange(10**12), draw.randrange(2**64), draw.randrange(10**9))
            levels = {"INFO": draw.randrange(9), "ÄRGER": 1}
            client.merge({key: pack(Summary(9, first, first, levels, {draw.randrange(2**64): 9}))})
        if draw.random() < 0.3:
            client.expire(key, draw.randrange(10**4, 10**8))


def contents(client: Client) -> dict[bytes, tuple[str, bytes | None, int]]:
    found: dict[bytes, tuple[str, bytes | None, int]] = {}
    for page in client.scan(count=500):
        for key in page:
            kind, value, deadline_ms = client.pipeline(
                [("TYPE", key), ("GET", key), ("PEXPIRETIME", key)]
            )
            found[key] = kind, value, deadline_ms
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_exported_comes_back_exactly(
    server: ServerProcess, tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "out.json"
    with Client(server.url) as client:
        fill(client, 700, seed)
        before = contents(client)
        kvcli(server, "export", str(path))
        assert json.loads(path.read_text(encoding="utf-8"))["keys"].keys()
        client.clear()
        kvcli(server, "import", str(path))
        assert contents(client) == before
        kvcli(server, "import", str(path))  # replaces, and so adds nothing
        assert contents(client) == before


def test_the_sample_store_imports_and_exports_to_itself(
    server: ServerProcess, tmp_path: Path
) -> None:
    told = json.loads(kvcli(server, "import", str(SAMPLE), "--json"))
    assert told["keys"] == 8
    assert told["summaries"] == 4
    assert json.loads(kvcli(server, "get", "block_123"))["count"] == 20
    assert kvcli(server, "get", "greeting") == "hello\n"
    kvcli(server, "export", str(tmp_path / "again.json"))
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert again == json.loads(SAMPLE.read_text(encoding="utf-8"))


def test_a_key_that_came_twice_in_a_scan_is_exported_once(server: ServerProcess) -> None:
    with Client(server.url) as client:
        for _ in range(3):
            client.set("again", "x")
            client.delete("again")
        client.set("again", "x")
    assert kvcli(server, "export", "-").count('"again"') == 1


def test_many_large_values_are_not_asked_for_at_once(server: ServerProcess, tmp_path: Path) -> None:
    """A server disconnects a client to which it owes more than 64 MB."""
    path = tmp_path / "large.json"
    with Client(server.url) as client:
        for n in range(40):
            client.set(f"large:{n}", b"x" * 2_000_000)
        kvcli(server, "export", str(path))
        client.clear()
        kvcli(server, "import", str(path))
        assert client.size() == 40
        assert client.execute("STRLEN", "large:39") == 2_000_000


def test_a_key_whose_time_is_over_is_not_imported(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    past = int(time.time()) - 5
    path.write_text(json.dumps({"cache": {"old": "x", "new": "y"}, "ttl": {"old": past}}))
    kvcli(server, "import", str(path))
    assert kvcli(server, "keys") == "new\n"


def test_what_is_in_an_older_export_is_counted_once_as_what_became_of_it(
    server: ServerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "old.json"
    past, to_come = int(time.time()) - 5, int(time.time()) + 5000
    path.write_text(
        '{"cache": {"a": "1", "b": "2", "a": "3", "old": "4"}, '
        f'"ttl": {{"a": {to_come}, "old": {past}, "old": {past}, "not in it": {past}}}}}'
    )
    kvcli(server, "set", "not in it", "stays")
    told = json.loads(kvcli(server, "import", str(path), "--json"))
    assert (told["keys"], told["expired"], told["replaced"]) == (2, 1, 1)
    assert sorted(kvcli(server, "keys").splitlines()) == ["a", "b", "not in it"]
    assert kvcli(server, "get", "a") == "3\n"
    assert kvcli(server, "ttl", "a") != "none\n"
    said = kvcli(server, "import", str(path))
    assert said.startswith("imported 2 keys, 0 of them summaries")
    assert said.endswith("; 1 had expired; 1 replaced by a later one\n")


WITH_ITS_PEAK = """
import re, sys
from kvclient.cli import cli
cli.main(sys.argv[1:], standalone_mode=False)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def peak_mb(server: ServerProcess, *args: str) -> float:
    """Run kvcli and return the most memory it held.

    It says so itself: what the system tells of a child includes what its parent held at the fork.
    """
    done = subprocess.run(
        [sys.executable, "-c", WITH_ITS_PEAK, "--url", server.url, *args],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    return int(done.stderr) / 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_store(
    server: ServerProcess, tmp_path: Path, deep: bool
) -> None:
    empty = tmp_path / "empty.json"
    least_mb = max(peak_mb(server, *way, str(empty)) for way in (["export"], ["import"]))
    value = b"v" * 1000
    n = 1_000_000 if deep else 30_000
    with Client(server.url) as client:
        for start in range(0, n, 1000):
            keys = range(start, start + 1000)
            client.execute("MSET", *[x for k in keys for x in (b"key:%d" % k, value)])
    path = tmp_path / "big.json"
    assert peak_mb(server, "export", str(path)) < least_mb + 20 + n * 40e-6
    assert path.stat().st_size > n * 1000 > 20e6
    assert peak_mb(server, "import", str(path)) < least_mb + 20


@pytest.mark.slow
def test_an_import_outlives_a_restart_of_the_server(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text(json.dumps({"cache": {f"key:{n}": str(n) for n in range(20_000)}, "ttl": {}}))
    server = start_server(tmp_path / "data")
    again: ServerProcess | None = None
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "kvclient", "--url", server.url, "import", str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            with Client(server.url) as client:
                while client.size() < 1000:
                    pass
            server.kill()
            again = start_server(tmp_path / "data", "--port", str(server.port))
            assert process.wait(60) == 0
        with Client(again.url) as client:
            assert client.size() == 20_000
            assert client.get("key:19999") == b"19999"
    finally:
        server.kill()
        if again is not None:
            again.stop()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis server, where one is installed."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_a_redis_server_is_exported_and_imported_too(redis: str, server: ServerProcess) -> None:
    with Client(redis, retry_s=30) as client:
        client.set("greeting", "hello", ttl_s=5000)
        client.set(b"\xff", b"\x00")
        client.execute("LPUSH", "list", "1")
    done = run_kvcli("--url", redis, "export", "-")
    assert done.returncode == 0
    assert "left out 1 keys of type list" in done.stderr
    imported = subprocess.run(
        [sys.executable, "-m", "kvclient", "--url", server.url, "import", "-"],
        cwd=ROOT,
        input=done.stdout,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert imported.returncode == 0, imported.stderr
    with Client(server.url) as client:
        assert client.get("greeting") == b"hello"
        assert 4_900_000 < client.ttl_ms("greeting") <= 5_000_000
        assert client.get(b"\xff") == b"\x00"
