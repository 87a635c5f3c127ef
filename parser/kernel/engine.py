"""Runs a kernel over ranges and turns what it counted into a RangeSummary."""

from __future__ import annotations

import ctypes
import struct
import time
from array import array
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, tzinfo
from operator import itemgetter
from typing import Any, Final

import msgpack

from parser.extract import (
    MAX_LINE_BYTES,
    MAX_REJECTED,
    MAX_REJECTED_BYTES,
    PatternSeen,
    RangeSummary,
    Rejected,
)
from parser.format import Format
from parser.kernel import memory as at
from parser.kernel.codegen import generate
from parser.kernel.loader import jit_wanted, load
from parser.kernel.maps import CLEAN
from parser.kernel.memory import Memory, address_of
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
        memory.put("rejected", at.REJECTED_AT, bytes(16 * MAX_REJECTED))
        memory.put("number_values", at.NUMBER_VALUES, bytes(16 * 8))
        memory.put("clean", at.CLEAN_TABLE, CLEAN)
        memory.put("classes", at.CLASS_TABLE, _class_table())
        memory.put("groups", at.GROUPS, _texts([(g.prefix, g.suffix) for g in plan.groups]))
        memory.put("tag_names", at.TAG_NAMES, _names(fmt.tags))
        memory.put("number_names", at.NUMBER_NAMES, _names(fmt.numbers))
        clock = Clock(tz, time.time_ns() // 1_000_000 if year_hint_ms is None else year_hint_ms)
        zone = [*clock.local.since_ms, *clock.local.offsets_ms]
        memory.put("zone", at.ZONE, array("q", zone).tobytes())
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
        cut = _last_break(data, len(data) - TAIL_BYTES)
        end = len(data) - cut
        tail = bytearray(end + 1 + TAIL_BYTES)
        tail[:end] = data[cut:]
        if end and tail[end - 1] != 10:
            tail[end] = 10
            end += 1
        data = data if isinstance(data, bytes) or not data.readonly else bytes(data)
        with _registered(data, tail):
            self._read(_where(data) if cut else 0, cut, 0)
            self._read(address_of(tail), end, -cut)
        return self._result(data, source, offset)

    def _read(self, address: int, end: int, origin: int) -> None:
        """Read whole lines at an address, growing tables as needed."""
        memory = self.memory
        memory[at.BUF], memory[at.END], memory[at.AT] = address, end, 0
        memory[at.ORIGIN] = origin
        while end:
            with _registered(*memory.tables.values()):
                status = self._run(memory.address)
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
        memory.clear_slots()
        with _registered(*memory.tables.values()):
            self._rebuild(memory.address)

    # -------------------------------------------------------------------------------- the result

    def _result(self, data: bytes | memoryview, source: int, offset: int) -> RangeSummary:
        memory = self.memory
        patterns, ids = self._patterns(data, source, offset)
        memory.put("pattern_ids", at.PATTERN_IDS, array("Q", [0, *ids]).tobytes())
        room = max(memory[at.KIND_COUNT], memory[at.WORD_COUNT], len(ids)) + 16
        memory.put("tally", at.TALLY, bytes(24 * room))
        memory[at.TALLY_ROOM] = room
        while True:
            with _registered(*memory.tables.values()):
                status = self._pack(memory.address)
            if status == at.DONE:
                break
            memory.grow_out(2 * memory[at.OUT_MAX])
        keys = memory[at.KEY_COUNT]
        header: bytes = msgpack.Packer().pack_array_header(2 * keys)
        with memoryview(memory.tables["out"]) as out:
            packed = b"".join((header, out[: memory[at.OUT_USED]]))
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
        table = memory.tables["kinds"]
        kinds = _KIND.iter_unpack(table[: memory[at.KIND_COUNT] * at.KIND_BYTES])
        matched = [(at_kind, *kind) for at_kind, kind in enumerate(kinds) if kind[_COUNT]]
        # In the order of the lines that first matched, so that the first example is the one.
        matched.sort(key=itemgetter(1 + _EXAMPLE))
        patterns: dict[int, PatternSeen] = {}
        numbers: dict[int, int] = {}
        for kind, code, first_ms, last_ms, first_at, last_at, lines, place, size in matched:
            event, text = self._known.get(code) or self._pattern(code, data, place, size)
            number = numbers.setdefault(event, len(numbers) + 1)
            _NUMBER.pack_into(table, kind * at.KIND_BYTES + _NUMBER_AT, number)
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
        table = memory.tables["rejected"][: 16 * memory[at.REJECTED]]
        out = []
        for place, size in struct.iter_unpack("<qq", table):
            reason = f"does not have the form of {self.format.name}"
            if size > MAX_LINE_BYTES:
                reason = f"longer than {MAX_LINE_BYTES} bytes"
            text = bytes(data[place : place + min(size, MAX_REJECTED_BYTES)])
            out.append(Rejected(offset + place, text, reason))
        return out


_KIND: Final = struct.Struct("<Q16xqqIII4xII")
"""Of a kind: hash, first and last time, first and last offset, count, its example and its size.

See ``memory``; the word that is passed over behind the count is the number of its pattern."""
_COUNT, _EXAMPLE = 5, 6
_NUMBER: Final = struct.Struct("<I")
_NUMBER_AT: Final = 52


def _registered(*buffers: Any) -> AbstractContextManager[None]:
    """Let the plain twin of compiled code see these; see ``ops.registered``."""
    if jit_wanted():
        return nullcontext()
    import numpy as np

    from parser.kernel.ops import registered

    return registered(*(np.frombuffer(buffer, np.uint8) for buffer in buffers))


def _where(data: bytes | memoryview) -> int:
    """The address of data that stays where it is."""
    if isinstance(data, memoryview):
        return address_of(data)
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


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


def _class_table() -> bytearray:
    table = bytearray(256)
    for byte in b"0123456789abcdefABCDEF:":
        table[byte] |= at.HEX_OR_COLON
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_$"
    for byte in letters:
        table[byte] |= at.LETTER | at.WORD_BYTE | at.MAY_CONTINUE
    for byte in b"0123456789.":
        table[byte] |= at.WORD_BYTE
    for byte in b" \t.":
        table[byte] |= at.MAY_CONTINUE
    return table


def _texts(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Prefixes and suffixes of keys, 1 KiB each group; see packing.pack_keys."""
    return b"".join(
        struct.pack("<qq504s504s", len(prefix), len(suffix), prefix, suffix)
        for prefix, suffix in pairs or [(b"", b"")]
    )


def _names(names: tuple[str, ...]) -> bytes:
    """Names of tags or numbers, 64 bytes each."""
    texts = [name.encode()[:31] for name in names or ("",)]
    return b"".join(struct.pack("<q56s", len(text), text) for text in texts)


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
