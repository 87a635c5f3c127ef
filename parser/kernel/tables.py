"""The tables of words and kinds, found by hash and told apart by their bytes; numbers of keys.

The table of keys is in parser/kernel/keys.py.
"""

# ruff: noqa: PLR0917 - compiled functions take positional arguments only

from __future__ import annotations

from parser.kernel.keys import pair_slot
from parser.kernel.memory import (
    ARENA,
    ARENA_MAX,
    ARENA_USED,
    DONE,
    EVENT,
    EVENT_EXAMPLE,
    EVENT_EXAMPLE_SIZE,
    EVENT_FIRST,
    EVENT_KIND,
    EVENT_LAST,
    EVENT_OFFSET,
    GROUPS,
    GROW_ARENA,
    GROW_KEYS,
    GROW_KINDS,
    GROW_PAIRS,
    GROW_WORDS,
    KEY_BYTES,
    KEY_COUNT,
    KEY_MAX,
    KEYS,
    KIND_BYTES,
    KIND_COUNT,
    KIND_MASK,
    KIND_MAX,
    KIND_SLOTS,
    KINDS,
    LEVEL_MEMO,
    MOMENT,
    NUMBER_FIELDS,
    NUMBER_SET,
    NUMBER_VALUES,
    NUMBERS,
    PAIR_BYTES,
    PAIR_COUNT,
    PAIR_MAX,
    PAIRS,
    REJECTED,
    REJECTED_AT,
    REJECTED_MAX,
    SLOT_MASK,
    SLOTS,
    WORD_ARENA,
    WORD_ARENA_MAX,
    WORD_BYTES,
    WORD_COUNT,
    WORD_MASK,
    WORD_MAX,
    WORD_SLOTS,
    WORD_USED,
    WORDS,
)
from parser.kernel.ops import (
    LOW,
    MAX,
    MIN,
    MIX,
    add,
    compiled,
    ld8,
    ld16,
    ld32,
    ld64,
    mul,
    shl,
    shr,
    st32,
    st64,
)
from parser.kernel.scan import copy_bytes, hash_bytes, same_bytes

_ZEROS = 0x3030303030303030
_HIGH = -0x0F0F0F0F0F0F0F10
_SIX = 0x0606060606060606


@compiled
def intern_word(a: int, text: int, size: int) -> int:
    """The number of a level or a tag, from 1; 0 for none and for one that is too long."""
    if size <= 0 or size > 255:
        return 0
    code = hash_bytes(text, size, 1)
    slots, mask = ld64(a + WORD_SLOTS), ld64(a + WORD_MASK)
    words, arena = ld64(a + WORDS), ld64(a + WORD_ARENA)
    slot = code & mask
    while True:
        number = ld32(slots + (slot << 2))
        if number == 0:
            break
        word = words + (number - 1) * WORD_BYTES
        if (
            ld64(word) == code
            and ld32(word + 12) == size
            and same_bytes(arena + ld32(word + 8), text, size)
        ):
            return number
        slot = (slot + 1) & mask
    number = ld64(a + WORD_COUNT)
    used = ld64(a + WORD_USED)
    word = words + number * WORD_BYTES
    st64(word, code)
    st32(word + 8, used)
    st32(word + 12, size)
    copy_bytes(arena + used, text, size)
    st64(a + WORD_USED, used + size)
    st64(a + WORD_COUNT, number + 1)
    st32(slots + (slot << 2), number + 1)
    return number + 1


@compiled
def known_word(a: int, memo: int, text: int, size: int, there: int) -> int:
    """The number of a level or tag; short words that were just there are known at once."""
    if there < 0 or size <= 0:
        return 0
    if size > 8:
        return intern_word(a, text, size)
    word = ld64(text) & shr(-1, 64 - (size << 3))
    place = ld64(a + LEVEL_MEMO) + (memo << 8) + (shr(mul(word + size, MIX), 61) << 5)
    if ld64(place) != word or ld64(place + 8) != size:
        number = intern_word(a, text, size)
        st64(place, word)
        st64(place + 8, size)
        st64(place + 16, number)
    return ld64(place + 16)


