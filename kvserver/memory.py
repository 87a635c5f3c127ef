"""The limit on memory: what counts, what is evicted, when writes are refused.

Nothing here costs anything while no limit is set. With a limit, the keyspace's dict is one that
adds up the sizes of its keys and values as they come and go, so that the number is exact at any
moment and not sampled. What counts is that sum, a mean for the tables around it, and the memory of
the process as it was without data: so the limit is about what the system sees, up to fragmentation.

Policies: ``noeviction`` refuses; ``allkeys-lru`` and ``volatile-lru`` take the longest unused of a
few keys picked at random, as Redis does; ``volatile-ttl`` takes the key that expires first.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kvserver.errors import CommandError

if TYPE_CHECKING:
    from kvserver.commands.table import Command
    from kvserver.engine import Engine
    from kvserver.session import Session
    from kvserver.values import Value

__all__ = [
    "DEADLINE_BYTES",
    "OUT_OF_MEMORY",
    "TABLE_BYTES",
    "MeasuredData",
    "MemoryLimit",
    "entry_bytes",
    "give_back_free_memory",
    "keep_free_memory",
    "resident_bytes",
]

log = logging.getLogger("kvserver")

OUT_OF_MEMORY: Final = "OOM command not allowed when used memory > 'maxmemory'."
TABLE_BYTES: Final = 100
"""What an entry takes in the tables of the keyspace. A mean: a table grows by doubling, and a count
that jumped with it would evict half of the keys at once."""
_USE_BYTES: Final = 100
"""The same for the time of last use."""
DEADLINE_BYTES: Final = 200
"""What a deadline costs in its two tables; measured with a million spread over days."""
SPARE_BYTES: Final = 16 << 20
"""Free memory that stays with the process."""
MAPPED_BYTES: Final = 4 << 20
"""A block from this size on is a mapping of its own, and goes back as soon as it is freed."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_SLICE_NS: Final = 1_500_000
_AT_ONCE: Final = 32
"""How long one command evicts, and so many keys at least."""
_TRIES: Final = 20
_HEADER: Final = sys.getsizeof(b"")


def _rounded(size: int) -> int:
    """Return what the allocator gives to bytes of that length."""
    return size + _HEADER + 15 & -16


_ROUNDED: Final = [_rounded(size) for size in range(4096)]


def entry_bytes(key: bytes, value: Value) -> int:
    """Return what a key and its value take."""
    return _rounded(len(key)) + _rounded(len(value))


def _total_bytes(items: Iterable[Value]) -> int:
    """Return what keys, or values, take together."""
    sizes = list(map(len, items))
    try:
        return sum(map(_ROUNDED.__getitem__, sizes))
    except IndexError:
        return sum(map(_rounded, sizes))


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def keep_free_memory() -> None:
    """Let the allocator keep what is freed for later, but nothing of large values (glibc).

    By itself it gives what is free at the end of its heap back above 128 KiB, and with values of a
    kilobyte does so, and takes it again, at every fifth chunk that a client sends. Both thresholds
    grow with the largest block it has seen freed, up to 32 MiB: from then on a value that grows
    while it comes is copied, of 64 MiB for 10 ms, where the system moves a mapping without a copy.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, SPARE_BYTES)
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)


def give_back_free_memory() -> None:
    """Give what the allocator holds for later back to the system, where it can (glibc).

    Takes some 10 ms for 350 MB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class MeasuredData(dict[bytes, "Value"]):
    """A dict that knows the size of what is in it, and when each key was last used."""

    __slots__ = ("stored_bytes", "used_at")

    def __init__(self) -> None:
        super().__init__()
        self.stored_bytes = 0
        self.used_at: dict[bytes, int] | None = None
        """Key -> second of last use; None when the policy does not ask."""

    def __setitem__(self, key: bytes, value: Value) -> None:
        old = self.get(key)
        if old is not None:
            self.stored_bytes -= entry_bytes(key, old)
        self.stored_bytes += entry_bytes(key, value)
        super().__setitem__(key, value)
        if self.used_at is not None:
            self.used_at[key] = int(time.monotonic())

    def update(self, other: Any = (), /, **_: Any) -> None:
        """Take over all entries of a mapping or of pairs: in columns, a third of one by one."""
        fresh: dict[bytes, Value] = dict(other)
        olds = [old for old in map(self.get, fresh) if old is not None]
        self.stored_bytes += _total_bytes(fresh.values()) - _total_bytes(olds)
        if len(olds) != len(fresh):
            self.stored_bytes += _total_bytes(key for key in fresh if key not in self)
        super().update(fresh)
        if self.used_at is not None:
            self.used_at.update(dict.fromkeys(fresh, int(time.monotonic())))

    def __delitem__(self, key: bytes) -> None:
        self.pop(key)

    def pop(self, key: bytes, *default: Any) -> Any:
        """Take a key out."""
        old = self.get(key)
        if old is not None:
            self.stored_bytes -= entry_bytes(key, old)
            if self.used_at is not None:
                self.used_at.pop(key, None)
        return super().pop(key, *default)


