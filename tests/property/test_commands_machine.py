"""Commands in any order against a plain dict: same replies, same contents, also after a replay.

The model knows nothing of the server: values in a dict, deadlines in another, numbers as Python has
them. After every step the invariants of the server are checked; now and then the effects so far are
replayed into an empty keyspace, which must then hold the same.
"""

from __future__ import annotations

import re

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvserver.keyspace import Keyspace
from kvserver.store import Effect
from tests.kvserver.commands.support import Server

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
VALUES = st.sampled_from([b"", b"1", b"-7", b"41", b"text", b"\xff\x00", b"9223372036854775807"])
SMALL = st.integers(-6, 12)
OK, NULL = b"+OK\r\n", b"$-1\r\n"
NOT_AN_INTEGER = b"-ERR value is not an integer or out of range\r\n"


def bulk(value: bytes | None) -> bytes:
    return NULL if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def number(value: int) -> bytes:
    return b":%d\r\n" % value


class Commands(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.values: dict[bytes, bytes] = {}
        self.deadlines: dict[bytes, int] = {}
        self.history: list[Effect] = []

    # ------------------------------------------------------------------------------------- model

    def put(self, key: bytes, value: bytes, deadline_ms: int | None = None) -> None:
        self.values[key] = value
        self.deadlines.pop(key, None)
        if deadline_ms is not None:
            self.deadlines[key] = deadline_ms

    def drop(self, key: bytes) -> None:
        self.values.pop(key, None)
        self.deadlines.pop(key, None)

    @property
    def now_ms(self) -> int:
        return self.server.clock.now_ms

    # ------------------------------------------------------------------------------------- rules

    @rule(key=KEYS, value=VALUES)
    def set_(self, key: bytes, value: bytes) -> None:
        assert self.server("SET", key, value) == OK
        self.put(key, value)

    @rule(key=KEYS, value=VALUES, ttl_ms=st.integers(1, 3000), keep=st.booleans())
    def set_with_options(self, key: bytes, value: bytes, ttl_ms: int, keep: bool) -> None:
        old = self.values.get(key)
        if keep:
            assert self.server("SET", key, value, "KEEPTTL", "GET") == bulk(old)
            self.put(key, value, self.deadlines.get(key))
        else:
            assert self.server("SET", key, value, "PX", ttl_ms, "GET") == bulk(old)
            self.put(key, value, self.now_ms + ttl_ms)

    @rule(key=KEYS, value=VALUES, there=st.booleans())
    def set_if(self, key: bytes, value: bytes, there: bool) -> None:
        done = (key in self.values) == there
        assert self.server("SET", key, value, "XX" if there else "NX") == (OK if done else NULL)
        if done:
            self.put(key, value)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.server("GET", key) == bulk(self.values.get(key))

    @rule(key=KEYS)
    def getdel(self, key: bytes) -> None:
        assert self.server("GETDEL", key) == bulk(self.values.get(key))
        self.drop(key)

    @rule(key=KEYS, value=VALUES)
    def getset(self, key: bytes, value: bytes) -> None:
        assert self.server("GETSET", key, value) == bulk(self.values.get(key))
        self.put(key, value)

    @rule(pairs=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4), only_new=st.booleans())
    def mset(self, pairs: list[tuple[bytes, bytes]], only_new: bool) -> None:
        flat = [word for pair in pairs for word in pair]
        if only_new:
            done = not any(key in self.values for key, _ in pairs)
            assert self.server("MSETNX", *flat) == number(done)
        else:
            done = True
            assert self.server("MSET", *flat) == OK
        if done:
            for key, value in pairs:
                self.put(key, value)

    @rule(key=KEYS, by=st.integers(-5, 5) | st.just(2**63 - 1), down=st.booleans())
    def count(self, key: bytes, by: int, down: bool) -> None:
        reply = self.server("DECRBY" if down else "INCRBY", key, by)
        value = self.values.get(key, b"0")
        if not re.fullmatch(rb"0|-?[1-9][0-9]*", value) or not -(2**63) <= int(value) < 2**63:
            assert reply == NOT_AN_INTEGER
            return
        total = int(value) + (-by if down else by)
        if not -(2**63) <= total < 2**63:
            assert reply == b"-ERR increment or decrement would overflow\r\n"
            return
        assert reply == number(total)
        self.put(key, b"%d" % total, self.deadlines.get(key))

    @rule(key=KEYS, value=VALUES)
    def append(self, key: bytes, value: bytes) -> None:
        joined = self.values.get(key, b"") + value
        assert self.server("APPEND", key, value) == number(len(joined))
        self.put(key, joined, self.deadlines.get(key))

    @rule(key=KEYS, offset=st.integers(0, 8), piece=VALUES)
    def setrange(self, key: bytes, offset: int, piece: bytes) -> None:
        old = self.values.get(key)
        reply = self.server("SETRANGE", key, offset, piece)
        if not piece:
            assert reply == number(len(old or b""))
            return
        value = bytearray((old or b"").ljust(offset, b"\0"))
        value[offset : offset + len(piece)] = piece
        assert reply == number(len(value))
        self.put(key, bytes(value), self.deadlines.get(key))

    @rule(key=KEYS, start=SMALL, end=SMALL)
    def getrange(self, key: bytes, start: int, end: int) -> None:
        value = self.values.get(key, b"")
        size = len(value)
        first = max(0, start + size) if start < 0 else start
        last = end + size if end < 0 else end
        if start < 0 and end < 0 and start > end:
            expected = b""
        else:
            expected = value[first : max(0, last) + 1] if first <= max(0, last) else b""
        assert self.server("GETRANGE", key, start, end) == bulk(expected)

    @rule(key=KEYS, offset=st.integers(0, 70), bit=st.integers(0, 1))
    def setbit(self, key: bytes, offset: int, bit: int) -> None:
        value = bytearray(self.values.get(key, b"").ljust(offset // 8 + 1, b"\0"))
        mask = 0x80 >> offset % 8
        assert self.server("SETBIT", key, offset, bit) == number(bool(value[offset // 8] & mask))
        value[offset // 8] = value[offset // 8] | mask if bit else value[offset // 8] & ~mask
        self.put(key, bytes(value), self.deadlines.get(key))
        assert self.server("BITCOUNT", key) == number(
            sum(byte.bit_count() for byte in self.values[key])
        )

    @rule(some=st.lists(KEYS, min_size=1, max_size=3))
    def delete(self, some: list[bytes]) -> None:
        assert self.server("DEL", *some) == number(len(set(some) & self.values.keys()))
        for key in some:
            self.drop(key)

    @rule(source=KEYS, goal=KEYS, copy=st.booleans())
    def move(self, source: bytes, goal: bytes, copy: bool) -> None:
        reply = self.server(*(("COPY",) if copy else ("RENAME",)), source, goal,
                            *(("REPLACE",) if copy else ()))  # fmt: skip
        if copy and source == goal:
            assert reply == b"-ERR source and destination objects are the same\r\n"
        elif source not in self.values:
            assert reply == (number(0) if copy else b"-ERR no such key\r\n")
        else:
            assert reply == (number(1) if copy else OK)
            value, deadline_ms = self.values[source], self.deadlines.get(source)
            if not copy:
                self.drop(source)
            self.put(goal, value, deadline_ms)

    @rule(source=KEYS, goal=KEYS, ttl_ms=st.integers(-1, 3000), replace=st.booleans())
    def dump_and_restore(self, source: bytes, goal: bytes, ttl_ms: int, replace: bool) -> None:
        reply = self.server("DUMP", source)
        if source not in self.values:
            assert reply == NULL
            return
        payload = reply.partition(b"\r\n")[2][:-2]
        reply = self.server("RESTORE", goal, ttl_ms, payload, *(("REPLACE",) if replace else ()))
        if goal in self.values and not replace:
            assert reply == b"-BUSYKEY Target key name already exists.\r\n"
        elif ttl_ms < 0:
            assert reply == b"-ERR Invalid TTL value, must be >= 0\r\n"
        else:
            assert reply == OK
            self.put(goal, self.values[source], self.now_ms + ttl_ms if ttl_ms else None)

    @rule(
        key=KEYS,
        ttl_ms=st.integers(-5, 3000),
        condition=st.sampled_from(["", "NX", "XX", "GT", "LT"]),
    )
    def expire(self, key: bytes, ttl_ms: int, condition: str) -> None:
        old, new = self.deadlines.get(key), self.now_ms + ttl_ms
        done = (
            key in self.values
            and {
                "": True,
                "NX": old is None,
                "XX": old is not None,
                "GT": old is not None and new > old,
                "LT": old is None or new < old,
            }[condition]
        )
        assert self.server("PEXPIRE", key, ttl_ms, *([condition] if condition else [])) == number(
            done
        )
        if done and ttl_ms <= 0:
            self.drop(key)
        elif done:
            self.deadlines[key] = new

    @rule(key=KEYS)
    def persist(self, key: bytes) -> None:
        assert self.server("PERSIST", key) == number(self.deadlines.pop(key, None) is not None)

    @rule(key=KEYS)
    def times(self, key: bytes) -> None:
        if key not in self.values:
            left, moment = -2, -2
        elif key not in self.deadlines:
            left, moment = -1, -1
        else:
            moment = self.deadlines[key]
            left = moment - self.now_ms
        assert self.server("PTTL", key) == number(left)
        assert self.server("PEXPIRETIME", key) == number(moment)

    @rule(ms=st.sampled_from([1, 10, 500, 5000]))
    def time_passes(self, ms: int) -> None:
        self.server.advance(ms)
        for key in [key for key, moment in self.deadlines.items() if moment <= self.now_ms]:
            self.drop(key)

    @rule(ms=st.integers(1, 5000))
    def the_clock_jumps_back(self, ms: int) -> None:
        """No key may come back that was seen to be gone."""
        for key in self.values:
            self.server("EXISTS", key)
        self.server.keyspace.expire_due(100)
        self.server.advance(-ms)

    @rule()
    def look_at_all(self) -> None:
        listed = self.server("KEYS", "*").split(b"\r\n")[2::2]
        assert sorted(listed) == sorted(self.values)
        cursor, seen = b"0", set()
        while True:
            words = self.server("SCAN", cursor, "COUNT", 2).split(b"\r\n")
            cursor = words[2]
            seen.update(words[5::2])
            if cursor == b"0":
                break
        assert seen - {b""} == set(self.values)
        assert self.server("EXISTS", b"a", b"b", b"c", b"d") == number(len(self.values))

    @rule()
    def flush(self) -> None:
        assert self.server("FLUSHALL") == OK
        self.values.clear()
        self.deadlines.clear()

    @precondition(lambda self: self.history or self.server.keyspace.effects)
    @rule(dump=st.booleans())
    def replay(self, dump: bool) -> None:
        """What the journal would hold makes an equal keyspace."""
        self._note_effects()
        copy = Keyspace(self.server.clock)
        for effect in self.server.keyspace.dump() if dump else self.history:
            copy.apply(effect)
        copy.expire_due(100)
        copy.check()
        assert copy.data == self.values
        assert dict(copy.deadlines) == self.deadlines

    # -------------------------------------------------------------------------------- invariants

    def _note_effects(self) -> None:
        self.history += self.server.keyspace.effects
        self.server.keyspace.effects.clear()

    @invariant()
    def all_is_well(self) -> None:
        self.server.check()
        self._note_effects()
        for key, value in self.values.items():
            assert self.server.keyspace.peek(key) == value


TestCommands = Commands.TestCase
