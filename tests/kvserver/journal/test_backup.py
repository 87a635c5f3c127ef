"""``kvcli backup``: a consistent copy of a server that goes on writing; ``kvcli compact``."""

from __future__ import annotations

import json
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from kvserver.errors import JournalError
from kvserver.journal.backup import MAX_OPEN
from kvserver.journal.fs import RealFileSystem
from kvserver.journal.recovery import recover
from kvserver.keyspace import Keyspace
from tests.faults.load import Connection
from tests.support import ServerProcess, run_kvcli, running_server

SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""How to unpack; the filter came with Python 3.11.4."""


def test_a_backup_is_the_journal_at_its_moment_whatever_happens_after(tmp_path: Path) -> None:
    journal, _ = recover(RealFileSystem(tmp_path), lambda _e: None, segment_bytes=300)
    for n in range(30):
        journal.append([["set", b"%d" % n, b"x" * 20]])
        journal.maintain()
    backup = journal.backups.begin(1)
    for n in range(30, 60):
        journal.append([["set", b"%d" % n, b"x" * 20]])
        journal.maintain()
    for entry in journal.manifest.closed:
        (tmp_path / entry.name).unlink()  # as a compaction would
    restored = tmp_path / "restored"
    restored.mkdir()
    for name, size in backup.sizes.items():
        pieces = [backup.read(name, offset, 7) for offset in range(0, size, 7)]
        (restored / name).write_bytes(b"".join(pieces))
    keyspace = Keyspace()
    copy, report = recover(RealFileSystem(restored), keyspace.apply_many)
    copy.close()
    assert keyspace.data.keys() == {b"%d" % n for n in range(30)}
    assert report.torn == []
    assert journal.backups.end(1)
    assert not journal.backups.end(1)


def test_there_is_a_bound_on_backups_and_none_reads_what_is_not_in_it(tmp_path: Path) -> None:
    journal, _ = recover(RealFileSystem(tmp_path), lambda _e: None)
    for client in range(MAX_OPEN):
        journal.backups.begin(client)
    with pytest.raises(JournalError, match="under way"):
        journal.backups.begin(99)
    journal.backups.begin(0)  # its own again
    with pytest.raises(JournalError, match="no such file"):
        journal.backups.of(0).read("../../etc/passwd", 0, 10)
    with pytest.raises(JournalError, match="no backup"):
        journal.backups.of(99)


@pytest.mark.slow
def test_kvcli_backup_under_load_restores_to_one_moment(tmp_path: Path) -> None:
    archive = tmp_path / "copy.tar.gz"
    with running_server(tmp_path / "data", "--segment", "64kb") as server:
        stop = threading.Event()
        written = [0]

        def write() -> None:
            client = Connection(server.port)
            while not stop.is_set():
                n = written[0] + 1
                client.ask(b"MSET", b"a", b"%d" % n, b"b", b"%d" % n)
                written[0] = n
            client.close()

        thread = threading.Thread(target=write)
        thread.start()
        before = written[0]
        result = run_kvcli("--url", server.url, "--json", "backup", str(archive))
        after = written[0] + 1
        stop.set()
        thread.join()
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["files"] >= 2
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "restored", **SAFELY)
    with running_server(tmp_path / "restored") as server:
        client = Connection(server.port)
        a, b = client.ask(b"MGET", b"a", b"b")
        client.close()
    assert a == b
    assert before <= int(a) <= after


def test_kvcli_compact_waits_and_says_what_it_saved(server: ServerProcess) -> None:
    client = Connection(server.port)
    for n in range(200):
        client.ask(b"SET", b"k", b"%d" % n)
    client.close()
    result = run_kvcli("--url", server.url, "--json", "compact")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["bytes_after"] < figures["bytes_before"] / 5
