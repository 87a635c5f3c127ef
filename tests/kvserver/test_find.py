"""FIND finds what looking at every summary finds, whatever changed since the last time."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver import index as index_module
from kvserver import indexstate
from kvserver import query as query_module
from kvserver.commands.table import at_once
from kvserver.engine import Engine
from kvserver.index import SummaryIndex
from kvserver.indexstate import ERROR_LEVELS
from kvserver.keyspace import Keyspace
from kvserver.postings import Posting, slots_in
from kvserver.query import SORTS, Found, Query, find
from kvserver.timeline import timeline
from kvserver.values import SummaryValue
from parser.summary import Summary, fold, pack

LEVELS = ("INFO", "warn", "WARN", "ERROR")
EVENTS = tuple(range(1, 6))
TEXTS = {
    1: b"Receiving block <*>",
    2: b"Received block <*>",
    3: b"Got EXCEPTION while serving <*>",
    4: b"connection from <*> closed",
}
KEYS = (*(b"key_%d" % n for n in range(12)), b"other", b"level")


TIMES = st.one_of(st.none(), st.integers(-5, 20))
POSITIONS = st.tuples(TIMES, st.just(7), st.integers(0, 3))
SUMMARIES = st.builds(
    lambda count, times, levels, events, tags: Summary(
        count,
        min(times, key=lambda at: (at[0] is None, at[0] or 0)) if times else None,
        max(times, key=lambda at: (at[0] is not None, at[0] or 0)) if times else None,
        levels,
        events,
        tags,
    ),
    st.integers(0, 5),
    st.lists(POSITIONS, max_size=2),
    st.dictionaries(st.sampled_from(LEVELS), st.integers(1, 3), max_size=2),
    st.dictionaries(st.sampled_from(EVENTS), st.integers(1, 3), max_size=3),
    st.dictionaries(
        st.sampled_from(["status", "method"]),
        st.dictionaries(
            st.sampled_from(["200", "404", "500", "GET"]), st.integers(1, 2), max_size=3
        ),
        max_size=2,
    ),
)
KEY = st.sampled_from(KEYS)
STEPS = st.one_of(
    st.tuples(st.just("merge"), KEY, SUMMARIES),
    st.tuples(st.just("merge"), KEY, SUMMARIES),
    st.tuples(st.just("merge"), KEY, SUMMARIES),
    st.tuples(st.just("delete"), KEY),
    st.tuples(st.just("set"), KEY),
    st.tuples(st.just("expire"), KEY, st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(0, 2)),
    st.tuples(st.just("clear")),
)
QUERIES = st.builds(
    Query,
    pattern=st.one_of(st.none(), st.sampled_from([b"*", b"key_*", b"key_1", b"none", b"*[13]"])),
    levels=st.sampled_from([(), ("WARN",), ("ERROR", "INFO"), ("DEBUG",)]).map(frozenset),
    since_ms=st.one_of(st.none(), st.integers(-6, 21)),
    until_ms=st.one_of(st.none(), st.integers(-6, 21)),
    min_count=st.integers(0, 12),
    templates=st.sampled_from([(), (1,), (2, 3), (99,)]).map(frozenset),
    tags=st.dictionaries(
        st.sampled_from(["status", "method", "none"]),
        st.sampled_from([("200",), ("404", "500"), ("GET",)]).map(frozenset),
        max_size=2,
    ),
    texts=st.sampled_from([(), (b"block",), (b"exception",), (b"<*>", b"rec"), (b"nowhere",)]),
    sort=st.one_of(st.none(), st.sampled_from(sorted(SORTS))),
    limit=st.integers(0, 5),
)


def matches(query: Query, key: bytes, summary: Summary) -> bool:
    """What FIND means, said in the plainest way."""
    texts = [TEXTS[event].lower() for event in summary.events if event in TEXTS]
    first = summary.first[0] if summary.first else None
    last = summary.last[0] if summary.last else None
    return (
        (query.pattern is None or fnmatch.fnmatchcase(key.decode(), query.pattern.decode()))
        and (not query.levels or bool({name.upper() for name in summary.levels} & query.levels))
        and (query.since_ms is None or (last is not None and last >= query.since_ms))
        and (query.until_ms is None or (first is not None and first <= query.until_ms))
        and (query.min_count <= 1 or summary.count >= query.min_count)
        and (not query.templates or bool(summary.events.keys() & query.templates))
        and all(
            bool(summary.tags.get(tag, {}).keys() & values) for tag, values in query.tags.items()
        )
        and all(any(wanted in text for text in texts) for wanted in query.texts)
    )


def rank(sort: str, summary: Summary) -> int:
    """The smaller the better."""
    if sort == "count":
        return -summary.count
    if sort == "first":
        return 10**9 if summary.first is None or summary.first[0] is None else summary.first[0]
    if sort == "last":
        return 10**9 if summary.last is None or summary.last[0] is None else -summary.last[0]
    if summary.levels:
        return -sum(n for name, n in summary.levels.items() if name.upper() in ERROR_LEVELS)
    return -sum(n for status, n in summary.tags.get("status", {}).items() if status == "500")


def agrees(keyspace: Keyspace, query: Query, found: Found) -> None:
    held = {
        key: fold(value)
        for key, value in list(keyspace.data.items())
        if type(value) is SummaryValue and keyspace.peek(key) is not None
    }
    expected = {key for key, summary in held.items() if matches(query, key, summary)}
    assert len(found.keys) == len(set(found.keys))
    assert set(found.keys) <= expected
    wanted = min(query.limit, len(expected)) if query.limit else len(expected)
    assert len(found.keys) == wanted
    if query.sort is not None:
        ranks = sorted(rank(query.sort, held[key]) for key in expected)[:wanted]
        assert [rank(query.sort, held[key]) for key in found.keys] == ranks


class Clock:
    now = 1000

    def __call__(self) -> int:
        return self.now


@pytest.mark.parametrize("wide", [0, 20_000])
@given(steps=st.lists(st.one_of(STEPS, QUERIES), max_size=40))
def test_find_equals_a_look_at_every_summary(wide: int, steps: list[Any]) -> None:
    clock = Clock()
    keyspace = Keyspace(clock)
    keyspace.catalogue.merge({id_: [text, 1] for id_, text in TEXTS.items()})
    index = SummaryIndex(keyspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query_module, "_WIDE", wide)
        patch.setattr(query_module, "_STEP", 2)
        patch.setattr(query_module, "_SPARE", 1)
        patch.setattr(index_module, "_STEP_KEYS", 2)
        patch.setattr(index_module, "_MIN_DEAD", 3)
        for step in [*steps, Query(limit=0)]:
            keyspace.tick()
            if isinstance(step, Query):
                found = at_once(find(index, step))
                agrees(keyspace, step, found)
                if not keyspace.deadlines:
                    index.check()
            else:
                change(keyspace, clock, step)


def change(keyspace: Keyspace, clock: Clock, step: tuple[Any, ...]) -> None:
    match step:
        case "merge", key, summary:
            if type(keyspace.peek(key)) is not bytes:
                keyspace.merge(key, pack(summary))
        case "delete", key:
            keyspace.delete(key)
        case "set", key:
            keyspace.set(key, b"text")
        case "expire", key, ms:
            keyspace.expire(key, clock.now + ms)
        case "wait", ms:
            clock.now += ms
            keyspace.tick()
        case "clear", *_:
            keyspace.clear()
            keyspace.catalogue.merge({id_: [text, 1] for id_, text in TEXTS.items()})


@given(
    changes=st.lists(st.tuples(STEPS, st.integers(0, 3)), max_size=30),
    queries=st.lists(QUERIES, min_size=2, max_size=4),
)
def test_queries_that_run_at_once_among_changes_never_show_what_is_gone_and_leave_a_right_index(
    changes: list[Any], queries: list[Query]
) -> None:
    clock = Clock()
    keyspace = Keyspace(clock)
    keyspace.catalogue.merge({id_: [text, 1] for id_, text in TEXTS.items()})
    for key in KEYS[:8]:
        keyspace.merge(key, pack(Summary(1, (1, 7, 0), (2, 7, 0), {"INFO": 1}, {1: 1})))
    index = SummaryIndex(keyspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query_module, "_WIDE", 0)
        patch.setattr(query_module, "_STEP", 2)
        patch.setattr(query_module, "_SPARE", 1)
        patch.setattr(index_module, "_STEP_KEYS", 2)
        patch.setattr(index_module, "_MIN_DEAD", 3)
        running = [find(index, query) for query in queries]
        for step, who in [*changes, *((("wait", 0), n) for n in range(400))]:
            change(keyspace, clock, step)
            if running:
                try:
                    next(running[who % len(running)])
                except StopIteration as done:
                    found: Found = done.value
                    assert len(found.keys) == len(set(found.keys))
                    running.pop(who % len(running))
        assert not running
        keyspace.expire_due(100)
        for query in queries:
            agrees(keyspace, query, at_once(find(index, query)))
        index.check()


# ------------------------------------------------------------------------------------ the command


@pytest.fixture
def engine() -> Engine:
    engine = Engine()
    merge = engine.keyspace.merge
    engine.keyspace.catalogue.merge({id_: [text, 1] for id_, text in TEXTS.items()})
    merge(b"block_1", pack(Summary(3, (1000, 1, 0), (5000, 1, 9), {"INFO": 3}, {1: 2, 2: 1})))
    merge(b"block_2", pack(Summary(9, (2000, 1, 0), (9000, 1, 9), {"WARN": 1, "INFO": 8}, {3: 1})))
    merge(b"client_1", pack(Summary(5, None, None, {}, {}, {"status": {"500": 2, "200": 3}})))
    engine.keyspace.set(b"greeting", b"hello")
    return engine


def call(engine: Engine, *words: str) -> Any:
    session = engine.session()
    reader = hiredis.Reader()
    reader.feed(session.run([b"FIND", *(word.encode() for word in words)]))
    return reader.gets()


def keys(engine: Engine, *words: str) -> list[str]:
    return [row[0].decode() for row in call(engine, *words)]


def test_without_conditions_every_summary_is_found_and_no_string(engine: Engine) -> None:
    assert sorted(keys(engine)) == ["block_1", "block_2", "client_1"]


def test_a_row_is_the_key_and_its_summary_as_json(engine: Engine) -> None:
    (row,) = call(engine, "block_1")
    assert row[0] == b"block_1"
    assert json.loads(row[1])["levels"] == {"INFO": 3}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["block_*"], ["block_1", "block_2"]),
        (["MATCH", "*_1"], ["block_1", "client_1"]),
        (["LEVEL", "warn"], ["block_2"]),
        (["LEVEL", "WARNING,ERROR"], ["block_2"]),
        (["level", "INFO", "mincount", "4"], ["block_2"]),
        (["SINCE", "5001"], ["block_2"]),
        (["UNTIL", "1999"], ["block_1"]),
        (["SINCE", "5000", "UNTIL", "2000"], ["block_1", "block_2"]),
        (["TEMPLATE", "0000000000000002"], ["block_1"]),
        (["TEMPLATE", "0000000000000002,0000000000000003"], ["block_1", "block_2"]),
        (["TAG", "status", "500"], ["client_1"]),
        (["TAG", "status", "404"], []),
        (["TEXT", "exception"], ["block_2"]),
        (["TEXT", "Block"], ["block_1"]),
        (["nothing"], []),
    ],
)
def test_each_condition_narrows(engine: Engine, words: list[str], expected: list[str]) -> None:
    assert sorted(keys(engine, *words)) == expected


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("count", ["block_2", "client_1", "block_1"]),
        ("first", ["block_1", "block_2", "client_1"]),
        ("last", ["block_2", "block_1", "client_1"]),
        ("errors", ["client_1"]),
    ],
)
def test_the_best_come_first(engine: Engine, sort: str, expected: list[str]) -> None:
    assert keys(engine, "SORT", sort)[: len(expected)] == expected
    assert keys(engine, "SORT", sort, "LIMIT", "1") == expected[:1]


def test_explain_says_what_led_and_how_much_was_looked_at(engine: Engine) -> None:
    flat = call(engine, "LEVEL", "WARN", "SORT", "count", "EXPLAIN")
    told = dict(zip(flat[::2], flat[1::2], strict=True))
    assert told[b"index"] == b"level:WARN,WARNING"
    assert told[b"candidates"] == told[b"matched"] == 1
    assert told[b"caught_up_keys"] >= 3
    assert told[b"index_bytes"] > 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["LEVEL"], "syntax error"),
        (["*", "BOGUS", "1"], "syntax error"),
        (["SORT", "size"], "SORT is one of"),
        (["LIMIT", "-1"], "negative"),
        (["LIMIT", "1_0"], "not an integer"),
        (["TEMPLATE", "xyz"], "16 hexadecimal digits"),
    ],
)
def test_a_mistake_is_said(engine: Engine, words: list[str], error: str) -> None:
    assert error in str(call(engine, *words))


def test_deleted_and_expired_keys_are_never_shown(engine: Engine) -> None:
    assert "block_1" in keys(engine)
    engine.keyspace.delete(b"block_1")
    engine.keyspace.expire(b"block_2", engine.keyspace.now + 1)
    engine.keyspace.now += 1
    assert keys(engine) == ["client_1"]


def test_a_damaged_summary_is_counted_and_not_shown(engine: Engine) -> None:
    engine.keyspace.merge(b"damaged", b"\x93\x01\x02\xc1")
    engine.keyspace.merge(b"odd", b"\x92\xa1x\xc0")
    assert "damaged" not in keys(engine)
    assert engine.summary_index is not None
    assert engine.summary_index.damaged == 2


def test_the_index_costs_nothing_before_the_first_find_and_is_counted_after_it(
    engine: Engine,
) -> None:
    assert engine.summary_index is None
    assert "find" not in engine.stats_providers
    keys(engine)
    figures = engine.stats_providers["find"]()
    assert figures["find_indexed_keys"] == 3
    assert figures["find_index_bytes"] > 0


def test_more_changes_than_are_remembered_lead_to_a_new_reading(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_MIN_FEED", 4)
    keys(engine)
    keys(engine)
    assert engine.summary_index is not None
    assert engine.summary_index.rebuilds == 1
    for n in range(10):
        engine.keyspace.merge(b"new_%d" % n, pack(Summary(1)))
    assert len(keys(engine)) == 13
    assert engine.summary_index.rebuilds == 2
    engine.summary_index.check()


def test_a_tag_with_too_many_values_is_still_found(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexstate, "MAX_TAG_VALUES", 3)
    for n in range(10):
        tags = {"path": {f"/{n}": 1}}
        engine.keyspace.merge(b"page_%d" % n, pack(Summary(1, tags=tags)))
    assert keys(engine, "TAG", "path", "/7") == ["page_7"]
    assert engine.summary_index is not None
    assert engine.summary_index.state.crowded_tags == {"path"}


# -------------------------------------------------------------------------------------- timeline


def test_a_timeline_spreads_the_events_of_a_key_over_its_life(engine: Engine) -> None:
    told = call(engine, "block_*", "TIMELINE", "4")
    shown = dict(zip(told[::2], told[1::2], strict=True))
    levels = dict(zip(shown[b"levels"][::2], shown[b"levels"][1::2], strict=True))
    assert shown[b"begin_ms"] == 1000
    assert shown[b"width_ms"] == 3000
    assert shown[b"untimed_keys"] == 0
    assert {name: sum(row) for name, row in levels.items()} == {b"INFO": 11, b"WARN": 1}
    assert all(len(row) == 3 for row in levels.values())


def test_a_timeline_shows_statuses_where_there_are_no_levels(engine: Engine) -> None:
    tags = {"status": {"200": 3, "404": 1}}
    engine.keyspace.merge(b"client_2", pack(Summary(5, (7000, 1, 0), (7000, 1, 0), {}, {}, tags)))
    told = call(engine, "client_*", "TIMELINE", "10")
    shown = dict(zip(told[::2], told[1::2], strict=True))
    levels = dict(zip(shown[b"levels"][::2], shown[b"levels"][1::2], strict=True))
    assert levels == {b"2xx": [3], b"4xx": [1], b"-": [1]}
    assert shown[b"untimed_keys"] == 1


def test_the_timeline_of_nothing_is_empty(engine: Engine) -> None:
    told = call(engine, "nothing", "TIMELINE", "10")
    assert dict(zip(told[::2], told[1::2], strict=True))[b"begin_ms"] is None
    assert "TIMELINE is from" in str(call(engine, "TIMELINE", "0"))


@given(
    keys=st.lists(
        st.tuples(st.integers(1, 50), st.integers(0, 10**7), st.integers(0, 10**6)), max_size=20
    ),
    buckets=st.integers(1, 60),
)
def test_no_event_is_lost_in_a_timeline(keys: list[tuple[int, int, int]], buckets: int) -> None:
    keyspace = Keyspace(Clock())
    for n, (count, first, life) in enumerate(keys):
        summary = Summary(count, (first, 1, 0), (first + life, 1, 1), {"INFO": count})
        keyspace.merge(b"%d" % n, pack(summary))
    index = SummaryIndex(keyspace)
    found = at_once(find(index, Query(limit=0)))
    told = at_once(timeline(index, found.keys, buckets))
    rows = told["levels"].get("INFO", [])
    assert len(rows) <= buckets
    assert sum(rows) == sum(count for count, _, _ in keys)
    assert min(rows, default=0) >= 0


# -------------------------------------------------------------------------------------- postings


@given(st.sets(st.integers(0, 5000), max_size=400), st.integers(1, 100))
def test_a_posting_is_a_set_whatever_form_it_has(slots: set[int], at_once: int) -> None:
    posting = Posting()
    for slot in slots:
        posting.new += [slot, slot]
        if slot % 7 == 0:
            posting.settle(5001)
    assert all((slot in posting) == (slot in slots) for slot in range(5100))
    few = posting.few(5001)
    assert few is None or few == slots
    bits = posting.bits(5001).to_bytes(800, "little")
    assert [slot for chunk in slots_in(bits, at_once) for slot in chunk] == sorted(slots)
    assert posting.memory_bytes() > 0