@compiled
def find_kind(a: int, pattern: int, level: int, tag0: int, tag1: int, tag2: int) -> int:
    """The number of a kind, from 1; made when it is new."""
    head, tail = level | shl(tag0, 32), tag1 | shl(tag2, 32)
    code = mul(pattern ^ mul(head, MIX) ^ mul(tail, -MIX), MIX)
    slot = shr(code, 32) & ld64(a + KIND_MASK)
    slots, kinds = ld64(a + KIND_SLOTS), ld64(a + KINDS)
    while True:
        number = ld32(slots + (slot << 2))
        if number == 0:
            break
        kind = kinds + (number - 1) * KIND_BYTES
        if ld64(kind) == pattern and ld64(kind + 8) == head and ld64(kind + 16) == tail:
            return number
        slot = (slot + 1) & ld64(a + KIND_MASK)
    number = ld64(a + KIND_COUNT)
    kind = kinds + number * KIND_BYTES
    st64(kind, pattern)
    st64(kind + 8, head)
    st64(kind + 16, tail)
    st64(kind + 24, MAX)
    st64(kind + 32, MIN)
    st64(kind + 40, 0)
    st64(kind + 48, 0)
    st64(kind + 56, 0)
    st64(a + KIND_COUNT, number + 1)
    st32(slots + (slot << 2), number + 1)
    return number + 1


@compiled
def count_kind(
    a: int, number: int, first: int, last: int, offset: int, example: int, example_size: int
) -> None:
    """Count a matched event for its kind."""
    kind = ld64(a + KINDS) + (number - 1) * KIND_BYTES
    count = ld32(kind + 48)
    if count == 0:
        st32(kind + 40, offset)
        st32(kind + 44, offset)
        st32(kind + 56, example)
        st32(kind + 60, example_size)
    st32(kind + 48, count + 1)
    if first < ld64(kind + 24):
        st64(kind + 24, first)
        st32(kind + 40, offset)
    if last >= ld64(kind + 32):
        st64(kind + 32, last)
        st32(kind + 44, offset)


@compiled
def begin_event(a: int, number: int, kind: int, offset: int) -> None:
    """Make an event the current one."""
    moment = ld64(a + MOMENT)
    st64(a + EVENT, number)
    st64(a + EVENT_OFFSET, offset)
    st64(a + EVENT_FIRST, MAX if moment == MIN else moment)
    st64(a + EVENT_LAST, moment)
    st64(a + EVENT_KIND, kind)


@compiled
def count_event(a: int) -> None:
    """Count the current event for its kind; it has a key."""
    first, last = ld64(a + EVENT_FIRST), ld64(a + EVENT_LAST)
    example, size = ld64(a + EVENT_EXAMPLE), ld64(a + EVENT_EXAMPLE_SIZE)
    count_kind(a, ld64(a + EVENT_KIND), first, last, ld64(a + EVENT_OFFSET), example, size)


@compiled
def reject(a: int, offset: int, size: int) -> None:
    """Remember a line that could not be read, if there is room."""
    count = ld64(a + REJECTED)
    if count < ld64(a + REJECTED_MAX):
        place = ld64(a + REJECTED_AT) + (count << 4)
        st64(place, offset)
        st64(place + 8, size)
        st64(a + REJECTED, count + 1)


@compiled
def room_for(
    a: int, size: int, keys: int, lines: int, words: int, slices: int, middles: int
) -> int:
    """Whether everything that a window could add fits; otherwise which table to grow.

    A window of `size` bytes has at most so many keys and lines; a line has `words` levels and
    tags; `slices` times its size and `middles` bytes a key go to the arena.
    """
    if ld64(a + KEY_COUNT) + keys > ld64(a + KEY_MAX):
        return GROW_KEYS
    if ld64(a + KIND_COUNT) + lines > ld64(a + KIND_MAX):
        return GROW_KINDS
    if ld64(a + WORD_COUNT) + lines * words > ld64(a + WORD_MAX):
        return GROW_WORDS
    if ld64(a + WORD_USED) + words * size > ld64(a + WORD_ARENA_MAX):
        return GROW_WORDS
    if ld64(a + PAIR_COUNT) + keys > ld64(a + PAIR_MAX):
        return GROW_PAIRS
    if ld64(a + ARENA_USED) + slices * size + middles * keys > ld64(a + ARENA_MAX):
        return GROW_ARENA
    return DONE


