"""What a range of lines gives: books, keys, continuation lines, bad input."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.extract import MAX_LINE_BYTES, RangeSummary
from parser.format import Format, make_format
from parser.formats import BUILTIN
from parser.interpreter import Interpreter
from parser.patterns import mask, pattern_id
from parser.summary import Summary, merge, unpack
from tests.support import real_log

HDFS = BUILTIN["hdfs"]
LINE = b"081109 203615 148 INFO dfs.X: block blk_1 done"
WARN = b"081109 203600 148 WARN dfs.X: block blk_1 lost of blk_2"
SERVICE = make_format(
    "service",
    layouts=["<time:iso> <level> <content>"],
    keys=["content ~ req-<hex> -> request_{}"],
)


def summarize(
    data: bytes, fmt: Format = HDFS, *, multiline: bool = False, offset: int = 0
) -> RangeSummary:
    return Interpreter(fmt, multiline=multiline).summarize(data, source=7, offset=offset)


def keys_of(result: RangeSummary) -> dict[bytes, Summary]:
    flat = msgpack.unpackb(result.packed)
    assert len(flat) == 2 * result.keys
    return {key: unpack(delta) for key, delta in zip(flat[::2], flat[1::2], strict=True)}


def books(result: RangeSummary) -> tuple[int, int, int, int, int]:
    total = result.matched + result.unparsed + result.skipped + result.continued
    assert result.lines == total
    assert sum(seen.count for seen in result.patterns.values()) == result.matched
    return result.lines, result.matched, result.unparsed, result.skipped, result.continued


def test_lines_become_one_summary_for_each_key() -> None:
    result = summarize(LINE + b"\n" + WARN + b"\n")
    lost = pattern_id(mask(b"block blk_1 lost of blk_2"))
    done = pattern_id(mask(b"block blk_1 done"))
    early, late = 1226262960000, 1226262975000
    assert keys_of(result) == {
        b"block_1": Summary(
            2, (early, 7, 47), (late, 7, 0), {"INFO": 1, "WARN": 1}, {done: 1, lost: 1}
        ),
        b"block_2": Summary(1, (early, 7, 47), (early, 7, 47), {"WARN": 1}, {lost: 1}),
    }
    assert books(result) == (2, 2, 0, 0, 0)
    assert result.patterns[lost] == (
        b"block <*> lost of <*>", 1, (early, 7, 47), (early, 7, 47), b"block blk_1 lost of blk_2",
    )  # fmt: skip


def test_tags_and_numbers_belong_to_the_format() -> None:
    line = b'::1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" %s %s "-" "-"\n'
    data = line % (b"200", b"17") + line % (b"404", b"-") + line % (b"200", b"5")
    (summary,) = keys_of(summarize(data, BUILTIN["combined"])).values()
    assert summary.tags == {"status": {"200": 2, "404": 1}, "method": {"GET": 3}}
    assert summary.numbers == {"bytes": (2, 22, 5, 17)}


def test_of_a_decimal_fraction_the_whole_part_is_counted() -> None:
    line = b'{"request_id": "r1", "duration_ms": %s}\n'
    data = b"".join(line % number for number in (b"12.75", b"0.5", b"3", b'"1e3"', b'"4.25"'))
    (summary,) = keys_of(summarize(data, BUILTIN["json"])).values()
    assert summary.numbers == {"duration_ms": (4, 19, 0, 12)}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", (0, 0, 0, 0, 0)),
        (LINE, (1, 1, 0, 0, 0)),
        (LINE + b"\r\n" + LINE + b"\r\n", (2, 2, 0, 0, 0)),
        (b"\xef\xbb\xbf" + LINE + b"\n", (1, 1, 0, 0, 0)),
        (b"\0" * 100 + LINE + b"\n", (1, 1, 0, 0, 0)),
        (b"\0\0\n\n \t\r\n", (3, 0, 0, 3, 0)),
        (b"\xff\xfe0\x008\x00\n", (1, 0, 1, 0, 0)),
        (LINE.replace(b"done", b"\xff\0\xc3") + b"\n", (1, 1, 0, 0, 0)),
        (LINE.replace(b"blk_", b"") + b"\n", (1, 0, 0, 1, 0)),
        (LINE.replace(b"081109", b"081309") + b"\n", (1, 0, 1, 0, 0)),
        (LINE + b"x" * (MAX_LINE_BYTES - len(LINE)) + b"\n", (1, 1, 0, 0, 0)),
        (LINE + b"x" * (MAX_LINE_BYTES - len(LINE) + 1) + b"\n" + LINE, (2, 1, 1, 0, 0)),
    ],
)
def test_every_line_is_in_the_books(data: bytes, expected: tuple[int, ...]) -> None:
    assert books(summarize(data)) == expected


def test_a_byte_order_mark_is_one_only_at_the_start_of_the_source() -> None:
    assert books(summarize(b"\xef\xbb\xbf" + LINE, offset=10)) == (1, 0, 1, 0, 0)


def test_what_cannot_be_read_is_kept_as_a_sample_with_its_place_and_reason() -> None:
    data = LINE + b"\nwhat?\n" + b"y" * (MAX_LINE_BYTES + 1) + b"\n"
    result = summarize(data, offset=1000)
    first, second = result.rejected
    assert first == (1047, b"what?", "does not have the form of hdfs")
    assert second.offset == 1053
    assert second.reason == f"longer than {MAX_LINE_BYTES} bytes"
    assert len(second.data) < 10_000


TRACE = (
    b"2024-05-01T12:00:00Z ERROR failed\n"
    b"java.io.IOException: gone\n"
    b"\tat org.x.Y (req-12)\n"
    b"\n"
    b"Caused by: req-13\n"
    b"  ... 3 more\n"
    b"2024-05-01T12:00:01Z INFO fine req-12\n"
    b"garbage\n"
    b"  indented\n"
)


def test_continuation_lines_belong_to_the_event_before_with_their_keys() -> None:
    result = summarize(TRACE, SERVICE, multiline=True)
    assert books(result) == (9, 2, 2, 1, 4)
    found = keys_of(result)
    assert {key: s.count for key, s in found.items()} == {b"request_12": 2, b"request_13": 1}
    assert found[b"request_12"].levels == {"ERROR": 1, "INFO": 1}
    assert found[b"request_13"].first == (1714564800000, 7, 0)


def test_without_multiline_continuation_lines_are_unparsed() -> None:
    assert books(summarize(TRACE, SERVICE)) == (9, 1, 6, 2, 0)


def test_a_malformed_line_does_not_pass_for_a_continuation() -> None:
    assert SERVICE.starts_event(b"garbage")
    assert SERVICE.starts_event(b"Error")
    assert not SERVICE.starts_event(b"  at x")
    assert not SERVICE.starts_event(b"ValueError: x")
    assert BUILTIN["plain"].starts_event(b"  at x")


@given(st.lists(st.sampled_from(TRACE.splitlines(keepends=True)), max_size=12), st.data())
def test_any_ranges_that_begin_with_events_add_up_to_the_whole(
    lines: list[bytes], data: st.DataObject
) -> None:
    whole = summarize(b"".join(lines), SERVICE, multiline=True)
    cuts = {0, len(lines)} | {
        at
        for at, line in enumerate(lines)
        if line.strip() and SERVICE.starts_event(line) and data.draw(st.booleans())
    }
    bounds = sorted(cuts)
    total: dict[bytes, Summary] = {}
    counted = [0, 0, 0, 0, 0]
    for start, end in pairwise(bounds):
        offset = len(b"".join(lines[:start]))
        part = summarize(b"".join(lines[start:end]), SERVICE, multiline=True, offset=offset)
        counted = [a + b for a, b in zip(counted, books(part), strict=True)]
        for key, summary in keys_of(part).items():
            total[key] = merge(total.get(key, Summary()), summary)
    assert total == keys_of(whole)
    assert tuple(counted) == books(whole)


def test_a_real_log_equals_a_dozen_lines_of_plain_python() -> None:
    data = real_log("loghub/HDFS/HDFS_2k.log").read_bytes()
    expected: dict[bytes, Summary] = {}
    offset = 0
    for line in data.rstrip().split(b"\n"):
        date, time, _pid, level, rest = line.split(b" ", 4)
        content = rest.split(b": ", 1)[1].strip()
        moment = datetime.strptime(f"{(date + time).decode()}", "%y%m%d%H%M%S").replace(tzinfo=UTC)
        place = (int(moment.timestamp()) * 1000, 7, offset)
        event = {pattern_id(mask(content)): 1}
        for block in set(re.findall(rb"blk_(-?\d+)", content)):
            one = Summary(1, place, place, {level.decode(): 1}, event)
            key = b"block_" + block
            expected[key] = merge(expected.get(key, Summary()), one)
        offset += len(line) + 1
    assert keys_of(summarize(data)) == expected
