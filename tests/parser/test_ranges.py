"""Ranges tile a file for every cut, and what is missing is what was not counted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.ranges import ReadAt, add, boundary, covered, cuts, missing

contents = st.lists(st.sampled_from([b"a", b" ", b"\n", b"bb\n", b"\n\n", b"E"]), max_size=40).map(
    b"".join
)
pairs = st.tuples(st.integers(0, 50), st.integers(1, 20)).map(lambda r: (r[0], r[0] + r[1]))


def reader(data: bytes) -> ReadAt:
    return lambda offset, size: data[offset : offset + size]


def starts_event(line: bytes) -> bool:
    return line.startswith(b"E")


@given(contents, st.integers(1, 50), st.booleans())
def test_ranges_tile_every_content_for_every_size(data: bytes, size: int, events: bool) -> None:
    rule = starts_event if events else None
    found = [
        (
            boundary(reader(data), low, 0, len(data), rule),
            boundary(reader(data), high, 0, len(data), rule),
        )
        for low, high in cuts(0, len(data), size)
    ]
    assert b"".join(data[low:high] for low, high in found) == data
    for low, high in found:
        assert low <= high
        if 0 < low < len(data):
            assert data[low - 1 : low] == b"\n"
            if events:
                assert starts_event(data[low:])


@given(contents)
def test_a_cut_at_every_byte_moves_to_the_next_line(data: bytes) -> None:
    starts = [0] + [n + 1 for n in range(len(data)) if data[n : n + 1] == b"\n"]
    for cut in range(len(data) + 1):
        moved = boundary(reader(data), cut, 0, len(data))
        assert moved == min([n for n in starts if n >= cut], default=len(data))


def test_an_event_that_does_not_end_is_cut_at_a_line() -> None:
    data = b"E\n" + b" more of it\n" * 600_000
    moved = boundary(reader(data), 10, 0, len(data), starts_event)
    assert 10 < moved < len(data)
    assert data[moved - 1 : moved] == b"\n"


def test_a_file_that_became_shorter_ends_the_search() -> None:
    assert boundary(lambda *_: b"", 5, 0, 100) == 100


@given(st.lists(pairs, max_size=12), pairs)
def test_what_is_missing_and_what_is_covered_are_all_there_is(
    counted: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    held = add([], counted)
    model = {n for low, high in counted for n in range(low, high)}
    assert {n for low, high in held for n in range(low, high)} == model
    assert all(a[1] < b[0] for a, b in itertools.pairwise(held))
    wanted = set(range(*asked))
    gaps = missing(held, *asked)
    assert {n for low, high in gaps for n in range(low, high)} == wanted - model
    assert covered(held, *asked) == len(wanted & model)
    assert add(held, gaps) == add(held, [asked])


def test_cuts_are_about_equal_and_none_is_too_big() -> None:
    found = list(cuts(100, 1101, 250))
    assert found[0][0] == 100
    assert found[-1][1] == 1101
    assert [high - low for low, high in found] == [200, 200, 200, 200, 201]
    assert list(cuts(5, 5, 10)) == []
    with pytest.raises(ValueError, match="one byte"):
        list(cuts(0, 10, 0))
