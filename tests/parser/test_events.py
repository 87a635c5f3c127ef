"""One way to the events of a log, whatever it is stored in, wherever its blocks end."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import zstandard

from parser import chunks as chunks_module
from parser.chunks import chunks_of
from parser.counting import count_logs
from parser.errors import SourceError
from parser.events import open_log
from parser.extract import MAX_LINE_BYTES, Event, Rejected
from parser.report import Report
from parser.run import Reading, run
from parser.sink import MemorySink
from parser.streams import BrokenStream
from parser.synthetic import generate

LOG = b"".join(generate("hdfs", 500, 3))
TRACE = b"".join(
    b"2024-05-01 12:00:%02d,0 ERROR a.B: bad %d\n\tat one\n\tat two\nCaused by: x\n" % (n, n)
    for n in range(30)
)


@pytest.mark.parametrize(
    "packed",
    [lambda data: data, gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
    ids=["plain", "gz", "bz2", "xz", "zst"],
)
def test_compression_makes_no_difference(tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "app.log"  # the name says nothing: the first bytes do
    path.write_bytes(packed(LOG))
    log = open_log(str(path), Reading())
    found = [event for event in log.events() if isinstance(event, Event)]
    assert len(found) == log.lines == 500
    assert log.interpreter.format.name == "hdfs"
    assert [event.content for event in found][-1] in LOG


def test_offsets_lead_back_to_the_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks_module, "READ_BYTES", 999)
    path = tmp_path / "app.log"
    path.write_bytes(LOG[:2000] + b"not a line of it\n" + LOG[2000:])
    for event in open_log(str(path), Reading(format="hdfs")).events():
        line = path.read_bytes()[event.offset :].split(b"\n", 1)[0]
        assert line == event.data if isinstance(event, Rejected) else event.content in line


def test_a_stack_trace_belongs_to_its_event_wherever_a_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(TRACE)
    for size in (50, 77, 300, 100_000):
        monkeypatch.setattr(chunks_module, "READ_BYTES", size)
        found = list(open_log(str(path), Reading()).events())
        assert len(found) == 30, size
        assert all(isinstance(event, Event) and len(event.more) == 3 for event in found)


EVENT = b"2024-05-01 12:00:00,0 ERROR a.B: bad 7 of blk_1"
LONG = MAX_LINE_BYTES + 1
ODD_LINES = {
    "event": EVENT,
    "continuation": b"\tat one",
    "malformed": b"no event at all",
    "empty": b"",
    "long event": EVENT + b"x" * LONG,
    "long continuation": b"\tat " + b"x" * LONG,
    "long blanks": b" " * LONG,
    "long zeros before an event": bytes(LONG) + EVENT,
}


def books_of_ingest(path: Path, reading: Reading) -> Report:
    return trio.run(partial(run, [str(path)], MemorySink(), reading))


def books_of_tools(path: Path, reading: Reading) -> tuple[int, int, int]:
    """Lines, unparsed lines, continuation lines."""
    log = open_log(str(path), reading)
    found = list(log.events())
    unparsed = sum(isinstance(one, Rejected) for one in found)
    return log.lines, unparsed, sum(len(one.more) for one in found if isinstance(one, Event))


@pytest.mark.parametrize("odd", [name for name in ODD_LINES if name != "event"])
def test_odd_lines_are_counted_as_ingest_counts_them(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "app.log"
    reading = Reading(format="log4j", keys=("content ~ blk_<int> -> block_{}",))
    others = ["event", "continuation", "malformed"]
    for place in range(len(others) + 1):
        for names in itertools.permutations(others):
            lines = [ODD_LINES[name] for name in (*names[:place], odd, *names[place:])]
            path.write_bytes(b"\n".join([*lines, b""]))
            report = books_of_ingest(path, reading)
            counted = count_logs([str(path)], reading, pytest.fail)
            assert (counted.lines, counted.unparsed) == (report.lines, report.unparsed)
            assert books_of_tools(path, reading)[:2] == (report.lines, report.unparsed)


def test_a_line_of_many_megabytes_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"\n".join([EVENT, b"x" * (40 << 20) + EVENT, EVENT]))
    log = open_log(str(path), Reading(format="log4j"))
    first, rejected, last = log.events()
    assert log.lines == 3
    assert isinstance(first, Event)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == f"longer than {MAX_LINE_BYTES} bytes"
    assert rejected.offset == len(EVENT) + 1
    assert isinstance(last, Event)
    assert path.read_bytes()[last.offset :] == EVENT


def test_a_line_that_continues_nothing_is_unparsed_whatever_it_looks_like(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"AnyError: 7\nAnyError: 8\n")
    reading = Reading(layouts=("AnyError: <content>",), keys=("content ~ <int> -> n_{}",))
    report = books_of_ingest(path, reading)
    assert (report.lines, report.unparsed) == (2, 2)
    assert books_of_tools(path, reading) == (2, 2, 0)


def test_what_was_readable_comes_before_the_break(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(LOG)[:-200])
    chunks = chunks_of(str(path))
    assert LOG.startswith(next(chunks))
    with pytest.raises(BrokenStream, match="cut off"):
        list(chunks)


@pytest.mark.parametrize("name", ["nope.log", "."])
def test_what_is_no_file_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError):
        list(chunks_of(str(tmp_path / name)))
