"""A real server whose disk is full, whose fsync fails, whose directory is wrong, whose child is
killed."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest

from tests.faults.load import Connection
from tests.support import ROOT, ServerProcess, running_server, start_server


def keys_in(directory: Path) -> set[bytes]:
    with running_server(directory) as server:
        client = Connection(server.port)
        found = set(client.ask(b"KEYS", b"*"))
        client.close()
    return found


def until(what: str, condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"waited in vain: {what}"
        time.sleep(0.01)


# ---------------------------------------------------------------------------------- disk full


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_full_disk_refuses_writes_serves_reads_and_heals(tmp_path: Path, policy: str) -> None:
    with running_server(tmp_path, "--fsync", policy) as server:
        client = Connection(server.port)
        acknowledged = {b"before"}
        assert client.ask(b"SET", b"before", b"x") == b"OK"
        for limit in (3000, 7001, 9002):
            hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, hard))
            refused = None
            for n in range(200):
                key = b"%d:%d" % (limit, n)
                reply = client.ask(b"SET", key, b"y" * 100)
                if isinstance(reply, hiredis.ReplyError):
                    refused = str(reply)
                    break
                acknowledged.add(key)
            assert refused is not None
            assert refused.startswith("MISCONF Errors writing to the journal: File too large")
            assert client.ask(b"GET", b"before") == b"x"
            assert str(client.ask(b"DEL", b"before")).startswith("MISCONF")
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            until("writes again", lambda: client.ask(b"SET", b"after", b"1") == b"OK")
        client.close()
        server.kill()
    found = keys_in(tmp_path)
    assert acknowledged | {b"after"} <= found
    assert len(found) <= len(acknowledged) + 1 + 3  # what was refused may have been kept


# --------------------------------------------------------------------------------- failed fsync


@pytest.fixture
def strace() -> str:
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed")
    return path


@contextlib.contextmanager
def traced_server(
    strace: str, directory: Path, inject: str, *options: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server whose system calls are tampered with."""
    command = [
        strace,
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={inject.split(':', maxsplit=1)[0]}",
    ]
    command += ["-e", f"inject={inject}", sys.executable, "-m", "kvserver", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--data-dir", str(directory), *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            ready = re.search(r"ready.*:(\d+)$", line)
            if ready:
                break
        else:
            if "ptrace" in said or "PTRACE" in said:
                pytest.skip("strace may not trace here")
            raise AssertionError(said)
        yield process, int(ready[1])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # strace alone would let the server go on
        process.wait()
        process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_failed_fsync_stops_the_server_and_is_never_acknowledged(
    tmp_path: Path, strace: str, policy: str
) -> None:
    start_server(tmp_path).stop()
    inject = "fdatasync:error=EIO:when=3"  # counted by thread: the start needs fewer in its own
    with traced_server(strace, tmp_path, inject, "--fsync", policy) as (process, port):
        client = Connection(port)
        acknowledged, refused = 0, ""
        with contextlib.suppress(OSError):
            while True:
                reply = client.ask(b"SET", b"%d" % acknowledged, b"x")
                if reply != b"OK":
                    refused = str(reply)
                    break
                acknowledged += 1
                time.sleep(0.002)
        client.close()
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(timeout=10) == 74
    assert "fsync failed: Input/output error" in said
    assert "Traceback" not in said
    if policy == "always":
        assert acknowledged == 2
        assert refused.startswith("MISCONF fsync failed: Input/output error")
    assert {b"%d" % n for n in range(acknowledged)} <= keys_in(tmp_path)


@pytest.mark.slow
def test_under_always_no_reply_comes_before_the_sync_is_done(tmp_path: Path, strace: str) -> None:
    inject = "fdatasync:delay_enter=300000"
    with traced_server(strace, tmp_path, inject, "--fsync", "always") as (_, port):
        client = Connection(port)
        for n in range(2):
            began = time.monotonic()
            assert client.ask(b"SET", b"k", b"%d" % n) == b"OK"
            assert time.monotonic() - began >= 0.3
        client.close()


@pytest.mark.slow
def test_a_slow_disk_holds_writers_back_under_everysec_but_loses_nothing(
    tmp_path: Path, strace: str
) -> None:
    start_server(tmp_path).stop()
    inject = "fdatasync:delay_enter=2500000:when=2+"
    with traced_server(strace, tmp_path, inject, "--fsync", "everysec") as (_, port):
        client = Connection(port)
        slowest_s = 0.0

        def held() -> bool:
            nonlocal slowest_s
            began = time.monotonic()
            assert client.ask(b"INCR", b"n") > 0
            slowest_s = max(slowest_s, time.monotonic() - began)
            figures = client.ask(b"STATS")
            return bool(figures[figures.index(b"journal_held_replies") + 1])

        until("a reply that is held", held, 30)  # which sync is the first slow one may differ
        client.close()
    assert slowest_s < 4


# -------------------------------------------------------------------------- the wrong directory


def refusal(directory: Path, *options: str) -> tuple[int, str, float]:
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "kvserver", "--port", "0", "--data-dir", str(directory), *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return result.returncode, result.stderr, time.monotonic() - began


def one_line(said: str) -> str:
    lines = said.splitlines()
    assert len(lines) == 1, said
    return lines[0]


def test_a_second_server_on_a_directory_is_refused_naming_the_first(server: ServerProcess) -> None:
    directory = Path(f"/proc/{server.process.pid}/cwd")  # where it runs does not matter
    arguments = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().split(b"\0")
    directory = Path(arguments[arguments.index(b"--data-dir") + 1].decode())
    code, said, _ = refusal(directory)
    assert code == 1
    assert f"in use by process {server.process.pid}" in one_line(said)


def test_of_servers_that_start_at_once_exactly_one_gets_the_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kvserver", "--port", "0", "--data-dir", str(tmp_path)]
    servers = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    try:
        until("two refusals", lambda: sum(s.poll() is not None for s in servers) == 2, 30)
        losers = [s for s in servers if s.poll() is not None]
        assert [s.returncode for s in losers] == [1, 1]
    finally:
        for each in servers:
            each.kill()
            each.communicate()


def test_a_killed_server_leaves_no_lock_behind(tmp_path: Path) -> None:
    start_server(tmp_path).kill()
    server = start_server(tmp_path)
    assert server.stop() == 0


def test_a_file_where_the_directory_should_be_is_one_line_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said, _ = refusal(tmp_path / "file")
    assert code == 1
    assert "file" in one_line(said)


def test_a_read_only_directory_is_one_line_and_exit_1(tmp_path: Path) -> None:
    script = (
        f"mount --bind -o ro {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path} && "
        f"exec {sys.executable} -m kvserver --port 0 --data-dir {tmp_path}"
    )
    result = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if "mount" in result.stderr or "unshare" in result.stderr:
        pytest.skip(f"no mount namespace here: {result.stderr.strip()[:80]}")
    assert result.returncode == 1
    assert "Read-only file system" in one_line(result.stderr)


@pytest.fixture(scope="module")
def old_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed server left: a few segments."""
    directory = tmp_path_factory.mktemp("old")
    with running_server(directory, "--segment", "2kb") as server:
        client = Connection(server.port)
        for n in range(60):
            assert client.ask(b"SET", b"%d" % n, b"v" * 100) == b"OK"
            time.sleep(0.005)
        client.close()
        server.kill()
    return directory


@pytest.fixture
def damaged(old_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(old_directory, tmp_path / "copy"))


def test_a_missing_segment_is_one_line_and_exit_1(damaged: Path) -> None:
    first = min(damaged.glob("segment-*"))
    first.unlink()
    code, said, _ = refusal(damaged)
    assert code == 1
    assert first.name in one_line(said)


def test_a_manifest_from_the_future_is_one_line_and_exit_1(damaged: Path) -> None:
    manifest = damaged / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 9'))
    code, said, _ = refusal(damaged)
    assert code == 1
    assert "newer kvserver" in one_line(said)


def test_a_flipped_bit_is_one_line_and_exit_1_and_salvage_goes_on(damaged: Path) -> None:
    first = min(damaged.glob("segment-*"))
    data = bytearray(first.read_bytes())
    data[40] ^= 4
    first.write_bytes(data)
    code, said, _ = refusal(damaged)
    assert code == 1
    assert f"{first.name} at byte 0 (record 1)" in one_line(said)
    with running_server(damaged, "--log-recovery", "salvage") as server:
        client = Connection(server.port)
        assert client.ask(b"DBSIZE") == 59
        client.close()


def test_a_torn_tail_is_cut_and_the_server_says_so(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        client = Connection(server.port)
        for n in range(60):
            assert client.ask(b"SET", b"%d" % n, b"v" * 100) == b"OK"
        client.close()
        server.kill()
    (written,) = (path for path in tmp_path.glob("segment-*") if path.stat().st_size)
    with written.open("ab") as file:  # far from full, so it is the open one, without a footer
        file.write(bytes(100))
    with running_server(tmp_path) as server:
        client = Connection(server.port)
        assert client.ask(b"DBSIZE") == 60
        figures = client.ask(b"STATS")
        assert figures[figures.index(b"journal_torn_bytes") + 1] == 100
        client.close()


# ---------------------------------------------------------------------------------- compaction


def child_of(pid: int) -> int | None:
    """The compaction child of a server, as soon as it is one."""
    children: list[str] = []
    with contextlib.suppress(OSError):  # each thread has children of its own
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += (task / "children").read_text().split()
    for child in map(int, children):
        with contextlib.suppress(OSError):
            if b"kvserver.journal.compactor" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return None


@contextlib.contextmanager
def stopped_in_compaction(directory: Path) -> Iterator[tuple[ServerProcess, int]]:
    """A server with 3,000 keys whose compaction child stands still."""
    with running_server(directory) as server:
        client = Connection(server.port)
        client.send(*((b"SET", b"%d" % n, b"v" * 100) for n in range(3000)))
        assert {client.read() for _ in range(3000)} == {b"OK"}
        client.ask(b"BGREWRITEAOF")
        client.close()
        child: list[int] = []

        def caught() -> bool:
            found = child_of(server.process.pid)
            if found is not None:
                os.kill(found, signal.SIGSTOP)
                child.append(found)
            return bool(child)

        until("a child", caught)
        yield server, child[0]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True


def assert_clean(directory: Path) -> None:
    assert len(keys_in(directory)) == 3000
    names = {path.name for path in directory.iterdir()}
    listed = (directory / "MANIFEST.json").read_text()
    assert {n for n in names if n not in {"LOCK", "MANIFEST.json"} and n not in listed} == set()


@pytest.mark.slow
def test_sigterm_during_compaction_ends_at_once_and_leaves_the_old_files(tmp_path: Path) -> None:
    with stopped_in_compaction(tmp_path) as (server, child):
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
        until("the child is gone", lambda: gone(child))
    assert_clean(tmp_path)


@pytest.mark.slow
def test_sigkill_during_compaction_takes_the_child_along(tmp_path: Path) -> None:
    with stopped_in_compaction(tmp_path) as (server, child):
        server.kill()
        os.kill(child, signal.SIGCONT)
        until("the child is gone", lambda: gone(child))
    assert_clean(tmp_path)


@pytest.mark.slow
def test_a_full_disk_or_a_killed_child_is_a_failed_compaction_and_nothing_else(
    tmp_path: Path,
) -> None:
    with stopped_in_compaction(tmp_path) as (server, child):
        resource.prlimit(child, resource.RLIMIT_FSIZE, (1000, 1000))
        os.kill(child, signal.SIGCONT)
        client = Connection(server.port)

        def figure(name: bytes) -> int | bytes:
            figures = client.ask(b"STATS")
            value: int | bytes = figures[figures.index(name) + 1]
            return value

        until("a failure", lambda: figure(b"compaction_failures") == 1)
        assert b"File too large" in bytes(figure(b"compaction_last_error"))
        assert client.ask(b"SET", b"0", b"new") == b"OK"
        client.ask(b"BGREWRITEAOF")
        until("a success", lambda: figure(b"compaction_runs") == 1)
        assert figure(b"compaction_failures") == 0
        client.close()
        server.kill()
    assert_clean(tmp_path)
