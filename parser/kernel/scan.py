"""Bitmaps of text: which bytes are masked, and the steps from flag to flag.

`mask_blocks` is the rule of parser/patterns.py as operations on 64 bytes at a time.
"""

from __future__ import annotations

from parser.kernel.ops import add, clz, compiled, ctz, ld8, ld64, mul, shl, shr, st64
from parser.kernel.vectors import LANES, join_words, pair_words, path_words, token_words

# Bitmaps by number: three that are computed, then the classes of parser/patterns.py.
TOKEN, DIGITS_MASKED, MASKED, WORD, DOT, DIGIT, JOIN, HEX_LETTER, COLON, NEWLINE = range(10)
SLASH, EQUALS, PATH = range(10, 13)

_SEED = 0x2545F4914F6CDD1D
_MULTIPLY = -0x61C8864680B583EB
_VALUE = 0x1B873593CC9E2D51


@compiled
def next_set(bitmap: int, at: int, end: int) -> int:
    """The first position from `at` whose flag is set; `end` or more when there is none."""
    limb = at >> 6
    flags = shr(ld64(bitmap + (limb << 3)), at & 63)
    if flags != 0:
        return at + ctz(flags)
    limb += 1
    while (limb << 6) < end:
        flags = ld64(bitmap + (limb << 3))
        if flags != 0:
            return (limb << 6) + ctz(flags)
        limb += 1
    return end


@compiled
def next_clear(bitmap: int, at: int, end: int) -> int:
    """The first position from `at` whose flag is not set; at most `end`."""
    limb = at >> 6
    flags = shr(~ld64(bitmap + (limb << 3)), at & 63)
    if flags != 0:
        return min(at + ctz(flags), end)
    limb += 1
    while (limb << 6) < end:
        flags = ~ld64(bitmap + (limb << 3))
        if flags != 0:
            return min((limb << 6) + ctz(flags), end)
        limb += 1
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
def hash_masked(text: int, masked: int, start: int, end: int) -> int:
    """A hash of the message's pattern: equal for equal patterns."""
    result = _SEED
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
