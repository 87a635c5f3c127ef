"""The table of keys: noted first, then found by hash, told apart by their bytes, and counted."""

from __future__ import annotations

from parser.kernel.memory import (
    ARENA,
    ARENA_USED,
    EVENT,
    EVENT_FIRST,
    EVENT_KIND,
    EVENT_LAST,
    EVENT_OFFSET,
    INLINE_KINDS,
    INLINE_VALUE,
    KEY_BYTES,
    KEY_COUNT,
    KEYS,
    NOTED,
    NOTES,
    NOTES_COUNTED,
    NUMBER_FIELDS,
    NUMBERS,
    PAIR_BYTES,
    PAIR_COUNT,
    PAIR_MASK,
    PAIR_SLOTS,
    PAIRS,
    SLOT_MASK,
    SLOTS,
)
from parser.kernel.ops import (
    LOW,
    MAX,
    MIN,
    MIX,
    compiled,
    ctz,
    find_code,
    ld32,
    ld64,
    mul,
    prefetch,
    shl,
    shr,
    st32,
    st64,
)
from parser.kernel.scan import copy_bytes, hash_bytes, same_bytes

_ALL_KINDS = (1 << INLINE_KINDS) - 1


@compiled
def add_key(a: int, text: int, size: int, group: int) -> int:
    """Count the current event for a key, once. The key's index + 1 when it was not yet counted."""
    note = ld64(a + NOTES)
    _write_note(a, note, text, size, group)
    return _count_note(a, note)


@compiled
def note_key(a: int, text: int, size: int, group: int) -> None:
    """Count the current event for a key, once, when two further keys have been noted.

    The tables of keys are larger than the nearer caches. So a key's slot is fetched when the key
    is noted, and its record when the next one is; then both are there when it is counted.
    """
    noted, counted = ld64(a + NOTED), ld64(a + NOTES_COUNTED)
    note = _note(a, noted)
    _write_note(a, note, text, size, group)
    st64(a + NOTED, noted + 1)
    prefetch(_slot_of(a, note))
    if noted != counted:
        held = ld64(_slot_of(a, _note(a, noted - 1)))
        key = ld64(a + KEYS) + ((held & LOW) - 1) * KEY_BYTES
        prefetch(key)
        prefetch(key + 64)
    if noted - counted == 2:
        _count_note(a, _note(a, counted))
        st64(a + NOTES_COUNTED, counted + 1)


@compiled
def count_notes(a: int) -> None:
    """Count what is only noted yet; the text it was found in may go away."""
    for number in range(ld64(a + NOTES_COUNTED), ld64(a + NOTED)):
        _count_note(a, _note(a, number))
    st64(a + NOTED, 0)
    st64(a + NOTES_COUNTED, 0)


@compiled
def _note(a: int, number: int) -> int:
    return ld64(a + NOTES) + ((number & 3) << 6)


@compiled
def _slot_of(a: int, note: int) -> int:
    """Where a noted key is in the slots, if no other one is there."""
    code = ld64(note + 16)
    return ld64(a + SLOTS) + (((code ^ shr(code, 32)) & ld64(a + SLOT_MASK)) << 3)


@compiled
def _write_note(a: int, note: int, text: int, size: int, group: int) -> None:
    st64(note, text)
    st64(note + 8, shl(size | shl(group, 16), 32))
    st64(note + 16, hash_bytes(text, size, group))
    st64(note + 24, ld64(a + EVENT))
    st64(note + 32, ld64(a + EVENT_OFFSET))
    st64(note + 40, ld64(a + EVENT_FIRST))
    st64(note + 48, ld64(a + EVENT_LAST))
    st64(note + 56, ld64(a + EVENT_KIND))


