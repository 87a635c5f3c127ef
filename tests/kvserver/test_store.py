"""What a store says of itself."""

from __future__ import annotations

from kvserver.store import Store
from parser.summary import Summary, pack


def filled(strings: int, summaries: int) -> Store:
    store = Store()
    for n in range(strings):
        store.apply(["set", b"key:%06d" % n, b"x" * 90])
    for n in range(summaries):
        store.apply(["mrg", b"sum:%06d" % n, pack(Summary())])
    return store


def test_the_bytes_of_strings_are_known_from_a_few_when_all_are_alike() -> None:
    assert Store().string_bytes() == 0
    assert filled(10_000, 0).string_bytes() == 1_000_000


def test_entries_of_keys_that_are_gone_do_not_count() -> None:
    store = filled(10_000, 0)
    for n in range(4_000):
        store.apply(["del", b"key:%06d" % n])
    assert store.string_bytes() == 600_000


def test_summaries_count_nothing() -> None:
    assert filled(0, 1_000).string_bytes() == 0
    estimates = [filled(1_000, 1_000).string_bytes() for _ in range(20)]
    assert 80_000 < sum(estimates) / len(estimates) < 120_000
