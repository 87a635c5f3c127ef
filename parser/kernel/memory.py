"""Where the compiled code keeps what it knows: one header of 64-bit words, and tables it points to.

The header is the only argument of a kernel. Offsets are in bytes. The tables are anonymous mappings
owned by `Memory`: zero until touched, and nothing to import for them; they only grow. Before each
window of text the kernel checks that whatever the window could add will fit, and otherwise returns
which table to grow; so nothing inside a line can fail.

Records, as little-endian words at byte offsets:

key     0 arena offset u32, 4 value bytes u16, 6 group u16      8 count u32, 12 last event u32
        16 first ms, 24 last ms, 32 first offset u32, 36 last offset u32
        40 the first 24 bytes of the value
        64 seven kinds u32, 92 first pair u32, 96 seven counts u32 (for the kinds)
kind    0 pattern hash, 8 level u32, 12 tag 0 u32, 16 tag 1 u32, 20 tag 2 u32
        24 first ms, 32 last ms, 40 first offset u32, 44 last offset u32, 48 count u32,
        52 pattern u32 (set before packing), 56 example offset u32, 60 example bytes u32
word    0 hash, 8 arena offset u32, 12 bytes u32
pair    0 kind u32, 4 key u32, 8 count u32, 12 next pair of the key u32 (index + 1)
note    0 address of a key's value, 12 value bytes u16, 14 group u16, 16 hash
        24 event, 32 its offset, 40 first ms, 48 last ms, 56 kind

A *kind* is a different combination of pattern, level and tags: what a line adds to its keys. A key
counts kinds: the first seven in its record, further ones as pairs.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

from parser.patterns import MAX_MESSAGE_BYTES

__all__ = ["Memory", "address_of"]

# The header, word by word.
(
    BUF, END, AT, ORIGIN, EVENT, EVENT_OFFSET, EVENT_FIRST, EVENT_LAST, EVENT_KIND, EVENT_FOUND,
    LINES, MATCHED, UNPARSED, BLANK, CONTINUED, EVENTS,
    REJECTED, REJECTED_AT, REJECTED_MAX, JOINS, AT_START,
    MAPS, MAPS_STRIDE, SCRATCH, SCRATCH_MAPS,
    SLOTS, SLOT_MASK, KEYS, KEY_COUNT, KEY_MAX, ARENA, ARENA_USED, ARENA_MAX,
    KIND_SLOTS, KIND_MASK, KINDS, KIND_COUNT, KIND_MAX,
    WORD_SLOTS, WORD_MASK, WORDS, WORD_COUNT, WORD_MAX, WORD_ARENA, WORD_USED, WORD_ARENA_MAX,
    PAIR_SLOTS, PAIR_MASK, PAIRS, PAIR_COUNT, PAIR_MAX,
    NUMBERS, NUMBER_FIELDS, NUMBER_VALUES, NUMBER_SET,
    ZONE, ZONE_COUNT, YEAR, LIMIT_MS, MEMO, CLEAN_TABLE, CLASS_TABLE,
    SOURCE, BASE_OFFSET, GROUPS, TAG_FIELDS, TAG_NAMES, NUMBER_NAMES, PATTERN_IDS,
    OUT, OUT_USED, OUT_MAX, PACKED, TALLY, TALLY_ROOM, LEVEL_MEMO,
    EVENT_EXAMPLE, EVENT_EXAMPLE_SIZE, WINDOW_NOW,
    MOMENT, FIELDS, PATTERN, NOTES, NOTED, NOTES_COUNTED, HEADER_WORDS,
) = (8 * at for at in range(86))  # fmt: skip

KEY_BYTES: Final = 128
KIND_BYTES: Final = 64
WORD_BYTES: Final = 16
PAIR_BYTES: Final = 16
NOTE_BYTES: Final = 64
INLINE_KINDS: Final = 7
INLINE_VALUE: Final = 24

DONE, GROW_KEYS, GROW_KINDS, GROW_WORDS, GROW_PAIRS, GROW_ARENA, GROW_MAPS, GROW_OUT = range(8)

WINDOW: Final = 8192
"""Bytes of text whose bitmaps are made at once: they stay in the first cache."""

SCRATCH_BYTES: Final = 1 << 17
MAP_SPARE: Final = 12
"""Words of a bitmap that stay free for steps of eight words, and one that stays zero."""

SCRATCH_STRIDE: Final = (MAX_MESSAGE_BYTES // 64 + MAP_SPARE) * 8
MEMO_BYTES: Final = 128
HEX_OR_COLON, WORD_BYTE, LETTER, MAY_CONTINUE = 1, 2, 4, 8
"""Flags in the table of byte classes."""

NO_TIME_FIRST: Final = 2**63 - 1
NO_TIME_LAST: Final = -(2**63)


_HEADER: Final = "header"


def address_of(writable: mmap.mmap | bytearray | memoryview) -> int:
    """Where a writable buffer lies."""
    return ctypes.addressof(ctypes.c_char.from_buffer(writable))


def _zero(table: mmap.mmap) -> None:
    ctypes.memset(address_of(table), 0, len(table))


class Memory:
    """The tables of one kernel in one process."""

    def __init__(self, *, maps: int, memos: int, fields: int, numbers: int) -> None:
        """Make tables for so many bitmaps, remembered times, fields and numbers."""
        self.maps_count = maps
        self.numbers = numbers
        self.tables: dict[str, mmap.mmap] = {_HEADER: mmap.mmap(-1, HEADER_WORDS)}
        self.address = address_of(self.tables[_HEADER])
        """Where the header lies."""
        self._header = memoryview(self.tables[_HEADER]).cast("q")
        self._put("scratch", SCRATCH, SCRATCH_BYTES)
        self._put("scratch_maps", SCRATCH_MAPS, maps * SCRATCH_STRIDE + 64)
        self[SCRATCH_MAPS] += 64
        self._put("pattern", PATTERN, MAX_MESSAGE_BYTES)
        self._put("notes", NOTES, 4 * NOTE_BYTES)
        self._put("memo", MEMO, max(memos, 1) * MEMO_BYTES)
        self._put("level_memo", LEVEL_MEMO, 4 * 256)
        self._put("tally", TALLY, 64)
        self._put("fields", FIELDS, 16 * fields)
        self.grow_maps(WINDOW)
        self.grow_keys(1 << 14)
        self.grow_kinds(1 << 13)
        self.grow_words(1 << 13, 1 << 16)
        self.grow_pairs(1 << 13)
        self.grow_arena(1 << 19)
        self.grow_out(1 << 20)

    def __getitem__(self, word: int) -> int:
        return self._header[word // 8]

    def __setitem__(self, word: int, value: int) -> None:
        self._header[word // 8] = value

    def _put(self, name: str, word: int, size: int, keep: int = 0) -> None:
        """Allocate a table, keeping its first bytes, with 64 bytes behind it for wide loads."""
        table = mmap.mmap(-1, size + 64)
        if keep:
            table[:keep] = self.tables[name][:keep]
        self.tables[name] = table
        self[word] = address_of(table)

    def put(self, name: str, word: int, data: bytes | bytearray) -> None:
        """Use a copy of these bytes as a table."""
        self._put(name, word, len(data))
        self.tables[name][: len(data)] = data

    def grow_maps(self, window: int) -> None:
        """Make bitmaps of a window of so many bytes possible."""
        # An odd number of cache lines, so that the bitmaps do not fall on each other.
        stride = ((window // 64 + MAP_SPARE) * 8 + 127) // 128 * 128 + 64
        self._put("maps", MAPS, self.maps_count * stride + 64)
        self[MAPS] += 64  # the word before the first bitmap is zero, too
        self[MAPS_STRIDE] = stride

    def grow_keys(self, count: int) -> None:
        """Make room for so many keys (a power of two); the slots are empty afterwards."""
        held = self[KEY_COUNT]
        self._put("keys", KEYS, count * KEY_BYTES, held * KEY_BYTES)
        self._put("numbers", NUMBERS, count * self.numbers * 32, held * self.numbers * 32)
        self._put("slots", SLOTS, count * 2 * 8)
        self[KEY_MAX], self[SLOT_MASK] = count, count * 2 - 1

    def grow_arena(self, size: int) -> None:
        """Make room for the bytes of keys."""
        self._put("arena", ARENA, size, self[ARENA_USED])
        self[ARENA_MAX] = size

    def grow_kinds(self, count: int) -> None:
        """Make room for so many kinds; the slots are empty afterwards."""
        self._put("kinds", KINDS, count * KIND_BYTES, self[KIND_COUNT] * KIND_BYTES)
        self._put("kind_slots", KIND_SLOTS, count * 2 * 4)
        self[KIND_MAX], self[KIND_MASK] = count, count * 2 - 1

    def grow_words(self, count: int, size: int) -> None:
        """Make room for so many levels and tags of so many bytes; the slots are empty then."""
        self._put("words", WORDS, count * WORD_BYTES, self[WORD_COUNT] * WORD_BYTES)
        self._put("word_arena", WORD_ARENA, size, self[WORD_USED])
        self._put("word_slots", WORD_SLOTS, count * 2 * 4)
        self[WORD_MAX], self[WORD_MASK], self[WORD_ARENA_MAX] = count, count * 2 - 1, size

    def grow_pairs(self, count: int) -> None:
        """Make room for so many pairs; the slots are empty afterwards."""
        self._put("pairs", PAIRS, count * PAIR_BYTES, self[PAIR_COUNT] * PAIR_BYTES)
        self._put("pair_slots", PAIR_SLOTS, count * 2 * 4)
        self[PAIR_MAX], self[PAIR_MASK] = count, count * 2 - 1

    def grow_out(self, size: int) -> None:
        """Make room for the packed result."""
        self._put("out", OUT, size, self[OUT_USED])
        self[OUT_MAX] = size

    def clear_slots(self) -> None:
        """Empty the slots of all tables."""
        for name in ("slots", "kind_slots", "word_slots", "pair_slots"):
            _zero(self.tables[name])

    def clear(self) -> None:
        """Forget everything counted; tables keep their size."""
        self.clear_slots()
        _zero(self.tables["level_memo"])
        for word in (
            EVENT, EVENT_OFFSET, EVENT_FIRST, EVENT_LAST, EVENT_KIND, EVENT_FOUND, LINES, MATCHED,
            UNPARSED, BLANK, CONTINUED, EVENTS, REJECTED, KEY_COUNT, ARENA_USED, KIND_COUNT,
            WORD_COUNT, WORD_USED, PAIR_COUNT, OUT_USED, PACKED, NUMBER_SET, EVENT_EXAMPLE,
            EVENT_EXAMPLE_SIZE,
        ):  # fmt: skip
            self[word] = 0
        self[WINDOW_NOW] = WINDOW
