"""Many keys at once do what one after the other would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.memory import MeasuredData
from kvserver.together import look_up, store
from kvserver.values import Value

MANY: dict[bytes, Value] = {b"key:%d" % n: b"%d" % n for n in range(20_000)}
"""More than the cache holds, so that keys are looked up before they are stored."""

keys_of_many = st.integers(0, 25_000).map(b"key:%d".__mod__)
pairs = st.lists(st.tuples(keys_of_many, st.binary(max_size=3)), min_size=1, max_size=40)


@given(st.lists(keys_of_many, min_size=2, max_size=40), st.booleans())
def test_values_come_in_the_order_of_their_keys(keys: list[bytes], expect_gaps: bool) -> None:
    found = look_up(MANY, tuple(keys), expect_gaps=expect_gaps)
    assert list(found) == [MANY.get(key) for key in keys]
    assert type(found) is (list if None in found else tuple)


def test_an_empty_value_is_no_gap() -> None:
    data = {b"a": b"", b"b": b"1"}
    for expect_gaps in (False, True):
        assert list(look_up(data, (b"a", b"b"), expect_gaps=expect_gaps)) == [b"", b"1"]


@pytest.mark.parametrize("start", [{}, MANY], ids=["few", "many"])
@pytest.mark.parametrize("kind", [dict, MeasuredData])
@given(stored=pairs, in_a_list=st.booleans())
def test_what_is_stored_is_the_last_value_of_each_key(
    start: dict[bytes, Value],
    kind: type[dict[bytes, Value]],
    stored: list[tuple[bytes, bytes]],
    in_a_list: bool,
) -> None:
    data = kind()
    data.update(start)
    expected = start | dict(stored)
    keys, values = zip(*stored, strict=True)
    store(data, list(keys) if in_a_list else keys, values)
    assert data == expected
    assert list(data) == list(expected)  # new ones last, in the order they came


@pytest.mark.parametrize("start", [{}, MANY], ids=["few", "many"])
def test_nothing_to_store_is_nothing(start: dict[bytes, Value]) -> None:
    data = dict(start)
    store(data, (), ())
    assert data == start


def test_as_many_values_as_keys_are_needed() -> None:
    with pytest.raises(ValueError, match="zip"):
        store({}, (b"a", b"b"), (b"1",))
