"""Snapshots: what is written reads back, in any chunks, in bounded memory; damage has a line."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvclient import snapshot
from kvclient.errors import SnapshotError
from kvclient.files import whole_file
from kvclient.snapshot import Deadline, Entry, entry_lines, read_snapshot
from parser.summary import Summary, pack, unpack
from parser.summaryjson import to_json
from tests.support import ROOT

SUMMARY = Summary(
    3, (1_226_262_918_000, 7, 12), (1_226_262_918_500, 7, 99), {"INFO": 3}, {5: 2, 6: 1}
)


def summary_entry(key: bytes, summary: Summary, deadline_ms: int | None = None) -> Entry:
    """An entry as it comes from the server: the summary as JSON text."""
    text = json.dumps(to_json(summary), ensure_ascii=False).encode()
    return Entry(key, "summary", text, deadline_ms)


def read(text: str) -> list[Any]:
    return list(read_snapshot(io.StringIO(text)))


entries = st.builds(
    Entry,
    st.binary(max_size=12),
    st.just("string"),
    st.binary(max_size=30) | st.text(max_size=20).map(lambda text: text.encode()),
    st.none() | st.integers(0, 4_000_000_000_000),
)


@given(st.lists(entries, max_size=6), st.integers(1, 40))
def test_what_is_written_reads_back_whatever_the_chunks(held: list[Entry], chunk: int) -> None:
    text = "".join(entry_lines(held))
    assert set(json.loads(text)) == {"format", "keys"}
    with mock.patch.object(snapshot, "CHUNK_CHARS", chunk):
        assert read(text) == held


def test_a_summary_comes_back_packed_and_equal() -> None:
    text = "".join(entry_lines([summary_entry(b"block_1", SUMMARY, 2_000_000_000_000)]))
    assert json.loads(text)["keys"]["block_1"]["expires_at"] == "2033-05-18T03:33:20Z"
    (entry,) = read(text)
    assert entry == Entry(b"block_1", "summary", pack(SUMMARY), 2_000_000_000_000)
    assert unpack(entry.value) == SUMMARY


def test_the_older_form_is_read_and_its_deadlines_come_apart() -> None:
    text = '{"cache": {"a": "x", "b": {"n": 1}, "c": null}, "ttl": {"a": 2000000000.5, "b": null}}'
    assert read(text) == [
        Entry(b"a", "string", b"x"),
        Entry(b"b", "string", b'{"n": 1}'),
        Entry(b"c", "string", b"null"),
        Deadline(b"a", 2_000_000_000_500),
    ]


@pytest.mark.parametrize("chunk", range(1, 40))
def test_a_number_may_lie_across_two_chunks(chunk: int) -> None:
    text = '{"cache": {"a": 1.25, "b": -2e+3}, "ttl": {"a": 2000000000.5, "b": 2.5E9}}'
    with mock.patch.object(snapshot, "CHUNK_CHARS", chunk):
        assert read(text) == [
            Entry(b"a", "string", b"1.25"),
            Entry(b"b", "string", b"-2000.0"),
            Deadline(b"a", 2_000_000_000_500),
            Deadline(b"b", 2_500_000_000_000),
        ]


WRONG = [
    ("", "line 1: a snapshot is a JSON object"),
    ("[]", "line 1: a snapshot is a JSON object"),
    ("{}", "line 1: neither keys nor cache"),
    ('{"keys": {}}', "line 1: no format"),
    ('{"format": "kvstore/2", "keys": {}}', "newer than this program"),
    ('{"format": "other", "keys": {}}', "format 'other' is not"),
    ('{"format": "kvstore/1", "keys": []}', "keys must be an object"),
    ('{"format": "kvstore/1", "keys": {}, "keys": {}}', "'keys' is there twice"),
    ('{"format": "kvstore/1", "more": 1}', "no part 'more'"),
    ('{"format": "kvstore/1",\n"keys": {"a": 5}}', "line 2: key 'a': expected an object"),
    ('{"format": "kvstore/1",\n"keys": {\n"a": {"type": "list", "value": 1}}}', "line 3: .*list"),
    ('{"format": "kvstore/1", "keys": {"a": {"type": "string"}}}', "no value"),
    ('{"format": "kvstore/1", "keys": {"a": {"type": "string", "value": 5}}}', "expected text"),
    (
        '{"format": "kvstore/1", "keys": {"a": {"type": "string", "value": {"base64": "!"}}}}',
        "not base64",
    ),
    (
        '{"format": "kvstore/1", "keys": {"a": {"type": "string", "value": "", "ttl": 1}}}',
        "unknown field 'ttl'",
    ),
    (
        '{"format": "kvstore/1", "keys": {"": {"type": "string", "value": "", "expires_at": 5}}}',
        "expires_at",
    ),
    (
        '{"format": "kvstore/1", "keys": {"a": {"type": "summary", "value": {"count": -1}}}}',
        "a count is",
    ),
    ('{"cache": {}, "ttl": {"a": "soon"}}', "expected seconds"),
    ('{"ttl": {"a": 1}, "cache": {"a": "x"}}', "ttl comes before the keys"),
    ('{"cache": {"a": tru}}', "not JSON"),
    ('{"cache": {"a": 1', "line 1"),
    ('{"cache": {"a": "never ends', "Unterminated"),
    ('{"cache": {"a" 1}}', "expected ':'"),
    ('{"cache": {5: 1}}', "a name in quotes"),
    ('{"cache": {}} x', "something follows"),
    ('{"cache": {"a": ' + "[" * 100_000 + "}}", "nested too deep"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(SnapshotError, match=said):
        read(text)


def test_every_cut_of_a_snapshot_is_noticed() -> None:
    held = [Entry(b"a", "string", b"x" * 5, 5000), summary_entry(b"b", SUMMARY)]
    text = "".join(entry_lines(held)).rstrip()
    for cut in range(len(text)):
        with pytest.raises(SnapshotError):
            read(text[:cut])


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"cache": {"a": "\xff"}}')
    with path.open(encoding="utf-8") as file, pytest.raises(SnapshotError, match="not UTF-8"):
        list(read_snapshot(file))


def test_memory_holds_one_entry_not_the_file() -> None:
    def many() -> Iterator[Entry]:
        for n in range(20_000):
            yield Entry(b"key:%d" % n, "string", b"v" * 100)

    class Stream(io.TextIOBase):
        """Text made as it is read."""

        def __init__(self) -> None:
            self.parts = entry_lines(many())

        def read(self, size: int | None = -1) -> str:
            parts: list[str] = []
            length = 0
            for part in self.parts:
                parts.append(part)
                length += len(part)
                if length >= (size or 0):
                    break
            return "".join(parts)

    stream: Any = Stream()
    tracemalloc.start()
    try:
        n = sum(1 for _ in read_snapshot(stream))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n == 20_000
    assert peak < 3_000_000  # the file is 3.4 MB, a chunk 0.26


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    def give_up_half_way() -> None:
        with whole_file(path) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        give_up_half_way()
    assert path.read_text() == "old"
    with whole_file(path) as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_a_link_goes_on_pointing_at_the_file_that_was_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with whole_file(tmp_path / "link") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_the_sample_store_is_a_snapshot_with_strings_and_summaries() -> None:
    with (ROOT / "kvstore.json").open(encoding="utf-8") as file:
        held = {item.key: item for item in read_snapshot(file) if isinstance(item, Entry)}
    assert held[b"block_123"].kind == "summary"
    assert held[b"greeting"].kind == "string"
    counts = unpack(held[b"block_123"].value)
    assert counts.count == sum(counts.levels.values()) == sum(counts.events.values())
