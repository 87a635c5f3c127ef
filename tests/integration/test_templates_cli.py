"""Templates of a real store: by worker count, after a restart, at the command line, as messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from tests.support import ServerProcess, run_kvcli, running_server

pytestmark = pytest.mark.slow

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox"]


def write_log(path: Path, lines: int = 600) -> None:
    """An HDFS-like log whose messages vary in a word, a number and a list."""
    with path.open("w") as file:
        for n in range(lines):
            name = NAMES[n // 3 % len(NAMES)]
            messages = [
                f"Moved blk_{n % 40} into pool {name} by request",
                f"Checked blk_{n % 40} in {n} ms",
                f"Freed blk_{n % 40} pages {' '.join(map(str, range(1 + n % 5)))}",
            ]
            file.write(f"081109 2035{n % 60:02d} 148 INFO dfs.X: {messages[n % 3]}\n")


def store_templates(server: ServerProcess, *options: str) -> list[dict[str, object]]:
    done = run_kvcli("--url", server.url, "templates", "--json", *options)
    assert done.returncode == 0, done.stderr
    shown: list[dict[str, object]] = json.loads(done.stdout)
    return shown


def ingest(server: ServerProcess, path: Path, workers: int) -> None:
    done = run_kvcli(
        "--url", server.url, "ingest", str(path), "--format", "hdfs", "--workers", str(workers)
    )
    assert done.returncode == 0, done.stderr


def test_templates_are_the_same_for_one_worker_or_two_and_after_a_restart(
    tmp_path: Path,
) -> None:
    log = tmp_path / "a.log"
    write_log(log)
    found = []
    for workers in (1, 2):
        directory = tmp_path / f"data{workers}"
        with running_server(directory) as server:
            ingest(server, log, workers)
            found.append(store_templates(server))
        with running_server(directory) as server:
            found.append(store_templates(server))
    assert all(one == found[0] for one in found)
    assert {one["template"]: one["count"] for one in found[0]} == {
        "Moved <*> into pool <*> by request": 200,
        "Checked <*> in <*> ms": 200,
        "Freed <*> pages <*>": 200,
    }


def test_a_template_file_names_templates(server: ServerProcess, tmp_path: Path) -> None:
    log, file = tmp_path / "a.log", tmp_path / "names.csv"
    write_log(log, 60)
    file.write_text("EventId,EventTemplate\nE9,Checked <*> in <*> ms\n")
    ingest(server, log, 1)
    shown = store_templates(server, "--templates", str(file))
    assert {one["id"]: one["count"] for one in shown if one["pinned"]} == {"E9": 20}
    assert sum(int(str(one["count"])) for one in shown) == 60


def test_a_new_pattern_is_published_once(server: ServerProcess, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    write_log(log, 60)
    with redis.Redis(host=server.host, port=server.port) as client, client.pubsub() as channel:
        channel.subscribe("kv:new-pattern")
        assert channel.get_message(timeout=5)["type"] == "subscribe"
        ingest(server, log, 1)
        heard = []
        while (message := channel.get_message(timeout=1)) is not None:
            heard.append(message["data"])
    known = client.execute_command("PATTERNS")
    assert sorted(heard) == sorted(b"%b %b" % (row[0], row[1]) for row in known)
    assert len(set(heard)) == len(heard) > 3
