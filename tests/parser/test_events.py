"""One way to the events of a log, whatever it is stored in, wherever its blocks end."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from parser import chunks as chunks_module
from parser import events as events_module
from parser.chunks import chunks_of
from parser.errors import SourceError
from parser.events import blocks_of_events, open_log
from parser.extract import Event, Rejected
from parser.run import Reading
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


@given(st.lists(st.integers(1, 40), max_size=30))
def test_blocks_of_events_are_the_blocks_joined(cuts: list[int]) -> None:
    blocks, at = [], 0
    text = b"e1\n c\n c\ne2\ne3\n c\n"
    for cut in cuts:
        end = text.find(b"\n", at + cut) + 1
        if end:
            blocks.append(text[at:end])
            at = end
    blocks.append(text[at:])
    moved = list(blocks_of_events(filter(None, blocks), lambda line: not line.startswith(b" ")))
    assert b"".join(moved) == text
    assert all(block.startswith(b"e") for block in moved)


def test_an_endless_event_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "MAX_EVENT_BYTES", 100)
    blocks = list(blocks_of_events([b" c\n" * 20] * 20, lambda line: line.startswith(b"e")))
    assert max(map(len, blocks)) <= 160


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
