"""``kvcli ingest``, ``sources`` and ``lines`` as people and scripts use them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kvclient.client import Client
from tests.support import ROOT, ServerProcess, run_kvcli, running_server

LINE = b"081109 203518 143 INFO dfs.DataNode$DataXceiver: Receiving block blk_%d src: /10.0.0.%d\n"


@pytest.fixture
def server(cleared_server: ServerProcess) -> ServerProcess:
    return cleared_server


def log(first: int, last: int) -> bytes:
    return b"".join(LINE % (n, n % 250) for n in range(first, last))


def kvcli(server: ServerProcess, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run_kvcli("--url", server.url, *[str(argument) for argument in arguments])


def shown_by(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def report_of(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    report: dict[str, Any] = shown_by(done, code)
    return report


@pytest.mark.slow
def test_the_report_has_its_figures_in_their_order(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(0, 50) + b"not a line of this format\n\n")
    done = kvcli(server, "ingest", path, "--format", "hdfs", "--json")
    report = report_of(done)
    assert list(report) == [
        "lines", "matched", "unparsed", "skipped", "new_keys", "seconds", "lines_per_second",
    ]  # fmt: skip
    assert [report[name] for name in list(report)[:5]] == [52, 50, 1, 1, 50]
    assert done.stderr == ""
    people = kvcli(server, "ingest", path)
    assert people.returncode == 0
    assert "counted before" in people.stdout
    assert "nothing new: all" in people.stderr
    assert "\x1b" not in people.stdout + people.stderr  # no bar where nobody looks


@pytest.mark.slow
def test_what_cannot_be_read_is_told_and_the_rest_is_counted(
    server: ServerProcess, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "good.log").write_bytes(log(0, 10))
    (logs / "empty.log").write_bytes(b"")
    os.mkfifo(logs / "pipe")
    (logs / "loop").symlink_to(logs / "loop")
    (logs / "cut.gz").write_bytes(gzip.compress(log(10, 2000))[:-100])
    (logs / "garbage.gz").write_bytes(b"\x1f\x8b" + b"\xff" * 50)
    done = kvcli(server, "ingest", "--json", logs, logs / "missing.log", "/dev/zero")
    report = report_of(done, code=1)
    reasons = {Path(p["path"]).name: p["reason"] for p in report["problems"]}
    assert set(reasons) == {
        "empty.log", "pipe", "loop", "cut.gz", "garbage.gz", "missing.log", "zero",
    }  # fmt: skip
    assert "cut off at byte" in reasons["cut.gz"]
    assert reasons["empty.log"] == "is empty"
    assert report["lines"] > 1000
    assert done.stderr.count("\n") == len(reasons)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_unparsed_lines_are_sampled_with_offset_and_reason(
    server: ServerProcess, tmp_path: Path
) -> None:
    path, letters = tmp_path / "app.log", tmp_path / "dead.jsonl"
    bad = [b"no form at all", b"\x00\xff\xfe binary", b"x" * (2 << 20)]
    path.write_bytes(log(0, 5) + b"\n".join(bad) + b"\n" + log(5, 10))
    for _ in range(2):  # the second run counts nothing and writes nothing
        report = report_of(
            kvcli(server, "ingest", "--json", path, "--format", "hdfs", "--dead-letter", letters)
        )
    assert report["lines"] == 0
    shown = [json.loads(line) for line in letters.read_text().splitlines()]
    assert len(shown) == 3
    for letter, line in zip(shown, bad, strict=True):
        assert letter["source"] == str(path)
        assert path.read_bytes()[letter["offset"] :].startswith(line)
        assert letter["reason"]
    assert shown[0]["bytes"] == "no form at all"
    assert set(shown[1]["bytes"]) == {"base64"}
    assert shown[2]["reason"] == "longer than 1048576 bytes"


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_is_a_source_too(
    server: ServerProcess, tmp_path: Path, packed: bool
) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(0, 3000))
    data = gzip.compress(log(0, 5000)) if packed else log(0, 5000)
    assert report_of(kvcli(server, "ingest", path, "--json"))["lines"] == 3000
    done = subprocess.run(
        [sys.executable, "-m", "kvclient", "--url", server.url, "ingest", "-", "--json"],
        cwd=ROOT,
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lines"] == 2000


@pytest.mark.slow
def test_a_pipe_is_counted_while_it_flows(server: ServerProcess) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "kvclient", "--url", server.url, "ingest", "-", "--json"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert run.stdin is not None
    with Client(server.url) as client, run.stdin as pipe:
        pipe.write(log(0, 10))
        pipe.flush()
        deadline = time.monotonic() + 15
        while client.size() < 10:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pipe.write(log(10, 20)[:-1])
    assert run.stdout is not None
    with run.stdout as out:
        report = json.loads(out.read())
    assert run.wait(timeout=30) == 0
    assert report["lines"] == 20


@pytest.mark.slow
def test_sources_and_lines_lead_back_to_the_log(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    first, last = LINE % (7, 1), LINE.replace(b"203518", b"203519") % (7, 2)
    path.write_bytes(first + log(100, 300) + last)
    assert kvcli(server, "ingest", path).returncode == 0
    (source,) = shown_by(kvcli(server, "sources", "--json"))
    size = path.stat().st_size
    assert (source["path"], source["counted_bytes"], source["size"]) == (str(path), size, size)
    assert source["books"]["lines"] == 202
    assert source["last_activity"]
    assert kvcli(server, "lines", "block_7").stdout.encode() == first + last
    assert kvcli(server, "lines", "block_7", "--last").stdout.encode() == last
    packed = tmp_path / "app.log.1.gz"  # rotated and compressed, and nobody was told
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.write_bytes(b"another log\n")
    shown = shown_by(kvcli(server, "lines", "block_7", "--json"))
    assert (shown["first"]["path"], shown["first"]["line"]) == (str(packed), first.decode()[:-1])
    packed.unlink()
    gone = kvcli(server, "lines", "block_7")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "is another log now" in gone.stderr
    path.unlink()
    assert "no such file" in kvcli(server, "lines", "block_7").stderr
    assert "no key" in kvcli(server, "lines", "nothing").stderr


@pytest.mark.slow
def test_lines_of_a_truncated_log_are_told_to_be_gone(
    server: ServerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(0, 300))
    assert kvcli(server, "ingest", path).returncode == 0
    os.truncate(path, path.stat().st_size // 2)
    assert kvcli(server, "lines", "block_3").stdout.encode() == log(3, 4) * 2
    gone = kvcli(server, "lines", "block_299")
    assert gone.returncode == 1
    assert "was truncated" in gone.stderr


@pytest.mark.slow
def test_a_moved_log_is_known_at_its_new_place(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(0, 30))
    kvcli(server, "ingest", path)
    path = path.rename(tmp_path / "elsewhere.log")
    report = report_of(kvcli(server, "ingest", path, "--json"))
    assert report["lines"] == 0
    (source,) = shown_by(kvcli(server, "sources", "--json"))
    assert source["path"] == str(path)
    assert kvcli(server, "lines", "block_3").stdout.encode() == log(3, 4) * 2


def test_mistakes_on_the_command_line_are_usage_errors() -> None:
    for arguments in (
        ["ingest"],
        ["ingest", "x", "--format", "nonsense"],
        ["ingest", "x", "--layout", "<a"],
        ["ingest", "x", "--tz", "Mars/Crater"],
        ["ingest", "x", "--retry", "soon"],
        ["ingest", "-", "--follow"],
        ["lines"],
    ):
        done = run_kvcli(*arguments)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr


def test_a_layout_without_a_key_is_refused_before_it_skips_every_line_for_good(
    server: ServerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"INFO anna logged in\nINFO ben logged in\n")
    own = ["--layout", "<level> <user> <content>"]
    formats = tmp_path / "formats.toml"
    formats.write_text('[formats.mine]\nlayout = "<level> <user> <content>"\n')
    for asked in (
        own,
        ["--regex", r"(?P<level>\w+) (?P<user>\w+) (?P<content>.*)"],
        ["--formats-file", str(formats)],
        ["--formats-file", str(formats), "--format", "mine"],
    ):
        done = run_kvcli("--port", str(server.port), "ingest", str(path), *asked)
        assert done.returncode == 2
        assert "--key" in done.stderr
        assert "level, user, content" in " ".join(done.stderr.split())
    report = report_of(kvcli(server, "ingest", str(path), *own, "--key", "user -> {}", "--json"))
    assert report["new_keys"] == report["matched"] == 2


def test_no_server_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(0, 3))
    started = time.monotonic()
    done = run_kvcli("--port", "1", "ingest", str(path))
    assert done.returncode == 1
    assert done.stderr.startswith("kvcli: no server at 127.0.0.1:1")
    assert "start one with: kvserver --port 1" in done.stderr
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - started < 10  # not the 30 s that an ingest under way would wait


@pytest.mark.slow
def test_what_the_server_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(0, 30))
    data = tmp_path / "data"
    with running_server(data, env={"KVSERVER_PASSWORD": "secret"}) as guarded:
        done = kvcli(guarded, "ingest", path)
        assert done.returncode == 1
        assert "password" in done.stderr
        assert done.stderr.count("\n") == 1
        url = guarded.url.replace("redis://", "redis://:secret@")
        assert run_kvcli("--url", url, "ingest", str(path)).returncode == 0
        with Client(url) as client:
            client.execute("FLUSHALL")
            client.set("block_7", "a string")
        done = run_kvcli("--url", url, "ingest", str(path), "--json")
        assert report_of(done, code=1)["lines"] == 0
        assert "WRONGTYPE" in done.stderr
        assert "Traceback" not in done.stderr
        with Client(url) as client:  # nothing of that range was counted
            client.delete("block_7")
        assert report_of(run_kvcli("--url", url, "ingest", str(path), "--json"))["lines"] == 30
