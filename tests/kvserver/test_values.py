"""Values of summaries: nothing for the garbage collector, and the same however they are added."""

from __future__ import annotations

import gc
import random

import msgpack
import pytest

from kvserver.errors import CommandError
from kvserver.ingest import unpack_deltas
from kvserver.keyspace import Keyspace
from kvserver.values import FOLD_STEP_BYTES, SummaryValue, folded
from parser.summary import Summary, pack


def test_a_summary_is_bytes_that_the_collector_does_not_walk_over() -> None:
    value = SummaryValue(b"abc")
    assert not gc.is_tracked(value)
    assert not gc.is_tracked([value][0] + b"d")
    assert isinstance(value, bytes)
    assert type(value) is SummaryValue
    assert (value, hash(value), repr(value), value[1:]) == (b"abc", hash(b"abc"), "b'abc'", b"bc")
    assert (
        f"{SummaryValue.__module__}.{SummaryValue.__qualname__}" == "kvserver.values.SummaryValue"
    )


def test_many_deltas_at_once_are_the_same_as_one_after_the_other() -> None:
    chance = random.Random(7)
    columns, single = Keyspace(lambda: 0), Keyspace(lambda: 0)
    for step in range(40):
        keys = [b"k%d" % chance.randrange(30) for _ in range(20)]
        if step % 2:
            keys = list(dict.fromkeys(keys))  # each once, as a piece of a log has them
        deltas = []
        for key in keys:
            events = {chance.getrandbits(64): 1 for _ in range(12 if key == b"k3" else 1)}
            position = step, 1, chance.randrange(1000)
            deltas.append(pack(Summary(1, position, position, {"INFO": 1}, events)))
        flat = [part for pair in zip(keys, deltas, strict=True) for part in pair]
        header = b'{"source": 1, "ranges": [[%d, %d]]}' % (step, step + 1)
        new = columns.ingest(header, msgpack.packb(flat))
        before = len(single)
        for key, delta in zip(keys, deltas, strict=True):
            single.merge(key, delta)
        assert new == len(single) - before
        columns.check()
        assert sorted(columns.buckets) == sorted(single.buckets)
        assert columns.data == single.data
    assert set(map(type, columns.data.values())) == {SummaryValue}
    hot = columns.data[b"k3"]
    assert type(hot) is SummaryValue
    assert len(hot) < 2 * len(folded(hot)) + 2 * FOLD_STEP_BYTES


@pytest.mark.parametrize("delta", [b"", b"\x90", b"\x98", b"\xc0", b"text"])
def test_what_is_no_delta_at_first_sight_is_refused(delta: bytes) -> None:
    with pytest.raises(CommandError, match="not a packed summary"):
        unpack_deltas(msgpack.packb([b"key", delta]))