@compiled
def _count_note(a: int, note: int) -> int:
    text, shape, code = ld64(note), ld64(note + 8), ld64(note + 16)
    event, offset = ld64(note + 24), ld64(note + 32)
    size = shr(shape, 32) & 0xFFFF
    slots, mask = ld64(a + SLOTS), ld64(a + SLOT_MASK)
    keys = ld64(a + KEYS)
    tag = code & ~LOW
    slot = (code ^ shr(code, 32)) & mask
    while True:
        held = ld64(slots + (slot << 3))
        if held == 0:
            key = _new_key(a, text, size, shape, offset)
            index = ld64(a + KEY_COUNT) - 1
            st64(slots + (slot << 3), tag | (index + 1))
            break
        if held & ~LOW == tag:
            index = (held & LOW) - 1
            key = keys + index * KEY_BYTES
            if ld64(key) & ~LOW == shape and _same_value(a, key, text, size):
                break
        slot = (slot + 1) & mask
    counted = ld64(key + 8)
    if shr(counted, 32) == event:
        return 0
    st64(key + 8, ((counted & LOW) + 1) | shl(event, 32))
    first, last = ld64(note + 40), ld64(note + 48)
    if first < ld64(key + 16):
        st64(key + 16, first)
        st32(key + 32, offset)
    if last >= ld64(key + 24):
        st64(key + 24, last)
        st32(key + 36, offset)
    _add_kind(a, key, index, ld64(note + 56))
    return index + 1


@compiled
def _same_value(a: int, key: int, text: int, size: int) -> bool:
    if size <= 8:
        return (ld64(key + 40) ^ ld64(text)) & shr(-1, 64 - (size << 3)) == 0
    if ld64(key + 40) != ld64(text):
        return False
    if size <= INLINE_VALUE:
        return same_bytes(key + 48, text + 8, size - 8)
    return same_bytes(ld64(a + ARENA) + ld32(key) + 8, text + 8, size - 8)


@compiled
def _new_key(a: int, text: int, size: int, shape: int, offset: int) -> int:
    index = ld64(a + KEY_COUNT)
    used = ld64(a + ARENA_USED)
    key = ld64(a + KEYS) + index * KEY_BYTES
    arena = ld64(a + ARENA) + used
    copy_bytes(arena, text, size)
    st64(key, used | shape)
    st64(key + 8, 0)
    st64(key + 16, MAX)
    st64(key + 24, MIN)
    st64(key + 32, offset | shl(offset, 32))
    st64(key + 40, ld64(arena))
    st64(key + 48, ld64(arena + 8))
    st64(key + 56, ld64(arena + 16))
    for at in range(64, KEY_BYTES, 8):
        st64(key + at, 0)
    fields = ld64(a + NUMBER_FIELDS)
    numbers = ld64(a + NUMBERS) + index * fields * 32
    for at in range(fields):
        number = numbers + at * 32
        st64(number, 0)
        st64(number + 8, 0)
        st64(number + 16, MAX)
        st64(number + 24, MIN)
    st64(a + ARENA_USED, used + size)
    st64(a + KEY_COUNT, index + 1)
    return key


@compiled
def _add_kind(a: int, key: int, index: int, kind: int) -> None:
    codes = key + 64
    held = find_code(codes, kind) & _ALL_KINDS
    free = find_code(codes, 0) & _ALL_KINDS
    found = held if held != 0 else free  # whether it is new is hard to foresee: no branch
    if found == 0:
        _add_pair(a, key, index, kind)
        return
    place = codes + (ctz(found) << 2)
    st32(place, kind)
    st32(place + 32, ld32(place + 32) + 1)


@compiled
def pair_slot(a: int, name: int) -> int:
    """Where a pair (kind and key as one word) is in the slots, or would be."""
    mask = ld64(a + PAIR_MASK)
    slots, pairs = ld64(a + PAIR_SLOTS), ld64(a + PAIRS)
    code = mul(name, MIX)
    slot = shr(code, 32) & mask
    while True:
        number = ld32(slots + (slot << 2))
        if number == 0 or ld64(pairs + (number - 1) * PAIR_BYTES) == name:
            return slots + (slot << 2)
        slot = (slot + 1) & mask


@compiled
def _add_pair(a: int, key: int, index: int, kind: int) -> None:
    name = kind | shl(index, 32)
    place = pair_slot(a, name)
    number = ld32(place)
    if number == 0:
        number = ld64(a + PAIR_COUNT) + 1
        pair = ld64(a + PAIRS) + (number - 1) * PAIR_BYTES
        st64(pair, name)
        st64(pair + 8, shl(ld32(key + 92), 32))
        st32(key + 92, number)
        st64(a + PAIR_COUNT, number)
        st32(place, number)
    pair = ld64(a + PAIRS) + (number - 1) * PAIR_BYTES
    st32(pair + 8, ld32(pair + 8) + 1)
