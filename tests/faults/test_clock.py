"""The wall clock jumps both ways: what was seen to be gone stays gone, whatever happens then."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kvserver.journal.compaction import compact
from kvserver.journal.recovery import recover
from kvserver.journal.writer import Journal
from kvserver.keyspace import Keyspace
from tests.faults.disk import MemoryDisk
from tests.faults.story import rotate

HOUR_MS = 3_600_000


class Life:
    """A keyspace and its journal, as a server drives them."""

    def __init__(self, disk: MemoryDisk, clock: list[int]):
        self.disk, self.clock = disk, clock
        self.keyspace = Keyspace(lambda: clock[0])
        self.journal: Journal
        self.journal, _ = recover(disk, self.keyspace.apply_many)

    def turn(self, change: Any = lambda _keyspace: None) -> None:
        self.keyspace.tick()
        change(self.keyspace)
        self.keyspace.expire_due(1000)
        self.journal.append(self.keyspace.effects)
        self.keyspace.effects.clear()

    def compact(self) -> None:
        if rotate(self.journal) and self.journal.manifest.closed:
            name = self.journal.listing.new_base_name()
            base = compact(self.disk, self.journal.manifest.closed, name)
            for old in self.journal.listing.replace_by_base(base):
                self.disk.unlink(old)

    def killed(self) -> Life:
        return Life(self.disk.killed(), self.clock)

    def seen(self) -> set[bytes]:
        self.keyspace.tick()
        return {key for key in list(self.keyspace.data) if self.keyspace.peek(key) is not None}


@pytest.mark.parametrize("seed", range(5))
def test_no_key_comes_back_after_its_expiry_was_seen(seed: int) -> None:
    chance = random.Random(seed)
    clock = [1_700_000_000_000]
    life = Life(MemoryDisk(), clock)
    gone: set[bytes] = set()
    for n in range(100):
        key = b"%d" % n
        deadline_ms = clock[0] + chance.choice([1, 500, HOUR_MS // 2])
        life.turn(lambda k, key=key, at=deadline_ms: k.set(key, b"v", at))
        before = life.seen()
        clock[0] += chance.choice([1, 700, HOUR_MS, -HOUR_MS, -700])
        life.turn()
        gone |= before - life.seen()
        what = chance.randrange(4)
        if what == 0:
            life = life.killed()
        elif what == 1:
            life.compact()
        clock[0] += chance.choice([0, HOUR_MS, -HOUR_MS])
        life.turn()
        assert not life.seen() & gone, f"seed {seed}, step {n}"
    assert len(gone) > 20


def test_a_compaction_never_drops_a_key_because_of_its_own_clock() -> None:
    clock = [1_000_000]
    life = Life(MemoryDisk(), clock)
    life.turn(lambda k: k.set(b"a", b"v", clock[0] + 10))
    clock[0] += 100 * HOUR_MS
    life.compact()
    clock[0] = 1_000_001
    assert life.killed().seen() == {b"a"}


def test_a_key_that_expired_while_nobody_ran_is_gone_at_once() -> None:
    clock = [1_000_000]
    life = Life(MemoryDisk(), clock)
    life.turn(lambda k: k.set(b"a", b"v", clock[0] + 10))
    clock[0] += 11
    assert life.killed().seen() == set()
