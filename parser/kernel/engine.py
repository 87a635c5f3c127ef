"""Runs a kernel over ranges and turns what it counted into a RangeSummary."""

from __future__ import annotations

import time
from datetime import UTC, tzinfo
from typing import Any, Final

import msgpack
import numpy as np

from parser.extract import (
    MAX_LINE_BYTES,
    MAX_REJECTED,
    MAX_REJECTED_BYTES,
    PatternSeen,
    RangeSummary,
    Rejected,
)
from parser.formats import Format
from parser.kernel import lines as flags
from parser.kernel import memory as at
from parser.kernel.codegen import generate
from parser.kernel.loader import load
from parser.kernel.maps import CLEAN
from parser.kernel.memory import Memory
from parser.kernel.ops import registered
from parser.patterns import mask, pattern_id
from parser.summary import Position
from parser.times import Clock

__all__ = ["Kernel"]

TAIL_BYTES: Final = 256
"""The kernel may load so many bytes behind the lines it reads, so the last ones are copied."""

_PATTERN_MEMORY: Final = 100_000


class Kernel:
    """The compiled engine of one format; see parser.extract.Engine."""

    def __init__(
        self,
        fmt: Format,
        *,
        multiline: bool = False,
        tz: tzinfo = UTC,
        year_hint_ms: int | None = None,
    ) -> None:
        """Compile or load the kernel. Raises UnsupportedFormatError."""
        self.format = fmt
        plan = generate(fmt)
        self._run = load(plan.source)
        self._pack = load(_PACK)
        self._rebuild = load(_REBUILD)
        self.memory = Memory(
            maps=plan.maps, memos=plan.memos, fields=plan.fields, numbers=len(fmt.numbers)
        )
        memory = self.memory
        memory[at.JOINS] = int(multiline and fmt.joins)
        memory[at.NUMBER_FIELDS] = len(fmt.numbers)
        memory[at.TAG_FIELDS] = len(fmt.tags)
        memory[at.REJECTED_MAX] = MAX_REJECTED
        memory.put("rejected", at.REJECTED_AT, np.zeros(2 * MAX_REJECTED, np.int64))
        memory.put("number_values", at.NUMBER_VALUES, np.zeros(16, np.int64))
        memory.put("clean", at.CLEAN_TABLE, np.frombuffer(CLEAN, np.uint8))
        memory.put("classes", at.CLASS_TABLE, _class_table())
        memory.put("groups", at.GROUPS, _texts([(g.prefix, g.suffix) for g in plan.groups]))
        memory.put("tag_names", at.TAG_NAMES, _names(fmt.tags))
        memory.put("number_names", at.NUMBER_NAMES, _names(fmt.numbers))
        clock = Clock(tz, time.time_ns() // 1_000_000 if year_hint_ms is None else year_hint_ms)
        zone = [*clock.local.since_ms, *clock.local.offsets_ms]
        memory.put("zone", at.ZONE, np.array(zone, np.int64))
        memory[at.ZONE_COUNT] = len(clock.local.since_ms)
        memory[at.YEAR], memory[at.LIMIT_MS] = clock.year, clock.limit_ms
        self._known: dict[int, tuple[int, bytes]] = {}

    def summarize(self, data: bytes | memoryview, *, source: int, offset: int) -> RangeSummary:
        """Count the lines of a range; see parser.extract.Engine."""
        memory = self.memory
        memory.clear()
        memory[at.SOURCE] = _as_signed(source)
        memory[at.BASE_OFFSET] = offset
        memory[at.AT_START] = int(offset == 0)
        whole = np.frombuffer(data, np.uint8)
        cut = _last_break(data, len(data) - TAIL_BYTES)
        tail = np.zeros(len(data) - cut + 1 + TAIL_BYTES, np.uint8)
        tail[: len(data) - cut] = whole[cut:]
        end = len(data) - cut
        if end and tail[end - 1] != 10:
            tail[end] = 10
            end += 1
        with registered(whole, tail, memory.header):
            self._read(whole.ctypes.data if cut else 0, cut, 0)
            self._read(tail.ctypes.data, end, -cut)
        return self._result(data, source, offset)

    def _read(self, address: int, end: int, origin: int) -> None:
        """Read whole lines at an address, growing tables as needed."""
        memory = self.memory
        memory[at.BUF], memory[at.END], memory[at.AT] = address, end, 0
        memory[at.ORIGIN] = origin
        while end:
            with registered(*memory.arrays.values()):
                status = self._run(memory.header.ctypes.data)
            if status == at.DONE:
                return
            self._grow(status)

    def _grow(self, status: int) -> None:
        memory = self.memory
        if status == at.GROW_MAPS:
            memory.grow_maps(memory[at.WINDOW_NOW])
            return
        if status == at.GROW_ARENA:
            memory.grow_arena(2 * memory[at.ARENA_MAX])
            return
        if status == at.GROW_KEYS:
            memory.grow_keys(2 * memory[at.KEY_MAX])
        elif status == at.GROW_KINDS:
            memory.grow_kinds(2 * memory[at.KIND_MAX])
        elif status == at.GROW_WORDS:
            memory.grow_words(2 * memory[at.WORD_MAX], 2 * memory[at.WORD_ARENA_MAX])
        else:
            memory.grow_pairs(2 * memory[at.PAIR_MAX])
        for name in ("slots", "kind_slots", "word_slots", "pair_slots"):
            memory.arrays[name][:] = 0
        with registered(memory.header, *memory.arrays.values()):
            self._rebuild(memory.header.ctypes.data)

    # -------------------------------------------------------------------------------- the result

    def _result(self, data: bytes | memoryview, source: int, offset: int) -> RangeSummary:
        memory = self.memory
        patterns, ids = self._patterns(data, source, offset)
        memory.put("pattern_ids", at.PATTERN_IDS, np.array([0, *ids], np.uint64))
        room = max(memory[at.KIND_COUNT], memory[at.WORD_COUNT], len(ids)) + 16
        memory.put("tally", at.TALLY, np.zeros(3 * room, np.int64))
        memory[at.TALLY_ROOM] = room
        while True:
            with registered(memory.header, *memory.arrays.values()):
                status = self._pack(memory.header.ctypes.data)
            if status == at.DONE:
                break
            memory.grow_out(2 * memory[at.OUT_MAX])
        keys = memory[at.KEY_COUNT]
        header: bytes = msgpack.Packer().pack_array_header(2 * keys)
        packed = header + memory.arrays["out"][: memory[at.OUT_USED]].tobytes()
        matched = memory[at.MATCHED]
        return RangeSummary(
            memory[at.LINES],
            matched,
            memory[at.UNPARSED],
            memory[at.BLANK] + memory[at.EVENTS] - matched,
            memory[at.CONTINUED],
            keys,
            packed,
            patterns,
            self._rejected(data, offset),
        )

    def _patterns(
        self, data: bytes | memoryview, source: int, offset: int
    ) -> tuple[dict[int, PatternSeen], list[int]]:
        """Name the patterns of all kinds: by masking one message of each."""
        memory = self.memory
        count = memory[at.KIND_COUNT]
        kinds: Any = memory.arrays["kinds"][: count * at.KIND_BYTES].view(_KIND)
        matched = np.flatnonzero(kinds["count"])
        # In the order of the lines that first matched, so that the first example is the one.
        matched = matched[np.argsort(kinds["example"][matched], kind="stable")]
        columns = [kinds[name][matched].tolist() for name in _PATTERN_COLUMNS]
        patterns: dict[int, PatternSeen] = {}
        numbers: dict[int, int] = {}
        order: list[int] = []
        for code, lines, first_ms, last_ms, first_at, last_at, place, size in zip(
            *columns, strict=True
        ):
            event, text = self._known.get(code) or self._pattern(code, data, place, size)
            order.append(numbers.setdefault(event, len(numbers) + 1))
            timed = first_ms != at.NO_TIME_FIRST
            first: Position = first_ms if timed else None, source, offset + first_at
            last: Position = last_ms if timed else None, source, offset + last_at
            held = patterns.get(event)
            if held is None:
                example = bytes(data[place : place + size])
                patterns[event] = PatternSeen(text, lines, first, last, example)
                continue
            patterns[event] = PatternSeen(
                text,
                held.count + lines,
                min(held.first, first, key=_earlier),
                max(held.last, last, key=_later),
                held.example,
            )
        kinds["pattern"][matched] = order
        return patterns, list(numbers)

    def _pattern(
        self, code: int, data: bytes | memoryview, place: int, size: int
    ) -> tuple[int, bytes]:
        """Return a pattern's id and text, and remember them for its hash."""
        text = mask(bytes(data[place : place + size]))
        if len(self._known) >= _PATTERN_MEMORY:
            self._known.clear()
        known = self._known[code] = (pattern_id(text), text)
        return known

    def _rejected(self, data: bytes | memoryview, offset: int) -> list[Rejected]:
        memory = self.memory
        table = memory.arrays["rejected"].view(np.int64)
        out = []
        for index in range(memory[at.REJECTED]):
            place, size = int(table[2 * index]), int(table[2 * index + 1])
            reason = f"does not have the form of {self.format.name}"
            if size > MAX_LINE_BYTES:
                reason = f"longer than {MAX_LINE_BYTES} bytes"
            text = bytes(data[place : place + min(size, MAX_REJECTED_BYTES)])
            out.append(Rejected(offset + place, text, reason))
        return out


_KIND: Final = np.dtype(
    [
        ("hash", "<u8"), ("level", "<u4"), ("tag0", "<u4"), ("tag1", "<u4"), ("tag2", "<u4"),
        ("first_ms", "<i8"), ("last_ms", "<i8"), ("first", "<u4"), ("last", "<u4"),
        ("count", "<u4"), ("pattern", "<u4"), ("example", "<u4"), ("example_size", "<u4"),
    ]
)  # fmt: skip
_PATTERN_COLUMNS: Final = (
    "hash", "count", "first_ms", "last_ms", "first", "last", "example", "example_size",
)  # fmt: skip


def _earlier(position: Position) -> tuple[bool, int, int, int]:
    return position[0] is None, position[0] or 0, position[1], position[2]


def _later(position: Position) -> tuple[bool, int, int, int]:
    return position[0] is not None, position[0] or 0, position[1], position[2]


def _as_signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _last_break(data: bytes | memoryview, end: int) -> int:
    """The end of the last line that ends before `end`; 0 when there is none."""
    step = 1 << 16
    while end > 0:
        start = max(0, end - step)
        found = bytes(data[start:end]).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end, step = start, 2 * step
    return 0


def _class_table() -> Any:
    table = np.zeros(256, np.uint8)
    for byte in b"0123456789abcdefABCDEF:":
        table[byte] |= flags.HEX_OR_COLON
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_$"
    for byte in letters:
        table[byte] |= flags.LETTER | flags.WORD_BYTE | flags.MAY_CONTINUE
    for byte in b"0123456789.":
        table[byte] |= flags.WORD_BYTE
    for byte in b" \t.":
        table[byte] |= flags.MAY_CONTINUE
    return table


def _texts(pairs: list[tuple[bytes, bytes]]) -> Any:
    """Prefixes and suffixes of keys, 1 KiB each group; see packing.pack_keys."""
    table = np.zeros((max(len(pairs), 1), 1024), np.uint8)
    for row, (prefix, suffix) in zip(table, pairs, strict=False):
        row[:16].view(np.int64)[:] = len(prefix), len(suffix)
        row[16 : 16 + len(prefix)] = np.frombuffer(prefix, np.uint8)
        row[520 : 520 + len(suffix)] = np.frombuffer(suffix, np.uint8)
    return table


def _names(names: tuple[str, ...]) -> Any:
    """Names of tags or numbers, 64 bytes each."""
    table = np.zeros((max(len(names), 1), 64), np.uint8)
    for row, name in zip(table, names, strict=False):
        text = name.encode()[:31]
        row[:8].view(np.int64)[0] = len(text)
        row[8 : 8 + len(text)] = np.frombuffer(text, np.uint8)
    return table


_PACK: Final = '''"""Generated: packs what any kernel counted."""

import numba

from parser.kernel.packing import pack_keys


@numba.njit("int64(int64)", nogil=True, error_model="numpy", cache=CACHE, no_cfunc_wrapper=True)
def run(a):
    return pack_keys(a)
'''
_REBUILD: Final = '''"""Generated: fills the slots of grown tables."""

import numba

from parser.kernel.tables import rebuild


@numba.njit("int64(int64)", nogil=True, error_model="numpy", cache=CACHE, no_cfunc_wrapper=True)
def run(a):
    return rebuild(a)
'''
