"""Runs: what is remembered of a chunk, and what is answered for large values."""

from __future__ import annotations

from itertools import chain

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


@pytest.mark.parametrize("requests", [1, 3])
@pytest.mark.parametrize("size", [3, 193, 1000])
def test_msets_are_read_as_one_run_whatever_the_size_of_their_values(
    size: int, requests: int
) -> None:
    pairs = [(b"key%02d" % n, bytes([65 + n]) * size) for n in range(4 * requests)]
    chunk = b"".join(
        encode("MSET", *chain.from_iterable(pairs[at : at + 4])) for at in range(0, len(pairs), 4)
    )
    found = run_of(chunk)
    assert found is not None
    assert (found[0].requests, found[1]) == (requests, tuple(zip(*pairs, strict=True)))
    heads = [at for at in range(len(chunk)) if chunk[at] in b"$*\r\n"]
    for at in heads:
        assert run_of(chunk[:at] + b"-" + chunk[at + 1 :]) is None
    for at in (at + 1 for at in heads if chunk[at] in b"$*"):
        assert run_of(chunk[:at] + b"7" + chunk[at + 1 :]) is None


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
