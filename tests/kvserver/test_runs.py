"""Runs: what is remembered of a chunk, and what is answered for large values."""

from __future__ import annotations

import pytest

from kvserver.engine import Engine
from kvserver.lookup import plain_replies
from kvserver.runs import run_of
from tests.wire import encode


def sets(key: bytes, value: bytes, count: int = 4) -> bytes:
    return b"".join(encode("SET", key + b"%d" % n, value) for n in range(count))


@pytest.mark.parametrize("size", [3, 100, 1000, 5000])
def test_the_chunk_before_is_known_and_another_one_is_not_taken_for_it(size: int) -> None:
    chunks = [sets(b"one", b"a" * size), sets(b"two", b"a" * size), sets(b"two", b"b" * size)]
    expected = [
        (tuple(key + b"%d" % n for n in range(4)), (value * size,) * 4)
        for key, value in ((b"one", b"a"), (b"two", b"a"), (b"two", b"b"))
    ]
    for at in (0, 0, 1, 0, 1, 1, 2, 1, 2, 2):
        found = run_of(chunks[at])
        assert found is not None
        assert found[1] == expected[at]


@pytest.mark.parametrize("size", [0, 511, 512, 4095, 4096, 70_000])
def test_values_of_one_size_are_answered_as_one_by_one(size: int) -> None:
    session = Engine().session()
    keys = [b"a", b"b", b"c", b"b"]
    for number, key in enumerate(keys):
        session.run([b"SET", key, b"%d" % number * size])
    for asked in (keys, [b"a"] * 5, [b"a", b"b", b"a"]):
        answers = [session.run([b"GET", key]) for key in asked]
        assert plain_replies(session, asked) == b"".join(answers)
    assert session.keyspace.hits == 2 * (4 + 5 + 3)
