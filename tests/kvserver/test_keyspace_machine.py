"""The keyspace against a plain dict, step by step, with a clock that jumps both ways.

Strings of five bytes and more are kept in blocks here.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from kvserver.errors import CommandError
from kvserver.keyspace import Keyspace
from kvserver.longstring import whole
from kvserver.values import SummaryValue
from parser.summary import Summary, fold, merge, pack, unpack

KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
VALUES = st.binary(max_size=6)
AHEAD_MS = st.integers(1, 40)


class KeyspaceMachine(RuleBasedStateMachine):
    """The model is a dict of key -> (value, deadline); summaries are Summary objects there."""

    @initialize()
    def start(self) -> None:
        self.blocks = patch.multiple(
            "kvserver.longstring", BLOCK_BYTES=3, LONG_BYTES=5, _ZEROS=bytes(3)
        )
        self.blocks.start()
        self.now = 1_000_000
        self.keyspace = Keyspace(lambda: self.now)
        self.model: dict[bytes, tuple[Any, int | None]] = {}
        self.history: list[Any] = []
        self.told: list[tuple[bytes, str]] = []
        self.keyspace.listen(lambda key, event: self.told.append((key, event)))

    def alive(self) -> dict[bytes, tuple[Any, int | None]]:
        """What is there; what is due goes for good, whatever the clock does later."""
        now = self.keyspace.now
        self.model = {
            key: (value, deadline)
            for key, (value, deadline) in self.model.items()
            if deadline is None or deadline > now
        }
        return self.model

    @rule(step=st.integers(-30, 60))
    def the_clock_moves(self, step: int) -> None:
        self.now += step
        self.keyspace.tick()
        self.keyspace.expire_due(100)
        self.alive()

    @rule(key=KEYS, value=VALUES, ahead=st.none() | AHEAD_MS)
    def set(self, key: bytes, value: bytes, ahead: int | None) -> None:
        deadline = None if ahead is None else self.keyspace.now + ahead
        self.keyspace.set(key, value, deadline)
        self.alive()[key] = (value, deadline)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=5), value=VALUES, alone=st.booleans())
    def set_many(self, keys: list[bytes], value: bytes, alone: bool) -> None:
        self.keyspace.listening = not alone
        self.keyspace.set_many(keys, [value] * len(keys))
        self.keyspace.listening = True
        for key in keys:
            self.alive()[key] = (value, None)

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.keyspace.delete(key) == (self.alive().pop(key, None) is not None)

    @rule(key=KEYS, ahead=st.none() | st.integers(-10, 40))
    def expire(self, key: bytes, ahead: int | None) -> None:
        deadline = None if ahead is None else self.keyspace.now + ahead
        held = self.alive().get(key)
        assert self.keyspace.expire(key, deadline) == (held is not None)
        if held is not None:
            self.model[key] = (held[0], deadline)
            self.alive()

    @rule(key=KEYS, suffix=VALUES)
    def append(self, key: bytes, suffix: bytes) -> None:
        value, deadline = self.alive().get(key, (b"", None))
        if isinstance(value, Summary):
            return
        assert self.keyspace.append(key, suffix) == len(value + suffix)
        self.model[key] = (value + suffix, deadline)

    @rule(key=KEYS, offset=st.integers(0, 8), part=st.binary(min_size=1, max_size=3))
    def overwrite(self, key: bytes, offset: int, part: bytes) -> None:
        value, deadline = self.alive().get(key, (b"", None))
        if isinstance(value, Summary):
            return
        wanted = bytearray(value.ljust(offset + len(part), b"\0"))
        wanted[offset : offset + len(part)] = part
        assert self.keyspace.overwrite(key, offset, part, "setrange") == len(wanted)
        self.model[key] = (bytes(wanted), deadline)

    @rule(key=KEYS, count=st.integers(1, 5))
    def merge(self, key: bytes, count: int) -> None:
        value, deadline = self.alive().get(key, (Summary(), None))
        if not isinstance(value, Summary):
            with pytest.raises(CommandError, match="WRONGTYPE"):
                self.keyspace.merge(key, pack(Summary(count)))
            return
        self.keyspace.merge(key, pack(Summary(count)))
        self.model[key] = (merge(value, Summary(count)), deadline)

    @rule(key=KEYS)
    def read_a_summary(self, key: bytes) -> None:
        held = self.alive().get(key)
        value = self.keyspace.peek(key)
        if held is not None and isinstance(held[0], Summary):
            assert type(value) is SummaryValue
            assert self.keyspace.read_summary(key, value) == held[0]
            assert unpack(bytes(self.keyspace.data[key])) == held[0]

    @rule(source=KEYS, to=KEYS)
    def copy(self, source: bytes, to: bytes) -> None:
        held = self.alive().get(source)
        value = self.keyspace.peek(source)
        assert (held is None) == (value is None)
        if value is not None and source != to:
            self.keyspace.put(to, value, self.keyspace.deadline(source), "copy_to")
            assert held is not None
            self.model[to] = held

    @precondition(lambda self: len(self.model) > 3)
    @rule()
    def clear(self) -> None:
        self.keyspace.clear()
        self.model.clear()
        while self.keyspace.free_garbage(2):
            pass

    @rule(count=st.integers(1, 3), extra=KEYS, gone=KEYS)
    def scan_misses_no_key_that_stays(self, count: int, extra: bytes, gone: bytes) -> None:
        staying = set(self.alive()) - {gone}
        seen: set[bytes] = set()
        cursor = 0
        for step in range(1000):
            cursor, found = self.keyspace.scan(cursor, count)
            seen.update(found)
            if cursor == 0:
                break
            if step == 0:
                self.delete(gone)
                self.set(extra, b"new", None)
        else:
            raise AssertionError("the scan does not end")
        assert seen >= staying
        assert seen <= staying | {extra, gone}

    @rule()
    def random_key(self) -> None:
        key = self.keyspace.random_key()
        assert (key is None) == (not self.alive())
        assert key is None or key in self.model

    @invariant()
    def every_key_reads_as_the_model_says(self) -> None:
        model = self.alive()
        for key in (b"a", b"b", b"c", b"d", b"e"):
            value = self.keyspace.peek(key)
            if key not in model:
                assert value is None
                continue
            wanted, deadline = model[key]
            assert value is not None
            assert (fold(value) if type(value) is SummaryValue else whole(value)) == wanted
            assert self.keyspace.deadline(key) == deadline

    @invariant()
    def it_holds_together_and_its_effects_make_an_equal_one(self) -> None:
        self.keyspace.check()
        self.history += self.keyspace.effects
        self.keyspace.effects.clear()
        again = Keyspace(lambda: self.now)
        again.apply_many(self.history)
        again.check()
        assert list(again.dump()) == list(self.keyspace.dump())
        short = Keyspace(lambda: self.now)
        for effect in self.keyspace.dump():
            short.apply(effect)
        assert list(short.dump()) == list(self.keyspace.dump())

    def teardown(self) -> None:
        if hasattr(self, "told"):
            self.blocks.stop()
            assert {event for _, event in self.told} <= {
                "set", "del", "expired", "expire", "persist", "append", "setrange", "merge",
                "copy_to", "flushdb",
            }  # fmt: skip


TestKeyspace = KeyspaceMachine.TestCase
TestKeyspace.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=30)
