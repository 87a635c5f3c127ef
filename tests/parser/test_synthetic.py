"""Generated logs: the same from the same seed, of the asked size, and like the real thing."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter

import pytest

from parser.synthetic import FORMATS, generate


def written(kind: str, lines: int, seed: int = 0) -> bytes:
    return b"".join(generate(kind, lines, seed))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("lines", [0, 1, 2, 7, 1000, 20_000])
def test_there_are_exactly_as_many_lines_as_asked_for(kind: str, lines: int) -> None:
    log = written(kind, lines)
    assert log.count(b"\n") == lines
    assert log == b"" or log.endswith(b"\n")
    assert b"" not in log.split(b"\n")[:-1]


@pytest.mark.parametrize("kind", FORMATS)
def test_chunks_are_whole_lines_and_not_large(kind: str) -> None:
    chunks = list(generate(kind, 20_000, 3))
    assert all(chunk.endswith(b"\n") for chunk in chunks)
    assert max(map(len, chunks)) < 1024 * 1024


@pytest.mark.parametrize("kind", FORMATS)
def test_equal_seeds_give_equal_logs_and_others_do_not(kind: str) -> None:
    assert written(kind, 3000, 5) == written(kind, 3000, 5)
    assert written(kind, 3000, 5) != written(kind, 3000, 6)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_shorter_log_is_the_beginning_of_a_longer_one(kind: str) -> None:
    assert written(kind, 5000, 1).startswith(written(kind, 1234, 1))


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("hdfs", "912dc312245b5de3"),
        ("combined", "4096d8c9c2c37abe"),
        ("syslog", "8f22def8734da0bb"),
        ("json", "156ae65e8b6ff658"),
    ],
)
def test_the_bytes_do_not_change_from_one_release_to_the_next(kind: str, digest: str) -> None:
    assert hashlib.sha256(written(kind, 10_000, 42)).hexdigest()[:16] == digest


def test_an_hdfs_log_looks_like_the_real_one() -> None:
    lines = written("hdfs", 50_000).splitlines()
    shape = re.compile(rb"(\d{6} \d{6}) (\d+) (INFO|WARN|ERROR) (dfs\.\S+): (\S.*)")
    matches = [shape.fullmatch(line) for line in lines]
    assert all(matches)
    times = [match[1] for match in matches if match]
    assert times == sorted(times)
    levels = Counter(match[3] for match in matches if match)
    assert levels[b"INFO"] > 20 * levels[b"WARN"] > levels[b"ERROR"] > 0

    blocks: dict[bytes, list[int]] = {}
    for index, line in enumerate(lines):
        for block in set(re.findall(rb"blk_-?\d+", line)):
            blocks.setdefault(block, []).append(index)
    assert all(re.search(rb"blk_-?\d", line) for line in lines)
    assert any(block.startswith(b"blk_-") for block in blocks)
    whole = [seen for seen in blocks.values() if len(seen) > 2 and seen[-1] < 40_000]
    assert 15 < sum(map(len, whole)) / len(whole) < 22
    apart = sum(seen[-1] - seen[0] > len(seen) for seen in whole)
    assert apart > 0.95 * len(whole), "the lines of one block stand between those of others"


def test_a_block_is_received_before_it_is_served_and_deleted_last() -> None:
    story = [line for line in written("hdfs", 100_000).splitlines() if b"blk_123 " in line + b" "]
    text = b"\n".join(story)
    assert len(story) > 15
    assert b"allocateBlock" in story[0]
    assert text.count(b"Receiving block") == text.count(b"terminating") == 3
    assert text.index(b"Received block") < text.index(b"Served block") < text.index(b"Deleting")
    assert b"WARN" in text


def test_the_first_block_is_there_even_in_a_tiny_log() -> None:
    assert b"blk_123" in written("hdfs", 1)


def test_an_access_log_has_the_combined_shape() -> None:
    shape = re.compile(
        rb"[\d.]+ - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
        rb'"[A-Z]+ /\S* HTTP/1\.1" [1-5]\d\d \d+ "[^"]+" "[^"]+"'
    )
    lines = written("combined", 5000).splitlines()
    assert all(shape.fullmatch(line) for line in lines)
    assert len({line.split()[8] for line in lines}) > 6


def test_a_syslog_has_the_shape_of_rfc_3164() -> None:
    shape = re.compile(rb"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d node-\d [\w.]+(\[\d+\])?: \S.*")
    assert all(shape.fullmatch(line) for line in written("syslog", 5000).splitlines())


def test_every_json_line_is_an_object_with_a_time_a_level_and_a_message() -> None:
    events = [json.loads(line) for line in written("json", 5000).splitlines()]
    assert all({"time", "level", "message", "request_id"} <= event.keys() for event in events)
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    assert {event["level"] for event in events} == {"DEBUG", "INFO", "WARN", "ERROR"}


def test_an_unknown_format_or_a_negative_size_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no such format: 'csv'"):
        generate("csv", 1)
    with pytest.raises(ValueError, match="negative"):
        generate("hdfs", -1)


def test_benchmarks_need_not_wait_for_their_input() -> None:
    began = time.process_time()
    for _ in generate("hdfs", 100_000):
        pass
    assert time.process_time() - began < 100_000 / 100_000, "at least 100,000 lines/s, even here"
