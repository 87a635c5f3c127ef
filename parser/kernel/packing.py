"""Writes what was counted as msgpack: an array of key, delta, key, delta, and so on.

A delta has the form of parser/summary.py. Sizes are bounded before each key is written, so a full
output stops between two keys.
"""

# ruff: noqa: PLR0917 - compiled functions take positional arguments only

from __future__ import annotations

from parser.kernel.memory import (
    ARENA,
    BASE_OFFSET,
    DONE,
    GROUPS,
    GROW_OUT,
    INLINE_KINDS,
    KEY_BYTES,
    KEY_COUNT,
    KEYS,
    KIND_BYTES,
    KINDS,
    NUMBER_FIELDS,
    NUMBER_NAMES,
    NUMBERS,
    OUT,
    OUT_MAX,
    OUT_USED,
    PACKED,
    PAIR_BYTES,
    PAIRS,
    PATTERN_IDS,
    SOURCE,
    TAG_FIELDS,
    TAG_NAMES,
    TALLY,
    TALLY_ROOM,
    WORD_ARENA,
    WORD_BYTES,
    WORDS,
)
from parser.kernel.ops import bswap, compiled, ld8, ld16, ld32, ld64, shl, shr, st8, st32, st64
from parser.kernel.scan import copy_bytes

_NO_TIME = 2**63 - 1
_LONGEST_WORD = 255 + 5


@compiled
def _unsigned(out: int, value: int) -> int:
    """Write an unsigned integer of 64 bits; return where it ends."""
    if shr(value, 7) == 0:
        st8(out, value)
        return out + 1
    if shr(value, 8) == 0:
        st8(out, 0xCC)
        st8(out + 1, value)
        return out + 2
    if shr(value, 16) == 0:
        st8(out, 0xCD)
        st8(out + 1, shr(value, 8))
        st8(out + 2, value)
        return out + 3
    if shr(value, 32) == 0:
        st8(out, 0xCE)
        st32(out + 1, shr(bswap(value), 32))
        return out + 5
    st8(out, 0xCF)
    st64(out + 1, bswap(value))
    return out + 9


@compiled
def _signed(out: int, value: int) -> int:
    if value >= 0:
        return _unsigned(out, value)
    if value >= -32:
        st8(out, value)
        return out + 1
    st8(out, 0xD3)
    st64(out + 1, bswap(value))
    return out + 9


@compiled
def _header(out: int, small: int, wide: int, count: int) -> int:
    """Write the header of a map: 0x80 and 0xDE."""
    if count < 16:
        st8(out, small | count)
        return out + 1
    if count < 65536:
        st8(out, wide)
        st8(out + 1, shr(count, 8))
        st8(out + 2, count)
        return out + 3
    st8(out, wide + 1)
    st32(out + 1, shr(bswap(count), 32))
    return out + 5


@compiled
def _text(out: int, text: int, size: int) -> int:
    if size < 32:
        st8(out, 0xA0 | size)
        out += 1
    else:
        st8(out, 0xD9)
        st8(out + 1, size)
        out += 2
    copy_bytes(out, text, size)
    return out + size


@compiled
def _position(out: int, a: int, moment: int, offset: int) -> int:
    st8(out, 0x93)
    if moment == _NO_TIME:
        st8(out + 1, 0xC0)
        out += 2
    else:
        out = _signed(out + 1, moment)
    out = _unsigned(out, ld64(a + SOURCE))
    return _unsigned(out, ld64(a + BASE_OFFSET) + offset)


@compiled
def _kinds_of(a: int, key: int, into: int) -> int:
    """Write a key's kinds with their counts as words (kind u32, count u32); return how many."""
    count = 0
    while count < INLINE_KINDS:
        kind = ld32(key + 64 + (count << 2))
        if kind == 0:
            return count
        st64(into + (count << 3), kind | shl(ld32(key + 96 + (count << 2)), 32))
        count += 1
    number = ld32(key + 92)
    while number != 0:
        pair = ld64(a + PAIRS) + (number - 1) * PAIR_BYTES
        st64(into + (count << 3), ld32(pair) | shl(ld32(pair + 8), 32))
        number = ld32(pair + 12)
        count += 1
    return count


@compiled
def _sum_by(a: int, count: int, field: int, tally: int, sums: int, names: int) -> int:
    """Sum the counts by level, tag or pattern; list the names; return how many there are.

    `field` is where a kind's record has the name, a number that is not 0. `sums` is all zeros
    before, and whoever reads a sum sets it to zero again.
    """
    kinds = ld64(a + KINDS)
    used = 0
    for at in range(count):
        entry = ld64(tally + (at << 3))
        name = ld32(kinds + ((entry & 0xFFFFFFFF) - 1) * KIND_BYTES + field)
        if name != 0:
            place = sums + (name << 3)
            before = ld64(place)
            if before == 0:
                st32(names + (used << 2), name)
                used += 1
            st64(place, before + shr(entry, 32))
    return used


@compiled
def _word_counts(out: int, a: int, used: int, sums: int, names: int) -> int:
    """Write a map of words to their sums."""
    out = _header(out, 0x80, 0xDE, used)
    words, arena = ld64(a + WORDS), ld64(a + WORD_ARENA)
    for at in range(used):
        name = ld32(names + (at << 2))
        word = words + (name - 1) * WORD_BYTES
        out = _text(out, arena + ld32(word + 8), ld32(word + 12))
        out = _unsigned(out, ld64(sums + (name << 3)))
        st64(sums + (name << 3), 0)
    return out