@compiled
def add_numbers(a: int, index: int) -> None:
    """Add the current event's numbers to a key."""
    fields = ld64(a + NUMBER_FIELDS)
    held = ld64(a + NUMBERS) + index * fields * 32
    values = ld64(a + NUMBER_VALUES)
    there = ld64(a + NUMBER_SET)
    for at in range(fields):
        if shr(there, at) & 1:
            value = ld64(values + (at << 3))
            number = held + at * 32
            st64(number, ld64(number) + 1)
            total = ld64(number + 8)
            if value > 0 and total > MAX - value:
                total = MAX
            elif value < 0 and total < MIN - value:
                total = MIN
            else:
                total = add(total, value)
            st64(number + 8, total)
            st64(number + 16, min(ld64(number + 16), value))
            st64(number + 24, max(ld64(number + 24), value))


@compiled
def set_number(a: int, at: int, text: int, size: int) -> None:
    """Read a number field of the current event: at most eighteen digits, a fraction is cut."""
    there = ld64(a + NUMBER_SET) & ~shl(1, at)
    st64(a + NUMBER_SET, there)
    negative = 0
    if size > 0 and ld8(text) == 45:
        negative = 1
        text += 1
        size -= 1
    value = read_digits(text, size)
    if value < 0:
        value = read_digits(text, before_point(text, size))
        if value < 0:
            return
    if negative:
        value = -value
    st64(ld64(a + NUMBER_VALUES) + (at << 3), value)
    st64(a + NUMBER_SET, there | shl(1, at))


@compiled
def read_digits(text: int, size: int) -> int:
    """The number that one to eighteen digits are; -1 for anything else."""
    if size <= 0 or size > 18:
        return -1
    value = 0
    if size <= 8:
        # Eight digits at once, zeros before them.
        digits = shl(ld64(text), 64 - (size << 3))
        if size < 8:
            digits |= shr(_ZEROS, size << 3)
        if digits & _HIGH != _ZEROS or add(digits, _SIX) & _HIGH != _ZEROS:
            return -1
        value = shr(mul(digits & 0x0F0F0F0F0F0F0F0F, 2561), 8)
        value = shr(mul(value & 0x00FF00FF00FF00FF, 6553601), 16)
        return shr(mul(value & 0x0000FFFF0000FFFF, 42949672960001), 32)
    for place in range(size):
        digit = ld8(text + place) - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


@compiled
def before_point(text: int, size: int) -> int:
    """How many bytes stand before the point of a decimal fraction; 0 when it is none."""
    point = 0
    while point < size and ld8(text + point) != 46:
        point += 1
    if point + 1 >= size:
        return 0
    for place in range(point + 1, size):
        digit = ld8(text + place) - 48
        if digit < 0 or digit > 9:
            return 0
    return point


@compiled
def rebuild(a: int) -> int:
    """Fill the empty slots of grown tables from the records."""
    slots, mask = ld64(a + WORD_SLOTS), ld64(a + WORD_MASK)
    for number in range(ld64(a + WORD_COUNT)):
        slot = ld64(ld64(a + WORDS) + number * WORD_BYTES) & mask
        while ld32(slots + (slot << 2)) != 0:
            slot = (slot + 1) & mask
        st32(slots + (slot << 2), number + 1)
    slots, mask = ld64(a + KIND_SLOTS), ld64(a + KIND_MASK)
    for number in range(ld64(a + KIND_COUNT)):
        kind = ld64(a + KINDS) + number * KIND_BYTES
        code = mul(ld64(kind) ^ mul(ld64(kind + 8), MIX) ^ mul(ld64(kind + 16), -MIX), MIX)
        slot = shr(code, 32) & mask
        while ld32(slots + (slot << 2)) != 0:
            slot = (slot + 1) & mask
        st32(slots + (slot << 2), number + 1)
    slots, mask = ld64(a + SLOTS), ld64(a + SLOT_MASK)
    for index in range(ld64(a + KEY_COUNT)):
        key = ld64(a + KEYS) + index * KEY_BYTES
        code = hash_bytes(ld64(a + ARENA) + ld32(key), ld16(key + 4), ld16(key + 6))
        slot = (code ^ shr(code, 32)) & mask
        while ld64(slots + (slot << 3)) != 0:
            slot = (slot + 1) & mask
        st64(slots + (slot << 3), (code & ~LOW) | (index + 1))
    for number in range(ld64(a + PAIR_COUNT)):
        st32(pair_slot(a, ld64(ld64(a + PAIRS) + number * PAIR_BYTES)), number + 1)
    return ld64(a + GROUPS)
