"""The catalogue of patterns: merges in any order, stays bounded, loses no count."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvserver.catalogue import Catalogue, PatternError

POSITIONS = st.one_of(
    st.none(),
    st.tuples(st.one_of(st.none(), st.integers(0, 5)), st.integers(0, 3), st.integers(0, 9)),
)
ROWS = st.tuples(
    st.integers(1, 12), st.integers(1, 9), POSITIONS, POSITIONS, st.sampled_from([b"", b"x", b"y"])
)
TEXTS = {
    n: b" ".join([b"alpha", b"beta", b"gamma", b"delta"][: 1 + n % 4]) + b" %c" % (96 + n)
    for n in range(1, 13)
}


def patterns(row: tuple[int, int, Any, Any, bytes]) -> dict[int, list[Any]]:
    key, count, first, last, example = row
    return {key: [TEXTS[key], count, first, last, example]}


def many(n: int, text: bytes = b"user %d came in", start: int = 1) -> dict[int, list[Any]]:
    return {i: [text % i, 1, (i, 1, i), (i, 1, i), b"e%d" % i] for i in range(start, start + n)}


@example([(1, 1, None, None, b"x"), (1, 1, (None, 0, 0), None, b""), (1, 1, None, None, b"y")], 5)
@given(st.lists(ROWS, max_size=25), st.integers(0, 2**32))
def test_any_order_of_merging_gives_the_same_entries(rows: list[Any], seed: int) -> None:
    one, other = Catalogue(), Catalogue()
    for row in rows:
        one.merge(patterns(row))
    random.Random(seed).shuffle(rows)
    for row in rows:
        other.merge(patterns(row))
    assert list(one.dump()) == list(other.dump())
    assert one.total == sum(row[1] for row in rows)


@given(st.lists(ROWS, max_size=40), st.integers(1, 6))
def test_over_the_bound_patterns_fold_and_no_count_is_lost(rows: list[Any], bound: int) -> None:
    catalogue = Catalogue(max_patterns=bound)
    for row in rows:
        catalogue.merge(patterns(row))
        catalogue.check_invariants()
    assert catalogue.total == sum(row[1] for row in rows)
    for row in rows[-1:]:
        assert catalogue.resolve(row[0]) is not None


@given(st.lists(ROWS, max_size=30), st.integers(1, 8))
def test_replaying_the_dump_gives_an_equal_catalogue(rows: list[Any], bound: int) -> None:
    catalogue, copy = Catalogue(max_patterns=bound), Catalogue(max_patterns=bound)
    for row in rows:
        catalogue.merge(patterns(row))
    for effect in catalogue.dump():
        copy.restore(effect)
    copy.check_invariants()
    assert list(copy.dump()) == list(catalogue.dump())
    assert copy.statistics() == catalogue.statistics()


def test_the_example_and_the_first_position_are_those_of_the_earliest_line() -> None:
    catalogue = Catalogue()
    catalogue.merge({7: [b"t", 2, (50, 1, 0), (60, 1, 9), b"later"]})
    catalogue.merge({7: [b"t", 3, (40, 1, 5), (45, 1, 7), b"earlier"]})
    [(_, entry)] = catalogue.entries()
    assert entry.packed() == [b"t", 5, (40, 1, 5), (60, 1, 9), b"earlier", 0]


def test_merge_returns_the_ids_that_are_new_and_only_once() -> None:
    catalogue = Catalogue()
    assert catalogue.merge({1: [b"a", 1], 2: [b"b", 1]}) == [1, 2]
    assert catalogue.merge({2: [b"b", 1], 3: [b"c", 1]}) == [3]


def test_the_group_that_crowds_most_folds_into_its_first_three_words() -> None:
    catalogue = Catalogue(max_patterns=20)
    catalogue.merge(
        {
            **many(20, b"login name is %d today"),
            **many(3, b"disk full on %d today", 100),
        }
    )
    texts = {entry.text: entry for _, entry in catalogue.entries()}
    assert texts[b"login name is <*>"].folded == 20
    assert texts[b"login name is <*>"].count == 20
    assert b"disk full on 100 today" in texts
    assert catalogue.statistics()["patterns_folded"] == 20


def test_what_joins_a_folded_group_later_is_counted_there_and_is_not_announced() -> None:
    catalogue = Catalogue(max_patterns=20)
    catalogue.merge(many(21, b"login name is %d today"))
    assert catalogue.merge({999: [b"login name is zoe today", 4]}) == []
    [(key, entry)] = catalogue.entries([999])
    assert (key, entry.text, entry.count) == (999, b"login name is <*>", 25)


def test_a_pattern_with_a_hundredth_of_all_lines_does_not_fold() -> None:
    catalogue = Catalogue(max_patterns=20)
    catalogue.merge({500: [b"login name is root today", 5000], **many(20, b"login name is %d now")})
    assert catalogue.resolve(500) == 500
    assert catalogue.resolve(1) != 1


def test_clear_forgets_everything() -> None:
    catalogue = Catalogue(max_patterns=5)
    catalogue.merge(many(9))
    catalogue.clear()
    assert (len(catalogue), catalogue.total, list(catalogue.dump())) == (0, 0, [])


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {0: [b"t", 1]},
        {"zz": [b"t", 1]},
        {2**64: [b"t", 1]},
        {1: []},
        {1: 5},
        {1: [5, 1]},
        {1: [b"t", -1]},
        {1: [b"t", True]},
        {1: [b"t", 1, [1, 2]]},
        {1: [b"t", 1, ["x", 1, 2]]},
        {1: [b"t", 1, None, [1, -2, 3]]},
        {1: [b"t", 1, None, None, 7]},
    ],
)
def test_what_is_not_a_pattern_is_refused_and_changes_nothing(bad: Any) -> None:
    catalogue = Catalogue()
    good = {9: [b"good", 1]} if isinstance(bad, dict) else {}
    with pytest.raises(PatternError):
        catalogue.merge({**good, **bad} if isinstance(bad, dict) else bad)
    assert len(catalogue) == 0
    assert catalogue.total == 0


def test_ids_and_texts_may_come_as_json_writes_them() -> None:
    catalogue = Catalogue()
    assert catalogue.merge({"00000000000000ff": ["t", 1, [5, 1, 2], [5, 1, 2], "e"]}) == [255]
