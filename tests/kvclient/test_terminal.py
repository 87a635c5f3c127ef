"""What a person sees: tables, the live screens, the prompt with its history and completion."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from kvclient import Client
from parser.patterns import mask, pattern_id
from parser.summary import Summary, pack
from parser.synthetic import generate
from tests.kvclient.fake import FakeServer, fake_server
from tests.support import ROOT, ServerProcess, start_server
from tests.terminal import Terminal, terminal

MESSAGE = b"Receiving block blk_1 src: /10.0.0.1:50010"
PATTERN = mask(MESSAGE)
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.url) as connected:
        yield connected


def kvcli(
    server: ServerProcess | FakeServer, home: Path, *args: str, **more: Any
) -> AbstractContextManager[Terminal]:
    command = [sys.executable, "-m", "kvclient", "--url", server.url, *args]
    return terminal(command, cwd=ROOT, env={"HOME": str(home), "XDG_STATE_HOME": ""}, **more)


def fed(client: Client, key: bytes, n: int, start: int = 0) -> None:
    """Count ``n`` events of MESSAGE to the key, as an ingest does."""
    import msgpack

    position = (1_226_262_918_000, 9, 0)
    delta = pack(
        Summary(n, position, position, {"INFO": n - 1, "WARN": 1}, {pattern_id(PATTERN): n})
    )
    header = {
        "source": 9,
        "ranges": [[start, start + n]],
        "books": {"lines": n, "matched": n, "unparsed": 0, "skipped": 0},
        "patterns": {pattern_id(PATTERN): [PATTERN, n, position, position, MESSAGE]},
        "about": {"path": "x.log"},
    }
    client.ingest(msgpack.packb(header), msgpack.packb([key, delta]))


def test_a_summary_is_a_table_with_the_text_of_each_event(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    fed(client, b"block_1", 20)
    with kvcli(server, tmp_path, "get", "block_1") as seen:
        assert seen.ended() == 0
        text = seen.text
    assert "block_1" in text
    assert "2008-11-09T20:35:18Z" in text
    assert "INFO 19" in text
    assert "Receiving block <*> src: <*>" in text
    assert "{" not in text


def test_json_is_json_on_a_terminal_too(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    fed(client, b"block_1", 20)
    with kvcli(server, tmp_path, "get", "block_1", "--json", columns=400) as seen:
        assert seen.ended() == 0
        assert json.loads(seen.text)["count"] == 20


def test_keys_cannot_move_the_cursor(server: ServerProcess, client: Client, tmp_path: Path) -> None:
    client.set(b"evil\x1b[2J", "x")
    with kvcli(server, tmp_path, "keys") as seen:
        assert seen.ended() == 0
        assert "\x1b[2J" not in seen.raw
        assert r"evil\x1b[2J" in seen.text


def test_watch_shows_the_change_and_ends_with_q(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    with kvcli(server, tmp_path, "watch", "block_1", "--every", "50ms") as seen:
        seen.wait_for("is not there")
        fed(client, b"block_1", 20)
        seen.wait_for("20")
        fed(client, b"block_1", 5, start=20)
        seen.wait_for(r"\+5 events")
        seen.type("q")
        assert seen.ended() == 0


def test_stats_watch_is_a_screen_that_lives_and_is_left_clean(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    with kvcli(server, tmp_path, "stats", "--watch", "--every", "100ms") as seen:
        seen.wait_for(r"keys\s+0")
        client.set("a", "b")
        seen.wait_for(r"keys\s+1")
        seen.wait_for(r"[\d,]+ commands/s")
        seen.type("\x03")  # Ctrl-C
        assert seen.ended() == 130
        assert "\x1b[?1049l" in seen.raw  # back from the other screen
        assert "\x1b[?25h" in seen.raw  # the cursor is there again
        assert "Traceback" not in seen.text


def test_the_shell_completes_remembers_and_goes_on_after_mistakes(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    client.set("greeting", "hello")
    with kvcli(server, tmp_path, "shell") as seen:
        for keys, answer in [
            ("get gre\t\n", r"hello\r\n"),  # completes the key
            ("pers\tnope\n", "no such key: nope"),  # completes the command
            ("INCR n\n", r"\(integer\) 1"),
            ("get 'open\n", "No closing quotation"),
            ("auth secret\n", r"\(error\) "),
            ("half a line", "half a line"),
        ]:
            seen.wait_for(r"\d> ")
            seen.type(keys)
            seen.wait_for(answer)
        seen.type_until("\x03", r"\d> ")  # Ctrl-C gives up the line, not the shell
        seen.type("exit\n")
        assert seen.ended() == 0
    history = tmp_path / ".local/state/kvcli/history"
    assert "get greeting" in history.read_text()
    assert "secret" not in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    with kvcli(server, tmp_path, "shell") as seen:
        seen.wait_for(r"\d> ")
        seen.type("\x1b[A" * 2)  # the last but one line of the last time
        seen.wait_for("get 'open|INCR n|exit")
        seen.type("\x04" * 3 + "\x15\x04")
        assert seen.ended() == 0


def test_the_import_has_a_bar_that_goes_away(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "big.json"
    keys = ", ".join(f'"key:{n}": "v"' for n in range(30_000))
    path.write_text(f'{{"cache": {{{keys}}}}}')
    with kvcli(server, tmp_path, "import", str(path)) as seen:
        seen.wait_for("importing")
        seen.wait_for(r"[\d,]+/30,?000")
        seen.wait_for("imported 30,000 keys")
        assert seen.ended() == 0
    assert client.size() == 30_000


def test_an_ingest_has_a_bar_that_goes_away_and_a_report_that_stays(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    log = tmp_path / "hdfs.log"
    log.write_bytes(b"".join(generate("hdfs", 8000, 5)))
    with kvcli(server, tmp_path, "ingest", str(log)) as seen:
        seen.wait_for(r"/1\.1 MiB")
        seen.wait_for(r"lines\s+8,000")
        seen.wait_for(r"unparsed\s+0")
        assert seen.ended() == 0
        assert "\x1b[2K" in seen.raw  # the bar's line was wiped
    assert client.exists("block_123") == 1


def test_without_a_server_a_live_command_says_so_at_once(tmp_path: Path) -> None:
    for command in (["stats", "--watch"], ["watch", "x"], ["monitor"], ["shell"]):
        started_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "kvclient", "--port", "1", *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=30,
        )
        assert done.returncode == 1
        assert "start one with: kvserver" in done.stderr
        assert time.monotonic() - started_s < 10


def test_top_and_find_are_tables_whose_last_column_is_what_there_is(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    fed(client, b"block_1", 20)
    with kvcli(server, tmp_path, "top") as seen:
        assert seen.ended() == 0
        assert "levels" in seen.text
        assert "INFO 19 WARN 1" in seen.text
    client.clear()
    client.execute("MERGE", "client_1", '{"count": 3, "tags": {"status": {"200": 2, "500": 1}}}')
    with kvcli(server, tmp_path, "find", "client_*") as seen:
        assert seen.ended() == 0
        assert "status" in seen.text
        assert "200 2 500 1" in seen.text
    with kvcli(server, tmp_path, "top", "--by", "size") as seen:
        assert seen.ended() == 0
        assert "bytes" in seen.text


def test_a_live_screen_says_when_the_server_is_away_and_goes_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    server = start_server(tmp_path / "data")
    try:
        with Client(server.url) as client:
            client.set("k", "before")
        with kvcli(server, tmp_path, "watch", "k", "--every", "50ms") as seen:
            seen.wait_for("before")
            server.kill()
            seen.wait_for("asking again")
            server = start_server(tmp_path / "data", "--port", str(server.port))
            with Client(server.url) as client:
                client.set("k", "after")
            seen.wait_for("after")
            seen.type("q")
            assert seen.ended() == 0
    finally:
        server.stop()


def test_a_live_screen_waits_for_a_server_that_reads_its_data(tmp_path: Path) -> None:
    values = iter([b"$6\r\nbefore\r\n", LOADING, LOADING, b"$5\r\nafter\r\n"])

    def answer(_: int, command: list[bytes]) -> bytes:
        return next(values) if command[0] == b"GET" else b"+PONG\r\n"

    with (
        fake_server(answer) as server,
        kvcli(server, tmp_path, "watch", "k", "--every", "50ms", "--count", "2") as seen,
    ):
        seen.wait_for("before")
        seen.wait_for("reads its data; asking again")
        seen.wait_for("after")
        assert seen.ended() == 0


def test_events_are_not_shown_without_their_text_because_the_server_reads_its_data(
    tmp_path: Path,
) -> None:
    summary = b'{"count": 7, "events": {"00000000000000ff": 7}}'.replace(b": ", b":")
    seldom = {b"GET": iter([b"$6\r\nbefore\r\n"]), b"PATTERNS": iter([LOADING])}
    often = {
        b"GET": b"$%d\r\n%s\r\n" % (len(summary), summary),
        b"PATTERNS": b"*1\r\n*2\r\n$16\r\n00000000000000ff\r\n$10\r\nSent <*> B\r\n",
        b"PING": b"+PONG\r\n",
        b"STATS": b"%1\r\n$8\r\npatterns\r\n:1000000\r\n",
    }

    def answer(_: int, command: list[bytes]) -> bytes:
        return next(seldom.get(command[0], iter([])), often[command[0]])

    with (
        fake_server(answer) as server,
        kvcli(server, tmp_path, "watch", "k", "--every", "50ms", "--count", "2") as seen,
    ):
        seen.wait_for("before")
        seen.wait_for("reads its data; asking again")
        seen.wait_for("Sent <\\*> B")
        assert seen.ended() == 0


def test_a_server_that_reads_its_data_is_one_line_that_says_so(tmp_path: Path) -> None:
    with (
        fake_server(lambda *_: LOADING) as server,
        kvcli(server, tmp_path, "get", "k") as seen,
    ):
        assert seen.ended() == 1
        assert "kvcli: the server was just started and reads its data" in seen.text
