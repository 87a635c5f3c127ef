"""The keys of one moment, whatever changes while a snapshot is taken and while it is read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from kvserver import keybuckets, keysnapshot, livestore
from kvserver.keysnapshot import KeySnapshot
from kvserver.keyspace import Keyspace

NAMES = st.one_of(st.integers(0, 11).map(b"key:%d".__mod__), st.just(b"overdue"))
NOW_MS = 1_000_000
changes = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.lists(NAMES, min_size=1, max_size=1)),
        st.tuples(st.just("set many"), st.lists(NAMES, min_size=2, max_size=5)),
        st.tuples(st.just("set until"), st.lists(NAMES, min_size=1, max_size=1)),
        st.tuples(st.just("delete"), st.lists(NAMES, min_size=1, max_size=4)),
        st.tuples(st.just("merge"), st.lists(NAMES, min_size=1, max_size=1)),
        st.tuples(st.just("pass"), st.just([])),
        st.tuples(st.just("clear"), st.just([])),
    ),
    max_size=4,
)


@pytest.fixture(autouse=True, scope="module")
def everything_is_many() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keysnapshot, "FEW_KEYS", 0)
        patched.setattr(keysnapshot, "FEW_CHANGES", 1)
        patched.setattr(keysnapshot, "MOST_LOOKS", 3)
        patched.setattr(keysnapshot, "SLICE_NAMES", 2)
        for module in (keybuckets, livestore):
            patched.setattr(module, "ENTRIES_AT_ONCE", 2)
        patched.setattr(keybuckets, "SLACK", 2)
        yield


class Clock:
    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def change(keyspace: Keyspace, clock: Clock, what: str, names: list[bytes]) -> None:
    if what == "set":
        keyspace.set(names[0], b"x")
    elif what == "set many":
        keyspace.set_many(names, [b"y"] * len(names))
    elif what == "set until":
        keyspace.set(names[0], b"z", clock.now_ms + 2)
    elif what == "delete":
        for name in names:
            keyspace.delete(name)
    elif what == "merge" and keyspace.peek(names[0]) is None:
        keyspace.merge(names[0], b"\x80")
    elif what == "pass":
        clock.now_ms += 1
        keyspace.tick()
    elif what == "clear":
        keyspace.clear()


def alive(keyspace: Keyspace, now_ms: int) -> list[bytes]:
    deadlines = keyspace.deadlines
    return [name for name in keyspace.data if name not in deadlines or deadlines[name] > now_ms]


@given(changes, st.lists(changes, max_size=20), st.lists(changes, max_size=8))
def test_a_snapshot_has_the_keys_of_the_step_in_which_it_was_complete(
    before: list[tuple[str, list[bytes]]],
    meanwhile: list[list[tuple[str, list[bytes]]]],
    later: list[list[tuple[str, list[bytes]]]],
) -> None:
    clock = Clock()
    keyspace = Keyspace(clock)
    keyspace.set_many([b"key:%d" % n for n in range(8)], [b"first"] * 8)
    for one in before:
        change(keyspace, clock, *one)
    keyspace.set(b"overdue", b"x", clock.now_ms + 1)
    change(keyspace, clock, "pass", [])
    names = KeySnapshot(keyspace)
    began_ms = keyspace.now
    happened = iter(meanwhile)
    for _ in names.take():
        for one in next(happened, []):
            change(keyspace, clock, *one)
    event("everything happened while it was taken" if not list(happened) else "not all")
    expected = alive(keyspace, began_ms)
    assert not keyspace.listening
    happened = iter(later)
    found: list[bytes] = []
    for some in names.slices():
        found += some
        for one in next(happened, []):
            change(keyspace, clock, *one)
    assert sorted(found) == sorted(expected)
    keyspace.check()


def test_a_reader_who_stops_halfway_leaves_nobody_listening() -> None:
    keyspace = Keyspace(Clock())
    keyspace.set_many([b"a", b"b", b"c"], [b"1"] * 3)
    taking = KeySnapshot(keyspace).take()
    next(taking)
    assert keyspace.listening
    taking.close()
    assert not keyspace.listening
