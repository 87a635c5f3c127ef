"""Walking keys that come and go: none that stays is missed, and no step rewrites everything."""

from __future__ import annotations

import random
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.engine import Engine
from kvserver.keybuckets import BUCKETS, ENTRIES_AT_ONCE, SLACK, KeyBuckets
from kvserver.keyspace import Keyspace

Step: TypeAlias = "tuple[str, int, int]"

steps = st.lists(
    st.tuples(st.sampled_from(["add", "delete", "churn", "scan"]), st.integers(0, 400),
              st.integers(1, 300)),
    max_size=40,
)  # fmt: skip


@given(steps, st.integers(1, 500), st.integers(0, 10_000))
def test_a_scan_ends_and_misses_no_key_that_stays(
    steps: list[Step], count: int, staying: int
) -> None:
    keyspace = Keyspace(clock=lambda: 0)
    stay = {b"stay%d" % n for n in range(staying % 700)}
    for key in sorted(stay):
        keyspace.set(key, b"")
    cursor, found = keyspace.scan(0, count)
    seen = set(found)
    pending = iter(steps)
    calls = 0
    while cursor:
        kind, first, n = next(pending, ("scan", 0, 1))
        for key in [b"passing%d" % number for number in range(first, first + n)]:
            if kind in {"add", "churn"}:
                keyspace.set(key, b"")
            if kind in {"delete", "churn"}:
                keyspace.delete(key)
        cursor, found = keyspace.scan(cursor, count)
        seen.update(found)
        calls += 1
        assert calls < 20_000
    assert seen >= stay
    keyspace.check()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=400))
def test_keys_gives_each_key_once_whatever_came_and_went(steps: list[tuple[bool, int]]) -> None:
    engine = Engine()
    session = engine.session()
    there = set()
    for comes, number in steps:
        key = b"k%d" % number
        if comes:
            session.run([b"SET", key, b"v"])
            there.add(key)
        else:
            session.run([b"DEL", key])
            there.discard(key)
    reply = session.run([b"KEYS", b"*"])
    lines = reply.split(b"\r\n")
    assert lines[0] == b"*%d" % len(there)
    assert sorted(lines[2::2]) == sorted(there)


def test_deleting_never_rewrites_more_than_a_few_buckets_at_once() -> None:
    keyspace = Keyspace(clock=lambda: 0)
    keys = [b"key:%d" % n for n in range(40_000)]
    keyspace.set_many(keys, [b""] * len(keys))
    buckets = keyspace.buckets
    largest = 0
    for key in sorted(keys):
        before = len(buckets)
        keyspace.delete(key)
        largest = max(largest, before - len(buckets))
        assert len(buckets) <= 3 * len(keyspace) + 2 * ENTRIES_AT_ONCE
    assert 0 < largest <= ENTRIES_AT_ONCE + 2 * len(keys) // BUCKETS
    assert len(buckets) <= SLACK


def test_a_scan_that_is_overtaken_too_often_begins_its_bucket_again() -> None:
    buckets = KeyBuckets()
    keys = [b"%d" % n for n in range(20 * BUCKETS)]
    data = dict.fromkeys(keys, b"")
    buckets.arrivals.extend(keys)
    cursor, seen = buckets.slice_at(0, 3)
    for gone in keys[::7]:
        del data[gone]
        buckets.rewrite(data)
        buckets.slice_at(0, 3)
    while cursor:
        cursor, found = buckets.slice_at(cursor, 50)
        seen += found
    assert set(seen) >= data.keys()


@pytest.mark.parametrize("cursor", [1, 2**63, 2**64 - 1, 10**40])
def test_what_is_no_cursor_of_ours_is_harmless(cursor: int) -> None:
    buckets = KeyBuckets()
    buckets.arrivals.extend([b"%d" % n for n in range(1000)])
    following, found = buckets.slice_at(cursor, 10)
    assert len(found) <= 10
    while following:
        following, found = buckets.slice_at(following, 100)


def test_every_entry_may_be_chosen() -> None:
    random.seed(1)
    buckets = KeyBuckets()
    keys = [b"%d" % n for n in range(20)]
    buckets.arrivals.extend(keys)
    for _ in range(2):
        assert {buckets.choose() for _ in range(500)} == set(keys)
        assert {buckets.sample() for _ in range(5000)} == set(keys)
        buckets.rewrite(set(keys))
