"""Seen answers as a set does, in a fraction of its memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvclient.seen import Seen


@given(st.lists(st.binary(max_size=3), max_size=300))
def test_it_answers_as_a_set_does(keys: list[bytes]) -> None:
    seen, held = Seen(), set[bytes]()
    for key in keys:
        assert seen.add(key) == (key not in held)
        held.add(key)
        assert key in seen
    assert (b"none of them" in seen) is False
    assert len(seen) == len(held)


def test_it_grows_without_forgetting() -> None:
    seen = Seen()
    keys = [b"key:%d" % n for n in range(5000)]
    assert all(seen.add(key) for key in keys)
    assert not any(seen.add(key) for key in keys)
    assert seen._table.itemsize * len(seen._table) / len(seen) < 48
