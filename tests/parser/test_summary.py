"""The summary's algebra, its packed form and its JSON."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.isotime import format_time_ms, parse_time_ms
from parser.summary import OTHER, OTHER_EVENT, Summary, SummaryError, fold, merge, pack, unpack
from parser.summaryjson import from_json, to_json

names = st.sampled_from(["INFO", "WARN", "a", "b", "c", "d", "e", "\udcff", OTHER])
counts = st.integers(0, 2**40)
positions = st.none() | st.tuples(
    st.none() | st.integers(-(10**12), 10**13), st.integers(0, 2**64 - 1), st.integers(0, 2**50)
)
signed = st.integers(-(2**50), 2**50)
summaries = st.builds(
    Summary,
    counts,
    positions,
    positions,
    st.dictionaries(names, counts, max_size=9),
    st.dictionaries(st.integers(0, 9) | st.just(2**64 - 1), counts, max_size=9),
    st.dictionaries(names, st.dictionaries(names, counts, max_size=9), max_size=5),
    st.dictionaries(names, st.tuples(counts, signed, signed, signed), max_size=5),
)
limits = st.sampled_from([1, 3, 256])


@given(summaries, summaries, summaries, limits)
def test_merge_is_associative(a: Summary, b: Summary, c: Summary, limit: int) -> None:
    left = merge(merge(a, b, max_entries=limit), c, max_entries=limit)
    right = merge(a, merge(b, c, max_entries=limit), max_entries=limit)
    assert left == right


@given(summaries, summaries, limits)
def test_merge_is_commutative(a: Summary, b: Summary, limit: int) -> None:
    assert merge(a, b, max_entries=limit) == merge(b, a, max_entries=limit)


@given(summaries, limits)
def test_the_empty_summary_is_neutral(a: Summary, limit: int) -> None:
    bounded = merge(a, Summary(), max_entries=limit)
    assert merge(Summary(), bounded, max_entries=limit) == bounded
    if limit == 256:
        named = {name: values for name, values in a.tags.items() if name != OTHER}
        assert {n: v for n, v in bounded.tags.items() if n != OTHER} == named


@given(summaries)
def test_unpack_returns_what_pack_was_given(a: Summary) -> None:
    assert unpack(pack(a)) == a


@given(st.lists(summaries, max_size=5))
def test_a_log_of_deltas_folds_to_their_merge(deltas: list[Summary]) -> None:
    expected = Summary()
    for delta in deltas:
        expected = merge(expected, delta)
    assert fold(b"".join(map(pack, deltas))) == expected


@given(summaries, st.data())
def test_a_cut_delta_is_an_error_and_nothing_else(a: Summary, data: st.DataObject) -> None:
    packed = pack(a)
    cut = data.draw(st.integers(1, len(packed) - 1)) if len(packed) > 1 else 0
    if cut:
        with pytest.raises(SummaryError):
            unpack(packed[:cut])


@given(st.binary(max_size=60))
def test_garbage_is_a_summary_error_or_a_summary(garbage: bytes) -> None:
    try:
        summary = fold(garbage)
    except SummaryError:
        return
    assert fold(pack(summary)) == summary


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc7\x05\x01hello",
        msgpack.packb([-1]),
        msgpack.packb([1.5]),
        msgpack.packb([True]),
        msgpack.packb([]),
        msgpack.packb([1] * 8),
        msgpack.packb([1, [None, 0]]),
        msgpack.packb([1, [2**62, 0, 0]]),
        msgpack.packb([1, None, None, {1: 1}]),
        msgpack.packb([1, None, None, {}, {"x": 1}]),
        msgpack.packb([1, None, None, {}, {}, {"x": 1}]),
        msgpack.packb([1, None, None, {}, {}, {}, {"x": [1, 2, 3]}]),
    ],
)
def test_hostile_bytes_are_refused(hostile: bytes) -> None:
    with pytest.raises(SummaryError):
        fold(hostile)


def test_names_over_the_bound_are_counted_under_the_ellipsis() -> None:
    crowded = Summary(levels=dict.fromkeys("abcde", 1), events={1: 1, 2: 2, 3: 3})
    bounded = merge(crowded, Summary(), max_entries=2)
    assert bounded.levels == {"a": 1, "b": 1, OTHER: 3}
    assert bounded.events == {1: 1, 2: 2, OTHER_EVENT: 3}


def test_counts_saturate_instead_of_overflowing() -> None:
    full = Summary(count=2**64 - 1, levels={"INFO": 2**64 - 1})
    doubled = merge(full, full)
    assert unpack(pack(doubled)) == full


def test_json_shows_what_the_design_says() -> None:
    summary = Summary(
        count=20,
        first=(1226262918000, 0xAB, 17),
        last=(1226262918250, 0xAB, 99),
        levels={"WARN": 1, "INFO": 19},
        events={0x5F0C: 3},
        numbers={"size": (3, 60, 10, 30)},
    )
    assert json.dumps(to_json(summary)) == (
        '{"count": 20, "first": "2008-11-09T20:35:18Z", "last": "2008-11-09T20:35:18.250Z", '
        '"levels": {"INFO": 19, "WARN": 1}, "events": {"0000000000005f0c": 3}, '
        '"numbers": {"size": {"n": 3, "sum": 60, "min": 10, "max": 30}}, '
        '"first_line": ["00000000000000ab", 17], "last_line": ["00000000000000ab", 99]}'
    )
    assert from_json(json.dumps(to_json(summary))) == summary


@given(summaries)
def test_what_is_shown_is_read_back(a: Summary) -> None:
    assert from_json(json.dumps(to_json(a))) == Summary(
        a.count,
        a.first,
        a.last,
        readable(a.levels),
        a.events,
        {name: readable(values) for name, values in readable(a.tags).items()},
        readable(a.numbers),
    )


def readable(named: dict[str, Any]) -> dict[str, Any]:
    """The same under names as they are shown."""
    return {name.replace("\udcff", r"\xff"): value for name, value in named.items()}


def test_times_without_lines_are_shown_without_lines() -> None:
    text = '{"count": 2, "first": "2024-05-01T12:00:00Z", "last": "2024-05-01T12:00:09Z"}'
    assert json.dumps(to_json(from_json(text))) == text
    one_line = {"count": 1, "first": None, "last": None, "last_line": ["0000000000000000", 0]}
    assert to_json(from_json(one_line)) == one_line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        '{"count": -1}',
        '{"first": "yesterday"}',
        '{"colour": 1}',
        '{"events": {"z": 1}}',
    ],
)
def test_json_that_is_no_summary_is_refused(text: str) -> None:
    with pytest.raises(SummaryError):
        from_json(text)


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_times_survive_being_shown(ms: int) -> None:
    assert parse_time_ms(format_time_ms(ms)) == ms
