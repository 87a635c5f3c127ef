"""The real file system: private files, no links followed, one lock."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvserver.errors import DirectoryError
from kvserver.journal.directory import open_directory
from kvserver.journal.fs import LockHeldError, RealFileSystem
from kvserver.journal.recovery import Recovery, recover


def test_files_and_directories_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    journal, _ = recover(RealFileSystem(path, create=True), lambda _effects: None)
    journal.append([["set", b"a", b"b"]])
    journal.close()
    assert path.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o600}


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the system was told that it may forget: offset and size. It does not listen."""
    if sys.platform != "linux":
        pytest.skip("only Linux takes such advice")
    noted: list[tuple[int, int]] = []

    def advise(_fd: int, offset: int, count: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        noted.append((offset, count))
        raise OSError(22, "not on this file system")

    monkeypatch.setattr(os, "posix_fadvise", advise)
    return noted


def test_what_is_synced_need_not_stay_in_memory(
    tmp_path: Path, left: list[tuple[int, int]]
) -> None:
    mebibyte = 1 << 20
    with contextlib.closing(RealFileSystem(tmp_path).create("file")) as file:
        for count in (100, 2 * mebibyte, 0, 4096, mebibyte):
            file.write(bytes(count))
            file.sync()
        assert file.read(mebibyte, 3) == bytes(3)
    assert left == [(0, 2 * mebibyte), (2 * mebibyte, mebibyte)]


def test_what_a_start_has_read_need_not_stay_in_memory(
    tmp_path: Path, left: list[tuple[int, int]]
) -> None:
    everything = (0, 0)
    for _ in range(2):
        journal, _ = recover(RealFileSystem(tmp_path), lambda _effects: None)
        journal.append([["set", b"a", b"b"]])
        journal.close()
    assert left == [everything]  # there was nothing to read at the first one


def test_a_symbolic_link_at_a_name_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "MANIFEST.json").symlink_to(tmp_path / "target")
    with pytest.raises(DirectoryError, match="MANIFEST"):
        Recovery(RealFileSystem(tmp_path / "data"))
    assert (tmp_path / "target").read_text() == "mine"


def test_the_second_server_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    held = Recovery(RealFileSystem(tmp_path))
    with pytest.raises(DirectoryError, match=f"in use by process {os.getpid()}"):
        Recovery(RealFileSystem(tmp_path))
    held.abandon()
    Recovery(RealFileSystem(tmp_path)).abandon()


def test_a_lock_ends_with_its_process_and_is_not_inherited_by_children(tmp_path: Path) -> None:
    child = (
        "import subprocess, sys\n"
        "from kvserver.journal.fs import RealFileSystem\n"
        "lock = RealFileSystem(sys.argv[1]).lock('LOCK')\n"
        "sleeper = subprocess.Popen(['sleep', '30'], stdout=subprocess.DEVNULL, close_fds=False)\n"
        "print(sleeper.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", child, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        sleeper = int(process.stdout.readline())
        try:
            with pytest.raises(LockHeldError) as caught:
                RealFileSystem(tmp_path).lock("LOCK")
            assert caught.value.holder == process.pid
            process.kill()
            process.wait()
            RealFileSystem(tmp_path).lock("LOCK").release()
        finally:
            os.kill(sleeper, 9)


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_what_cannot_be_a_directory_is_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" if kind == "file" else tmp_path / "file" / "data"
    with pytest.raises(DirectoryError) as caught:
        open_directory(path, create=True)
    assert str(path.parent if kind == "file" else tmp_path / "file") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_short_read_at_the_end_gives_what_there_is(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    file = fs.create("x")
    assert file.write(b"abc", b"def") == 6
    assert file.read(4, 100) == b"ef"
    assert file.read(6, 1) == b""
    file.truncate(2)
    assert file.size() == 2
    file.close()
    file.close()
