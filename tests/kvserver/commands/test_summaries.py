"""MERGE, INGEST, SOURCES and PATTERNS: all or nothing, each byte of a log once."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from kvserver.engine import Engine
from kvserver.session import Session
from parser.summary import Summary, fold, pack

DELTA = pack(Summary(3, levels={"INFO": 3}))


@pytest.fixture
def session() -> Session:
    return Engine().session()


def header(**fields: Any) -> bytes:
    packed: bytes = msgpack.packb({"source": 255, "ranges": [[0, 10]], **fields})
    return packed


def test_merge_takes_msgpack_and_json_and_adds_up(session: Session) -> None:
    assert session.run([b"MERGE", b"a", DELTA, b"b", b'{"count": 2}']) == b":2\r\n"
    assert session.run([b"MERGE", b"a", DELTA]) == b":1\r\n"
    assert fold(bytes(session.keyspace.data[b"a"])) == Summary(6, levels={"INFO": 6})
    assert session.run([b"TYPE", b"a"]) == b"+summary\r\n"


def test_what_was_merged_with_times_and_no_lines_is_read_without_lines(session: Session) -> None:
    text = b'{"count": 2, "first": "2024-05-01T12:00:00Z", "last": "2024-05-01T12:00:09Z"}'
    session.run([b"MERGE", b"a", text])
    assert session.run([b"GET", b"a"]) == b"$%d\r\n%s\r\n" % (len(text), text)


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        ([b"a", DELTA, b"b"], b"-ERR wrong number of arguments for 'merge' command\r\n"),
        ([b"a", DELTA, b"b", b"\xc1"], b"-ERR not a packed summary"),
        ([b"a", DELTA, b"b", b"{}x"], b"-ERR not a summary as JSON"),
        ([b"a", DELTA, b"word", DELTA], b"-WRONGTYPE "),
    ],
)
def test_merge_does_all_or_nothing(session: Session, args: list[bytes], answer: bytes) -> None:
    session.run([b"SET", b"word", b"x"])
    assert session.run([b"MERGE", *args]).startswith(answer)
    assert session.run([b"EXISTS", b"a"]) == b":0\r\n"


@pytest.mark.parametrize("compact", [True, False])
def test_ingest_counts_a_range_once(session: Session, compact: bool) -> None:
    flat = [b"a", DELTA, b"b", DELTA]
    deltas = [msgpack.packb(flat)] if compact else flat
    assert session.run([b"INGEST", header(), *deltas]) == b":2\r\n"
    before = list(session.keyspace.dump())
    assert session.run([b"INGEST", header(), *deltas]) == b"$-1\r\n"
    assert session.run([b"INGEST", header(ranges=[[2, 5]]), *deltas]) == b"$-1\r\n"
    overlap = session.run([b"INGEST", header(ranges=[[5, 15]]), *deltas])
    assert overlap.startswith(b"-OVERLAP ")
    assert list(session.keyspace.dump()) == before
    assert session.run([b"INGEST", header(ranges=[[10, 15]]), *deltas]) == b":0\r\n"
    assert fold(bytes(session.keyspace.data[b"a"])).count == 6
    assert len(session.keyspace.effects) == 2
    again = Engine().keyspace
    again.apply_many(session.keyspace.effects)
    assert list(again.dump()) == list(session.keyspace.dump())


@pytest.mark.parametrize(
    "args",
    [
        [b"nonsense", b"k", DELTA],
        [b'{"source": -1}', b"k", DELTA],
        [b'{"source": "xyz"}', b"k", DELTA],
        [b'{"source": 1, "ranges": [[5, 1]]}', b"k", DELTA],
        [b'{"source": 1, "ranges": [[1, 5], [4, 9]]}', b"k", DELTA],
        [b'{"source": 1, "books": {"lines": -5}}', b"k", DELTA],
        [b'{"source": 1, "misspelt": {}}', b"k", DELTA],
        [b'{"source": 1, "patterns": {"x": []}}', b"k", DELTA],
        [b'{"source": 1}', b"k", b"\xc0"],
        [b'{"source": 1}', msgpack.packb([b"k"])],
        [b'{"source": 1}', msgpack.packb([b"k", "text"])],
        [b'{"source": 1}', msgpack.packb({"k": DELTA})],
        [b'{"source": 1}', b"\xdd\xff\xff\xff\xff"],
        [b'{"source": 1}', b"word", DELTA],
    ],
)
def test_ingest_refuses_what_it_cannot_trust_and_changes_nothing(
    session: Session, args: list[bytes]
) -> None:
    session.run([b"SET", b"word", b"x"])
    before = list(session.keyspace.dump())
    assert session.run([b"INGEST", *args])[:1] == b"-"
    assert list(session.keyspace.dump()) == before
    session.keyspace.check()


def test_sources_and_patterns_tell_what_was_counted_and_new_ones_are_announced() -> None:
    engine = Engine()
    session, listener = engine.session(), engine.session()
    listener.run([b"SUBSCRIBE", b"kv:new-pattern"])
    patterns = {5: [b"Receiving block <*>", 3, None, None, b"Receiving block 1"]}
    full = header(patterns=patterns, books={"lines": 3, "matched": 3}, about={"path": "a.log"})
    session.run([b"INGEST", full, b"k", DELTA])
    assert b"0000000000000005 Receiving block <*>" in listener.take()
    session.run([b"INGEST", header(ranges=[[10, 20]], patterns=patterns), b"k", DELTA])
    assert listener.take() == b""
    sources = session.run([b"SOURCES"])
    assert session.run([b"SOURCES", b"00000000000000ff"]) == sources
    assert session.run([b"SOURCES", b"00000000000000fe"]) == b"*0\r\n"
    assert b"$5\r\nlines\r\n:3\r\n" in sources
    assert b"$4\r\npath\r\n$5\r\na.log\r\n" in sources
    assert session.run([b"PATTERNS"]) == (
        b"*1\r\n*6\r\n$16\r\n0000000000000005\r\n$19\r\nReceiving block <*>\r\n:6\r\n$-1\r\n$-1\r\n"
        b"$17\r\nReceiving block 1\r\n"
    )
    assert session.run([b"PATTERNS", b"xyz"]).startswith(b"-ERR an id is 16 hexadecimal digits")


def test_a_damaged_delta_shows_when_it_is_read_and_is_counted(session: Session) -> None:
    session.run([b"INGEST", header(), b"k", b"\x91\xc0"])
    assert session.run([b"GET", b"k"]).startswith(b"-ERR the summary is damaged")
    assert session.keyspace.bad_summaries == 1
    session.run([b"MERGE", b"k", DELTA])
    again = Engine().keyspace
    for effect in session.keyspace.dump():
        again.apply(effect)
    assert again.data == session.keyspace.data


def test_a_summary_merged_often_and_never_read_stays_bounded(session: Session) -> None:
    for n in range(10_000):
        session.keyspace.merge(b"k", pack(Summary(1, levels={f"L{n % 10}": 1})))
    assert len(session.keyspace.data[b"k"]) < 5_000
    assert fold(bytes(session.keyspace.data[b"k"])).count == 10_000
    assert session.run([b"GET", b"k"]).startswith(b"$")
    assert len(session.keyspace.data[b"k"]) < 200