@compiled
def _pattern_counts(out: int, a: int, used: int, sums: int, names: int) -> int:
    """Write a map of pattern ids to their sums."""
    out = _header(out, 0x80, 0xDE, used)
    ids = ld64(a + PATTERN_IDS)
    for at in range(used):
        name = ld32(names + (at << 2))
        out = _unsigned(out, ld64(ids + (name << 3)))
        out = _unsigned(out, ld64(sums + (name << 3)))
        st64(sums + (name << 3), 0)
    return out


@compiled
def _tags(out: int, a: int, count: int, tally: int, sums: int, names: int) -> tuple[int, int]:
    """Write the map of tags, if there are any; return (where it ends, how many fields)."""
    start = out
    written = 0
    out += 1
    for at in range(ld64(a + TAG_FIELDS)):
        used = _sum_by(a, count, 12 + (at << 2), tally, sums, names)
        if used:
            name = ld64(a + TAG_NAMES) + at * 64
            out = _text(out, name + 8, ld64(name))
            out = _word_counts(out, a, used, sums, names)
            written += 1
    st8(start, 0x80 | written)
    return out, written


@compiled
def _numbers(out: int, a: int, index: int) -> tuple[int, int]:
    """Write the map of numbers, if there are any; return (where it ends, how many fields)."""
    fields = ld64(a + NUMBER_FIELDS)
    held = ld64(a + NUMBERS) + index * fields * 32
    start = out
    written = 0
    out += 1
    for at in range(fields):
        number = held + at * 32
        if ld64(number) != 0:
            name = ld64(a + NUMBER_NAMES) + at * 64
            out = _text(out, name + 8, ld64(name))
            st8(out, 0x94)
            out = _unsigned(out + 1, ld64(number))
            out = _signed(out, ld64(number + 8))
            out = _signed(out, ld64(number + 16))
            out = _signed(out, ld64(number + 24))
            written += 1
    st8(start, 0x80 | written)
    return out, written


@compiled
def _delta(out: int, a: int, key: int, index: int, tally: int, sums: int, names: int) -> int:
    """Write one packed summary; return where it ends."""
    count = _kinds_of(a, key, tally)
    start = out
    out = _unsigned(out + 1, ld32(key + 8))
    first, last = ld64(key + 16), ld64(key + 24)
    out = _position(out, a, first, ld32(key + 32))
    out = _position(out, a, _NO_TIME if first == _NO_TIME else last, ld32(key + 36))
    used = _sum_by(a, count, 8, tally, sums, names)
    out = _word_counts(out, a, used, sums, names)
    used = _sum_by(a, count, 52, tally, sums, names)
    out = _pattern_counts(out, a, used, sums, names)
    parts = 5
    tags_end, tags = _tags(out, a, count, tally, sums, names)
    numbers_end, numbers = _numbers(tags_end, a, index)
    if numbers:
        out = numbers_end
        parts = 7
    elif tags:
        out = tags_end
        parts = 6
    st8(start, 0x90 | parts)
    return out


@compiled
def pack_keys(a: int) -> int:
    """Write all keys from the one that was not yet written."""
    out, limit = ld64(a + OUT), ld64(a + OUT_MAX)
    used = ld64(a + OUT_USED)
    tally = ld64(a + TALLY)
    room = ld64(a + TALLY_ROOM) << 3
    sums, names = tally + room, tally + 2 * room
    per_kind = 20 + _LONGEST_WORD * (1 + ld64(a + TAG_FIELDS))
    fixed = 1200 + (ld64(a + NUMBER_FIELDS) + ld64(a + TAG_FIELDS)) * 128
    index = ld64(a + PACKED)
    while index < ld64(a + KEY_COUNT):
        key = ld64(a + KEYS) + index * KEY_BYTES
        size = ld16(key + 4)
        group = ld64(a + GROUPS) + ld16(key + 6) * 1024
        kinds = _kinds_of(a, key, tally)
        if used + fixed + size + kinds * per_kind > limit:
            st64(a + PACKED, index)
            st64(a + OUT_USED, used)
            return GROW_OUT
        before, behind = ld64(group), ld64(group + 8)
        whole = before + size + behind
        place = out + used
        if whole < 256:
            st8(place, 0xC4)
            st8(place + 1, whole)
            place += 2
        else:
            st8(place, 0xC5)
            st8(place + 1, shr(whole, 8))
            st8(place + 2, whole)
            place += 3
        copy_bytes(place, group + 16, before)
        copy_bytes(place + before, ld64(a + ARENA) + ld32(key), size)
        copy_bytes(place + before + size, group + 520, behind)
        place += whole
        # Most deltas are shorter than 256 bytes; the others move to make room for their size.
        end = _delta(place + 2, a, key, index, tally, sums, names)
        length = end - place - 2
        if length < 256:
            st8(place, 0xC4)
            st8(place + 1, length)
        else:
            for back in range(1, length + 1):
                st8(end + 3 - back, ld8(end - back))
            st8(place, 0xC6)
            st32(place + 1, shr(bswap(length), 32))
            end += 3
        used = end - out
        index += 1
    st64(a + PACKED, index)
    st64(a + OUT_USED, used)
    return DONE
