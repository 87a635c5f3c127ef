"""Whatever a command line names becomes an input, or a sentence about why not."""

from __future__ import annotations

import gzip
import os
import socket
from pathlib import Path

import pytest

from parser.source import STDIN, Problem, expand, inspect, look_at


def paths(*arguments: object) -> tuple[list[str], list[str]]:
    inputs, problems = expand([str(argument) for argument in arguments])
    return [found.path for found in inputs], [str(problem) for problem in problems]


def test_files_globs_and_directories_are_taken_once_each(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    for name in ("b.log", "a.log", "sub/c.log", "sub/deep/d.txt"):
        (tmp_path / name).write_bytes(b"x\n")
    (tmp_path / "same.log").symlink_to(tmp_path / "a.log")
    os.link(tmp_path / "a.log", tmp_path / "hard.log")
    found, problems = paths(tmp_path / "b.log", tmp_path / "*.log", tmp_path)
    names = [str(Path(path).relative_to(tmp_path)) for path in found]
    assert names == ["b.log", "a.log", "sub/c.log", "sub/deep/d.txt"]
    assert problems == []


def test_a_name_with_a_bracket_that_exists_is_no_glob(tmp_path: Path) -> None:
    path = tmp_path / "app[1].log"
    path.write_bytes(b"x\n")
    assert paths(path) == ([str(path)], [])


def test_what_is_no_file_is_told_and_stops_nothing(tmp_path: Path) -> None:
    good = tmp_path / "good.log"
    good.write_bytes(b"x\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        found, problems = paths(
            tmp_path / "pipe",
            tmp_path / "loop",
            tmp_path / "socket",
            "/dev/zero",
            tmp_path / "missing.log",
            tmp_path / "no*match",
            good,
        )
    assert found == [str(good)]
    assert [problem.rpartition(": ")[2] for problem in problems] == [
        "is a named pipe, not a file",
        "too many levels of symbolic links",
        "is a socket, not a file",
        "is a device, not a file",
        "no such file or directory",
        "no file matches",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(tmp_path: Path) -> None:
    path = tmp_path / "secret.log"
    path.write_bytes(b"x\n")
    path.chmod(0)
    assert paths(path) == ([], [f"{path}: permission denied"])


def test_standard_input_is_named_by_a_dash() -> None:
    assert paths(STDIN) == ([STDIN], [])


def test_compression_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    packed = tmp_path / "plain.log"
    packed.write_bytes(gzip.compress(b"a line\n" * 100))
    plain = tmp_path / "packed.gz"
    plain.write_bytes(b"a line\n" * 100)
    kinds = []
    for path in (packed, plain):
        found = inspect(str(path))
        assert not isinstance(found, Problem)
        looked = look_at(found)
        assert looked.begin == b"a line\n" * 100
        assert looked.size == 700
        kinds.append(found.kind)
    assert kinds == ["gz", "plain"]