class MemoryLimit:
    """Keeps one server under its ``maxmemory``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keyspace = engine.keyspace
        self.base_bytes = resident_bytes()
        """Memory of the process without data; what is freed later must not count as that."""
        self.behind = False
        """More is to be evicted than one command should wait for."""
        self.apply()

    def apply(self) -> None:
        """Follow the settings; O(keys) when a limit is set where there was none."""
        config = self._engine.config
        if not config.maxmemory_bytes:
            self._engine.gate("maxmemory", None)
            if isinstance(self._keyspace.data, MeasuredData):
                self._keyspace.data = dict(self._keyspace.data)
            return
        data = self._keyspace.data
        if not isinstance(data, MeasuredData):
            measured = MeasuredData()
            for key, value in data.items():
                measured[key] = value
            self._keyspace.data = data = measured
        if config.maxmemory_bytes <= self.base_bytes:
            log.warning(
                "maxmemory is %d bytes, but the process takes %d without any data",
                config.maxmemory_bytes,
                self.base_bytes,
            )
        if not self._tracks_use():
            data.used_at = None
        elif data.used_at is None:
            data.used_at = {}
        self._engine.gate("maxmemory", self._check)

    def _tracks_use(self) -> bool:
        return self._engine.config.maxmemory_policy.endswith("lru")

    def _data_bytes(self) -> int:
        keyspace = self._keyspace
        data = keyspace.data
        if not isinstance(data, MeasuredData):
            return 0
        each = TABLE_BYTES if data.used_at is None else TABLE_BYTES + _USE_BYTES
        return data.stored_bytes + each * len(data) + DEADLINE_BYTES * len(keyspace.deadlines)

    def used_bytes(self) -> int:
        """Return what counts against the limit; resident memory while there is none."""
        if isinstance(self._keyspace.data, MeasuredData):
            return self.base_bytes + self._data_bytes()
        return resident_bytes()

    def idle_s(self, key: bytes) -> int:
        """Seconds since a key was last used; 0 when that is not kept track of."""
        data = self._keyspace.data
        if not isinstance(data, MeasuredData) or data.used_at is None:
            return 0
        now_s = int(time.monotonic())
        return now_s - data.used_at.get(key, now_s)

    def _check(self, session: Session, command: Command, args: list[bytes]) -> None:
        """Stand before every command: note which keys are used, make room for what grows."""
        if command.first_key and self._tracks_use() and not session.about.get("no_touch"):
            self.note_use(command.keys(args))
        if "denyoom" in command.flags and not self.make_room():
            raise CommandError(OUT_OF_MEMORY)

    def note_use(self, keys: Iterable[bytes]) -> None:
        """Remember that these keys, as far as they are there, are used now."""
        data = self._keyspace.data
        if self._tracks_use() and isinstance(data, MeasuredData):
            if data.used_at is None:  # everything was deleted at once
                data.used_at = {}
            present = filter(data.__contains__, keys)
            data.used_at.update(dict.fromkeys(present, int(time.monotonic())))

    def note_idle(self, key: bytes, seconds: int) -> None:
        """Remember that a key that is there was last used so long ago (RESTORE IDLETIME)."""
        data = self._keyspace.data
        if isinstance(data, MeasuredData) and data.used_at is not None:
            data.used_at[key] = int(time.monotonic()) - seconds

    def is_room_for(self, keys: int, chunk_bytes: int) -> bool:
        """Whether so many keys of a chunk of that size may be set without each asking for its room.

        They may where all of them fit; and where every key may be evicted, as the next write then
        makes up for the one chunk that this one is too large.
        """
        config = self._engine.config
        each = TABLE_BYTES + _USE_BYTES + DEADLINE_BYTES
        most = self.used_bytes() + 2 * chunk_bytes + keys * each
        if most > config.maxmemory_bytes and not (
            config.maxmemory_policy == "allkeys-lru" and self.make_room()
        ):
            return False
        self.note_use(())  # so that there is a place to note it
        return True

    def make_room(self) -> bool:
        """Evict until the limit holds, for a slice of time; whether a write may go on.

        It may, too, while there is more to evict: that is done beside the commands that follow.
        """
        limit = self._engine.config.maxmemory_bytes
        self.behind = False
        if not limit or self.used_bytes() <= limit:  # as for nearly every write
            return True
        if self._keyspace.diverted is not None:  # inside an isolated write: beside it, then
            self.behind = True
            return True
        until = time.perf_counter_ns() + _SLICE_NS
        evicted = 0
        while self.used_bytes() > limit:
            if evicted and evicted % _AT_ONCE == 0 and time.perf_counter_ns() > until:
                self.behind = True
                return True
            victim = self._victim()
            if victim is None:
                return False
            self._keyspace.delete(victim, "evicted")
            self._engine.stats.evicted += 1
            evicted += 1
        return True

    def _victim(self) -> bytes | None:
        """Return a key to evict; none of those that an isolated write has not told of yet."""
        keyspace = self._keyspace
        match self._engine.config.maxmemory_policy:
            case "volatile-ttl":
                held = self._engine.isolation.keys
                return next((k for k in keyspace.deadlines.soonest_first() if k not in held), None)
            case "allkeys-lru":
                return self._longest_unused(self._some_keys(keyspace.data))
            case "volatile-lru":
                return self._longest_unused(self._some_keys(keyspace.deadlines))
        return None

    def _longest_unused(self, keys: Iterator[bytes]) -> bytes | None:
        data = self._keyspace.data
        used_at = data.used_at if isinstance(data, MeasuredData) and data.used_at else {}
        return min(keys, key=lambda key: used_at.get(key, 0), default=None)

    def _some_keys(self, among: dict[bytes, Any]) -> Iterator[bytes]:
        """Yield a few keys picked at random; the first few of the dict when luck is against it."""
        wanted = self._engine.config.maxmemory_samples
        buckets, held = self._keyspace.buckets, self._engine.isolation.keys
        found = 0
        for _ in range(min(len(buckets), _TRIES * wanted)):
            key = buckets.sample()
            if key in among and key not in held:
                yield key
                found += 1
                if found >= wanted:
                    return
        if not found:
            yield from islice((key for key in among if key not in held), wanted)
