"""Large writes in pieces: all of one counts from the record on that names it, or nothing does."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.errors import JournalFullError, RecordError
from kvserver.journal.check import check
from kvserver.journal.compaction import compact
from kvserver.journal.record import encode_body
from kvserver.journal.repair import salvage
from kvserver.journal.staging import Stage, StagedReader, Staging
from kvserver.journal.writer import Journal
from kvserver.keyspace import Keyspace
from tests.faults.disk import MemoryDisk
from tests.faults.story import rotate
from tests.kvserver.journal.test_writer import opened


def read(bodies: list[bytes]) -> list[Any]:
    reader = StagedReader()
    return [effect for body in bodies for effect in reader.effects_of(body)]


def staged(journal: Journal, value: bytes, *, size: int = 4) -> Stage:
    """Write a value ahead, in pieces of so many bytes."""
    stage = journal.staging.begin(None)
    for at in range(0, len(value), size):
        stage.write(value[at : at + size])
    stage.stands_for(value)
    return stage


def written(journal: Journal, key: bytes, value: bytes) -> None:
    stage = staged(journal, value)
    stage.release()
    journal.append([["set", key, value]])


pieces = st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=4)


@given(st.lists(pieces, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_values_written_ahead_side_by_side_come_back_where_they_are_named(
    values: list[list[bytes]], random: Any
) -> None:
    bodies: list[bytes] = []
    staging = Staging(bodies.append, 7)
    stages = [staging.begin(None) for _ in values]
    order = [n for n, value in enumerate(values) for _ in value]
    random.shuffle(order)
    left = [list(value) for value in values]
    expected = []
    for n in order:
        stages[n].write(left[n].pop(0))
        if not left[n]:
            whole = b"".join(values[n])
            stages[n].stands_for(whole)
            effects: list[Any] = [["mst", [b"k"], [whole]], ["set", b"x", whole, 5]]
            bodies.append(encode_body(staging.named_by(None, effects)))
            stages[n].release()
            staging.forget_released()
            expected += effects
    assert read(bodies) == expected
    assert len(staging) == 0
    assert not staging.references


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=9), st.integers(1, 20))
def test_a_run_of_effects_written_ahead_comes_back_as_they_were(
    values: list[bytes], size: int
) -> None:
    bodies: list[bytes] = []
    stage = Staging(bodies.append, 1).begin(None)
    effects = [["set", b"%d" % n, value] for n, value in enumerate(values)]
    packed = b"".join(map(encode_body, effects))
    for at in range(0, len(packed), size):
        stage.write(packed[at : at + size])
    bodies.append(encode_body([["del", b"a"], stage.run_of(len(effects)), ["del", b"b"]]))
    assert read(bodies) == [["del", b"a"], *effects, ["del", b"b"]]


def test_only_the_record_of_the_turn_that_lets_go_names_what_was_staged() -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    value = b"an object that two keys share"
    stage = staged(journal, value)
    journal.append([["set", b"another's", value]])
    assert journal.staging.named_by("another", [["set", b"k", value]]) == [["set", b"k", value]]
    stage.release()
    journal.append([["set", b"k", value], ["set", b"a copy", value]])
    assert not journal.staging.references
    journal.append([["set", b"another's", value]])
    size = journal.active_bytes
    journal.close()
    keys = [b"another's", b"k", b"a copy", b"another's"]
    assert opened(disk)[1] == [["set", key, value] for key in keys]
    assert size < 8 * 60 + 3 * 100


def test_on_a_full_disk_a_value_is_named_once_too() -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    disk.space = 0
    value = b"a value in several pieces"
    staged(journal, value).release()
    for key in (b"k", b"a copy"):
        with pytest.raises(JournalFullError):
            journal.append([["set", key, value]])
    disk.space = None
    journal.retry()
    journal.close()
    assert opened(disk)[1] == [["set", b"k", value], ["set", b"a copy", value]]


def test_a_value_named_often_in_a_record_is_one_object() -> None:
    reader = StagedReader()
    reader.effects_of(encode_body([["stg", 1, b"a piece of it"]]))
    effects = reader.effects_of(encode_body([["mst", [b"k"] * 99, [reference(1, 1)] * 99]]))
    assert len(set(map(id, effects[0][2]))) == 1


def reference(number: int, count: int) -> msgpack.ExtType:
    return msgpack.ExtType(1, number.to_bytes(8, "big") + count.to_bytes(4, "big"))


@pytest.mark.parametrize(
    "effect",
    [
        ["set", b"k", reference(1, 1)],
        ["set", b"k", reference(1, 3)],
        ["set", b"k", reference(2, 2)],
        ["set", b"k", msgpack.ExtType(2, bytes(12))],
        ["set", b"k", msgpack.ExtType(1, b"short")],
        ["set", b"k", msgpack.ExtType(1, bytes(13))],
        ["run", 1, 2, 1],
        ["run", 1, 2, -1],
        ["run", 1, 2, "many"],
        ["run", 1, 1, 1],
        ["run", 9, 0, 1],
        ["run", 1, 2],
        ["run", [], {}, None],
        ["stg", 1],
        ["stg", b"1", b"piece"],
        ["stg", 1, "text"],
        ["stg", 1, [b"piece"]],
        [["stg"], 1],
    ],
)
def test_what_names_pieces_that_are_not_there_is_an_error(effect: list[Any]) -> None:
    reader = StagedReader()
    for piece in (b"one", b"two"):
        assert reader.effects_of(encode_body([["stg", 1, piece]])) == []
    with pytest.raises(RecordError):
        reader.effects_of(encode_body([effect]))


@given(st.binary(max_size=40), st.integers(0, 5))
def test_whatever_was_written_ahead_a_run_of_it_is_effects_or_an_error(
    piece: bytes, count: int
) -> None:
    reader = StagedReader()
    reader.effects_of(encode_body([["stg", 1, piece]]))
    try:
        effects = reader.effects_of(encode_body([["run", 1, 1, count]]))
    except RecordError:
        return
    assert len(effects) == count
    assert all(effects)


def test_what_no_record_names_is_nothing_in_this_life_and_the_next() -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    staged(journal, b"a value that nobody names").release()
    journal.append([["set", b"a", b"1"]])
    staged(journal, b"the server is killed before its record")
    journal, seen = opened(disk.killed())
    assert seen == [["set", b"a", b"1"]]
    assert len(journal.staging) == 0


def test_a_number_is_not_used_again_in_the_next_life() -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    for _ in range(3):
        journal.staging.begin(None)  # nothing of these comes to be written
    staged(journal, b"left by a crash")
    disk = disk.killed()
    journal, _ = opened(disk)
    written(journal, b"k", b"another value")
    journal.close()
    assert opened(disk)[1] == [["set", b"k", b"another value"]]


def test_no_segment_ends_while_something_is_staged_in_it() -> None:
    journal, _ = opened(MemoryDisk(), segment_bytes=200)
    name = journal.active_name
    stage = staged(journal, b"x" * 300)
    journal.maintain()
    journal.append([["set", b"another", b"1"]])
    assert journal.active_name == name
    assert not journal.may_stage("another")
    assert journal.may_stage(None)
    value = b"y" * 300
    second = staged(journal, value)
    stage.release()
    journal.append([["set", b"another", b"2"]])
    assert journal.active_name == name
    second.release()
    journal.append([["set", b"k", value]])
    assert journal.active_name != name
    assert journal.may_stage("another")


def test_on_a_full_disk_pieces_wait_in_their_order_and_are_written_first() -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    disk.space = 0
    value = b"a value in several pieces"
    staged(journal, value).release()
    with pytest.raises(JournalFullError):
        journal.append([["set", b"k", value]])
    assert journal.pending == 8
    disk.space = None
    assert journal.retry()
    journal.close()
    assert opened(disk)[1] == [["set", b"k", value]]


def test_a_compaction_takes_the_values_and_leaves_the_pieces_out() -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    for n in range(20):
        written(journal, b"%d" % (n % 3), b"value %d in pieces" % n)
    staged(journal, b"nobody's").release()
    journal.staging.forget_released()
    assert rotate(journal)
    name = journal.listing.new_base_name()
    base = compact(disk, journal.manifest.closed, name, budget_bytes=1000)
    journal.listing.replace_by_base(base)
    journal.close()
    keyspace = Keyspace(lambda: 0)
    keyspace.apply_many(opened(disk)[1])
    assert keyspace.data == {b"%d" % (n % 3): b"value %d in pieces" % n for n in (18, 19, 17)}


def test_a_damaged_piece_is_found_and_salvage_drops_what_names_it() -> None:
    disk = MemoryDisk()
    journal, _ = opened(disk)
    journal.append([["set", b"before", b"1"]])
    written(journal, b"k", b"a value in several pieces")
    journal.append([["set", b"after", b"2"]])
    name = journal.active_name
    journal.close()
    data = disk.inodes[disk.entries[name]].data
    data[data.index(b"ever")] ^= 1
    assert check(disk).verdict == "damaged"
    saved = salvage(disk)
    assert saved.keys == 2
    assert [each.reason for each in saved.dropped][-1] == "6 of 7 staged pieces are there"
