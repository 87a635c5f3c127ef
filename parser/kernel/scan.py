"""Bitmaps of text: which bytes are masked, and the steps from flag to flag.

`mask_blocks` is the rule of parser/patterns.py as operations on 64 bytes at a time.
"""

from __future__ import annotations

from parser.kernel.blocks import PACKS, keep_bytes
from parser.kernel.ops import (
    add,
    clz,
    compiled,
    ctz,
    fold,
    inlined,
    ld8,
    ld64,
    mul,
    popcount,
    shl,
    shr,
    st64,
)
from parser.kernel.vectors import LANES, join_words, pair_words, path_words, token_words

# Bitmaps by number: three that are computed, then the classes of parser/patterns.py.
TOKEN, DIGITS_MASKED, MASKED, WORD, DOT, DIGIT, JOIN, HEX_LETTER, COLON, NEWLINE = range(10)
SLASH, EQUALS, PATH = range(10, 13)

_MULTIPLY = -0x61C8864680B583EB
_VALUE = 0x1B873593CC9E2D51
_K0, _K1, _K2, _K3, _K4, _K5, _K6, _K7, _K8, _K9 = (
    0x48DBAC252265B1F5, 0x66B09F18D8F16ADF, 0x0813E268C386BBC5,
    0x0F17F5C4414C343D, 0x616737A27ED4D57B, 0x3C7288307311D8A3,
    0x30973B4BA6CECC1B, 0x1ADFCC96C9E9C617, 0x3E72164118072E8D,
    0x725836730741C7A9,
)  # fmt: skip
"""Odd numbers drawn once; each place of a pattern has one of its own."""


@inlined
def next_set(bitmap: int, at: int, end: int) -> int:
    """The first position from `at` whose flag is set; `end` or more when there is none."""
    flags = shr(ld64(bitmap + (at >> 3)), at & 7)
    if flags != 0:
        return at + ctz(flags)
    return _far_set(bitmap, (at & -8) + 64, end)


@compiled
def _far_set(bitmap: int, at: int, end: int) -> int:
    while at < end:
        flags = ld64(bitmap + (at >> 3))
        if flags != 0:
            return at + ctz(flags)
        at += 64
    return end


@inlined
def next_clear(bitmap: int, at: int, end: int) -> int:
    """The first position from `at` whose flag is not set; at most `end`."""
    flags = shr(~ld64(bitmap + (at >> 3)), at & 7)
    if flags != 0:
        return min(at + ctz(flags), end)
    return _far_clear(bitmap, (at & -8) + 64, end)


@compiled
def _far_clear(bitmap: int, at: int, end: int) -> int:
    while at < end:
        flags = ~ld64(bitmap + (at >> 3))
        if flags != 0:
            return min(at + ctz(flags), end)
        at += 64
    return end


@compiled
def start_flags(first: int, inside: int, into: int, blocks: int) -> None:
    """Flags of `first` where the byte before is not `inside`."""
    before = 0
    for at in range(blocks):
        place = at << 3
        held = ld64(inside + place)
        st64(into + place, ld64(first + place) & ~(shl(held, 1) | before))
        before = shr(held, 63)


@compiled
def mask_blocks(maps: int, stride: int, blocks: int) -> None:
    """Make the bitmap MASKED from the classes. Text before and behind counts as delimiters."""
    token, value, masked = maps, maps + stride, maps + 2 * stride
    word, dot, digit = maps + 3 * stride, maps + 4 * stride, maps + 5 * stride
    join, letter, colon = maps + 6 * stride, maps + 7 * stride, maps + 8 * stride
    slash, equals, path = maps + 10 * stride, maps + 11 * stride, maps + 12 * stride
    whole = (blocks + LANES - 1) // LANES * LANES
    for at in range(blocks, whole + 1):
        place = at << 3
        st64(word + place, 0)
        st64(dot + place, 0)
        st64(digit + place, 0)
        st64(join + place, 0)
        st64(letter + place, 0)
        st64(colon + place, 0)
        st64(slash + place, 0)
        st64(equals + place, 0)
        st64(path + place, 0)
    st64(token + (whole << 3), 0)
    st64(value + (whole << 3), 0)
    for at in range(0, whole, LANES):
        place = at << 3
        token_words(word + place, dot + place, digit + place, token + place, value + place)
        path_words(
            word + place, dot + place, path + place, slash + place, equals + place, masked + place
        )
    # Tokens and paths that go on in the next word: masked in one of them is masked in both.
    tokens, values = ld64(token), ld64(value)
    held = ld64(masked)
    for at in range(1, blocks):
        place = at << 3
        goes_on = held < 0
        held = ld64(masked + place)
        if goes_on:
            inside = ld64(word + place) | ld64(dot + place) | ld64(path + place)
            held |= inside & ~add(inside, 1)
            st64(masked + place, held)
        spans = shr(tokens & values, 63)
        tokens = ld64(token + place)
        values = ld64(value + place) | (tokens & ~add(tokens, 1) & -spans)
        st64(value + place, values)
    for back in range(1, blocks):
        place = (blocks - 1 - back) << 3
        spans = tokens & values & 1
        tokens = ld64(token + place)
        highest = -1 if tokens == -1 else ~shr(-1, clz(~tokens))
        values = ld64(value + place) | (highest & -spans)
        st64(value + place, values)
    for at in range(0, whole, LANES):
        place = at << 3
        pair_words(
            token + place,
            value + place,
            masked + place,
            letter + place,
            colon + place,
            value + place,
        )
    for at in range(0, whole, LANES):
        place = at << 3
        join_words(token + place, value + place, join + place, masked + place)


