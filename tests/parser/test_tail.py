"""The end of a log is read from its end, and its future survives every kind of rotation."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.tail import Follower, first_lines, last_lines, last_lines_of_stream

TEXTS = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"long line"]), max_size=30).map(
    b"".join
)


def lines_of(text: bytes) -> list[bytes]:
    return text.splitlines(keepends=True)


@given(TEXTS, st.integers(0, 12), st.integers(1, 9))
def test_the_last_lines_are_those_of_the_whole_text(text: bytes, lines: int, block: int) -> None:
    expected = b"".join(lines_of(text)[-lines:]) if lines else b""
    assert b"".join(last_lines(io.BytesIO(text), lines, block)) == expected


@given(TEXTS, st.integers(0, 12), st.integers(1, 9))
def test_a_stream_gives_the_same_last_lines(text: bytes, lines: int, cut: int) -> None:
    chunks = [text[at : at + cut] for at in range(0, len(text), cut)]
    expected = b"".join(lines_of(text)[-lines:]) if lines else b""
    assert b"".join(last_lines_of_stream(chunks, lines)) == expected


@given(TEXTS, st.integers(0, 12), st.integers(1, 9))
def test_the_first_lines_are_those_of_the_whole_text(text: bytes, lines: int, cut: int) -> None:
    chunks = [text[at : at + cut] for at in range(0, len(text), cut)]
    assert b"".join(first_lines(chunks, lines)) == b"".join(lines_of(text)[:lines])


def test_the_first_lines_ask_for_no_more_than_they_need() -> None:
    def chunks() -> Any:
        yield b"a\nb\nc\n"
        raise AssertionError("read too far")

    assert list(first_lines(chunks(), 2)) == [b"a\nb\n"]


def test_the_end_of_a_large_file_is_read_without_reading_the_file(tmp_path: Path) -> None:
    log = tmp_path / "big.log"
    with log.open("wb") as file:
        file.truncate(1 << 36)  # a hole: reading 64 GiB of it would take minutes
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast but one\nlast\n")
    with log.open("rb") as file:
        assert b"".join(last_lines(file, 2)) == b"last but one\nlast\n"


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def all_of(follower: Follower) -> bytes:
    text = b""
    while data := follower.read():
        text += data
    return text


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_bytes(b"one\n")
    return path


def test_what_is_appended_is_read_once(log: Path) -> None:
    follower = Follower(log)
    assert all_of(follower) == b"one\n"
    append(log, b"two\nth")
    assert all_of(follower) == b"two\nth"
    append(log, b"ree\n")
    assert all_of(follower) == b"ree\n"
    assert all_of(follower) == b""
    assert follower.notices == []
    follower.close()


def test_following_may_begin_at_the_end(log: Path) -> None:
    follower = Follower(log, offset=4)
    append(log, b"two\n")
    assert all_of(follower) == b"two\n"
    follower.close()


def test_a_renamed_log_is_read_to_its_end_before_the_new_one(log: Path) -> None:
    follower = Follower(log, offset=4)
    old = log.rename(log.with_suffix(".1"))
    append(old, b"last of the old\n")
    assert all_of(follower) == b"last of the old\n"
    append(old, b"even later\n")
    log.write_bytes(b"first of the new\n")
    assert all_of(follower) == b"even later\nfirst of the new\n"
    assert "new file" in follower.notices[0]
    follower.close()


def test_a_truncated_log_is_read_from_its_start(log: Path) -> None:
    follower = Follower(log, offset=4)
    log.write_bytes(b"2\n")
    assert all_of(follower) == b"2\n"
    assert "truncated" in follower.notices[0]
    follower.close()


def test_a_log_that_is_away_for_a_while_is_waited_for(log: Path) -> None:
    log.unlink()
    follower = Follower(log)
    assert all_of(follower) == b""
    log.write_bytes(b"back\n")
    assert all_of(follower) == b"back\n"
    log.unlink()
    assert all_of(follower) == b""
    log.write_bytes(b"again\n")
    assert all_of(follower) == b"again\n"
    follower.close()


def test_an_unfinished_line_does_not_run_into_the_next_file(log: Path) -> None:
    follower = Follower(log, offset=4)
    append(log, b"cut sho")
    assert all_of(follower) == b"cut sho"
    log.unlink()
    log.write_bytes(b"new\n")
    assert all_of(follower) == b"\nnew\n"
    follower.close()
