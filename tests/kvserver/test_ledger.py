"""The ledger counts every byte once, whatever ranges come in which order."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.ledger import Ledger, RangeSet

BOOKS = {"lines": 3, "matched": 2, "unparsed": 1, "skipped": 0}

ranges_ = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda r: (r[0], r[0] + r[1]))


@given(st.lists(ranges_, max_size=30), ranges_)
def test_a_range_set_holds_what_a_set_of_integers_holds(
    added: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    held = RangeSet()
    model: set[int] = set()
    for start, end in added:
        held.add(start, end)
        model |= set(range(start, end))
        held.check()
    assert {n for start, end in held for n in range(start, end)} == model
    assert held.total == len(model)
    assert held.covered(*asked) == len(model & set(range(*asked)))


@given(st.lists(ranges_, max_size=40))
def test_a_ledger_that_obeys_its_verdicts_counts_every_byte_once(
    offered: list[tuple[int, int]],
) -> None:
    ledger = Ledger()
    counted: set[int] = set()
    for pair in offered:
        bytes_ = set(range(*pair))
        verdict = ledger.verdict(7, [pair])
        if verdict == "new":
            assert not bytes_ & counted
            ledger.record(7, [pair], {"lines": 1}, {})
            counted |= bytes_
        elif verdict == "counted":
            assert bytes_ <= counted
        else:
            assert bytes_ & counted
            assert bytes_ - counted
        ledger.check()
    assert sum(state.counted_bytes for state in ledger.sources()) == len(counted)


def test_ranges_that_touch_become_one() -> None:
    ledger = Ledger()
    for start in (100, 0, 200):
        ledger.record(1, [(start, start + 100)], BOOKS, {"path": "a.log"})
    state = ledger.get(1)
    assert state is not None
    assert list(state.ranges) == [(0, 300)]
    assert state.books == {"lines": 9, "matched": 6, "unparsed": 3, "skipped": 0}


def test_a_claim_is_new_once() -> None:
    ledger = Ledger()
    assert ledger.verdict(5, []) == "new"
    ledger.record(5, [], {}, {"path": "a.log"})
    assert ledger.verdict(5, []) == "counted"
    assert ledger.verdict(5, [(0, 10)]) == "new"


def test_what_is_known_about_a_source_is_replaced_name_by_name() -> None:
    ledger = Ledger()
    ledger.record(5, [], {}, {"path": "a.log", "size": 10})
    ledger.record(5, [(0, 10)], BOOKS, {"size": 20})
    state = ledger.get(5)
    assert state is not None
    assert state.about == {"path": "a.log", "size": 20}


def test_a_source_that_moved_is_known_at_its_new_place() -> None:
    ledger = Ledger()
    ledger.record(5, [(0, 10)], BOOKS, {"path": "a.log", "begin": b"x"})
    assert not ledger.learn(5, {"path": "b.log"})  # a claim that came second
    assert ledger.learn(5, {"path": "b.log", "moved": True})
    assert not ledger.learn(5, {"path": "b.log", "moved": True})
    assert not ledger.learn(6, {"path": "b.log", "moved": True})
    state = ledger.get(5)
    assert state is not None
    assert state.about == {"path": "b.log", "begin": b"x"}


def test_a_dump_restores_an_equal_ledger_in_the_same_order() -> None:
    ledger = Ledger()
    ledger.record(2**64 - 1, [(10, 20), (30, 40)], BOOKS, {"path": "z.log", "marks": [[5, b"h"]]})
    ledger.record(1, [], {}, {})
    restored = Ledger()
    for effect in ledger.dump():
        restored.restore(msgpack.unpackb(msgpack.packb(effect), strict_map_key=False))
    restored.check()
    assert list(restored.sources()) == list(ledger.sources())
    assert [state.id for state in restored.sources()] == [2**64 - 1, 1]


@pytest.mark.parametrize(
    ("source", "ranges"),
    [
        (-1, []),
        (2**64, []),
        ("1", []),
        (True, []),
        (1, [(0, 0)]),
        (1, [(5, 4)]),
        (1, [(-1, 4)]),
        (1, [(0, 2**63)]),
        (1, [(0, 10), (5, 20)]),
        (1, [(0, 10), (0, 10)]),
        (1, [(0, 1, 2)]),
        (1, [("0", "1")]),
        (1, [(0, 1.5)]),
    ],
)
def test_what_is_no_range_is_refused(source: Any, ranges: Any) -> None:
    with pytest.raises(ValueError, match=r"range|source"):
        Ledger().verdict(source, ranges)


@pytest.mark.parametrize(
    "effect", [[], ["src"], ["set", 1, [], {}, {}], ["src", 1, 5, {}, {}], ["src", 1, [], [], {}]]
)
def test_what_is_no_effect_of_the_ledger_is_refused(effect: list[object]) -> None:
    with pytest.raises(ValueError, match=r"ledger|source"):
        Ledger().restore(effect)


def test_statistics_tell_how_the_latest_ingest_goes() -> None:
    ledger = Ledger()
    assert set(ledger.statistics().values()) == {0}
    ledger.record(1, [(0, 10)], BOOKS, {"seen_ms": 5, "lag_ms": 70, "pending": 3, "retries": 1})
    ledger.record(2, [(0, 20)], BOOKS, {"seen_ms": 9, "lag_ms": 20, "pending": 2, "retries": 4})
    ledger.record(3, [(0, 30)], BOOKS, {"seen_ms": "x", "lag_ms": None, "retries": -1})
    assert ledger.statistics() == {
        "ingested_bytes": 60,
        "ingest_lag_ms": 20,
        "ingest_ranges_pending": 2,
        "ingest_retries": 5,
        "last_ingest_ms": 9,
    }


def test_a_cleared_ledger_counts_everything_again() -> None:
    ledger = Ledger()
    ledger.record(1, [(0, 10)], BOOKS, {})
    ledger.clear()
    assert len(ledger) == 0
    assert ledger.verdict(1, [(0, 10)]) == "new"


def test_a_thousand_gaps_stay_cheap_to_look_up() -> None:
    held = RangeSet((n * 10, n * 10 + 5) for n in range(1000))
    held.check()
    assert held.covered(0, 10_000) == 5000
    held.add(0, 10_000)
    assert list(held) == [(0, 10_000)]