@compiled
def hash_packed(text: int, masked: int, start: int, end: int, into: int) -> int:
    """A hash of the message's pattern: equal for equal patterns.

    The pattern is written to `into`, with a line break, which no message holds, for each value;
    there is no branch for how many values there are and how long.
    """
    size = before = 0
    at = start
    while True:
        left = end - at
        within = -1 if left >= 64 else ~shl(-1, left)
        place, shift = masked + (at >> 3), at & 7
        values = shr(ld64(place), shift) | shl(shl(ld8(place + 8), 63 - shift), 1)
        breaks = values & ~(shl(values, 1) | before)
        kept = within & (~values | breaks)
        keep_bytes(text + at, breaks, kept, into + size)
        size += popcount(kept)
        before = shr(values, 63)
        at += 64
        if at >= end:
            break
    keep_bytes(text, 0, 0, into + size)  # zeros up to a whole block
    result = size
    for place in range(into, into + size, 64):
        a = fold(ld64(place) ^ _K0, ld64(place + 8) ^ _K1)
        b = fold(ld64(place + 16) ^ _K2, ld64(place + 24) ^ _K3)
        c = fold(ld64(place + 32) ^ _K4, ld64(place + 40) ^ _K5)
        d = fold(ld64(place + 48) ^ _K6, ld64(place + 56) ^ _K7)
        result = fold(result ^ a ^ b ^ _K8, c ^ d ^ _K9)
    return result


@compiled
def hash_pieces(text: int, masked: int, start: int, end: int, into: int) -> int:  # noqa: ARG001 - as hash_packed
    """A hash of the message's pattern, from the text between two values at a time."""
    result = _K0
    at = start
    while True:
        stop = min(next_set(masked, at, end), end)
        size = stop - at
        place = text + at
        left = size
        while left > 16:
            result = mul(result ^ ld64(place), _MULTIPLY)
            result ^= shr(result, 29)
            place += 8
            left -= 8
        # Up to sixteen bytes without a branch, because the length of the next text is unknown.
        head = -1 if left >= 8 else ~shl(-1, left << 3)
        rest = left - 8
        tail = 0 if rest <= 0 else (-1 if rest >= 8 else ~shl(-1, rest << 3))
        result = mul(result ^ (ld64(place) & head), _MULTIPLY)
        result ^= shr(result, 29)
        result = mul((result ^ (ld64(place + 8) & tail)) + mul(size, _VALUE), _MULTIPLY)
        result ^= shr(result, 32)
        if stop >= end:
            return result
        at = next_clear(masked, stop, end)


hash_masked = hash_packed if PACKS else hash_pieces


@compiled
def hash_bytes(text: int, size: int, seed: int) -> int:
    """A hash of at least one byte."""
    result = mul(seed + size, _VALUE)
    while size > 8:
        result = mul(result ^ ld64(text), _MULTIPLY)
        result ^= shr(result, 29)
        text += 8
        size -= 8
    result = mul(result ^ (ld64(text) & shr(-1, 64 - (size << 3))), _MULTIPLY)
    result ^= shr(result, 32)
    result = mul(result, _VALUE)
    return result ^ shr(result, 29)


@compiled
def same_bytes(a: int, b: int, size: int) -> bool:
    """Whether so many bytes (at least one) are the same."""
    while size > 8:
        if ld64(a) != ld64(b):
            return False
        a += 8
        b += 8
        size -= 8
    return (ld64(a) ^ ld64(b)) & shr(-1, 64 - (size << 3)) == 0


@compiled
def copy_bytes(into: int, source: int, size: int) -> None:
    """Copy; writes up to seven bytes more."""
    at = 0
    while at < size:
        st64(into + at, ld64(source + at))
        at += 8


@compiled
def in_class(table: int, text: int) -> bool:
    """Whether the byte is in the class of a table of 256 bytes."""
    return ld8(table + ld8(text)) != 0
