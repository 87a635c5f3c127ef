"""Bitmaps of text: which bytes are masked, and the steps from flag to flag.

`mask_blocks` is the rule of parser/patterns.py as operations on 64 bytes at a time.
"""

from __future__ import annotations

from parser.kernel.ops import add, compiled, ctz, ld8, ld64, mul, shl, shr, st64, ult

# Bitmaps by number: three that are computed, then the classes of parser/patterns.py.
TOKEN, DIGITS_MASKED, MASKED, WORD, DOT, DIGIT, JOIN, HEX_LETTER, COLON, NEWLINE = range(10)

_SEED = 0x2545F4914F6CDD1D
_MULTIPLY = -0x61C8864680B583EB
_VALUE = 0x1B873593CC9E2D51


@compiled
def next_set(bitmap, at, end):
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
def next_clear(bitmap, at, end):
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
def start_flags(first, inside, into, blocks):
    """Flags of `first` where the byte before is not `inside`."""
    before = 0
    for at in range(blocks):
        place = at << 3
        held = ld64(inside + place)
        st64(into + place, ld64(first + place) & ~(shl(held, 1) | before))
        before = shr(held, 63)


@compiled
def mask_blocks(maps, stride, blocks):
    """Make the bitmap MASKED from the classes. Text before and behind counts as delimiters."""
    token, first, masked = maps, maps + stride, maps + 2 * stride
    word, dot, digit = maps + 3 * stride, maps + 4 * stride, maps + 5 * stride
    joins, letters, colons = maps + 6 * stride, maps + 7 * stride, maps + 8 * stride
    over = blocks << 3
    st64(token + over, 0)
    st64(first + over, 0)
    st64(word + over, 0)
    st64(joins + over, 0)
    st64(letters + over, 0)
    st64(colons + over, 0)
    # Tokens, and in each the part from its first digit on: the sum carries to the token's end.
    words_before = 0
    carry = 0
    for at in range(blocks):
        place = at << 3
        words = ld64(word + place)
        dots = ld64(dot + place)
        digits = ld64(digit + place)
        behind = shl(words, 1) | words_before
        ahead = shr(words, 1) | shl(ld64(word + place + 8), 63)
        tokens = words | (dots & behind & ahead)
        words_before = shr(words, 63)
        total = add(tokens, digits)
        carried = ult(total, tokens)
        after = add(total, carry)
        carry = carried | ult(after, total)
        st64(token + place, tokens)
        st64(first + place, tokens & (~after | digits))
    # The part before the first digit: fill towards the token's start.
    filled_next = 0
    for back in range(blocks):
        place = (blocks - 1 - back) << 3
        tokens = ld64(token + place)
        filled = ld64(first + place)
        filled |= shl(filled_next, 63) & tokens
        reach = tokens
        filled |= reach & shr(filled, 1)
        reach &= shr(reach, 1)
        filled |= reach & shr(filled, 2)
        reach &= shr(reach, 2)
        filled |= reach & shr(filled, 4)
        reach &= shr(reach, 4)
        filled |= reach & shr(filled, 8)
        reach &= shr(reach, 8)
        filled |= reach & shr(filled, 16)
        reach &= shr(reach, 16)
        filled |= reach & shr(filled, 32)
        filled_next = filled & 1
        colon = ld64(colons + place)
        colon_ahead = shr(colon, 2) | shl(ld64(colons + place + 8), 62)
        letter = ld64(letters + place)
        pairs = letter & tokens & (shr(letter, 1) | shl(ld64(letters + place + 8), 63))
        if pairs != 0:
            tokens_before, colon_before = 0, 0
            if place != 0:
                tokens_before = shr(ld64(token + place - 8), 63)
                colon_before = shr(ld64(colons + place - 8), 63)
            pairs &= ~(shl(tokens, 1) | tokens_before)
            pairs &= ~(shr(tokens, 2) | shl(ld64(token + place + 8), 62))
            pairs &= colon_ahead | shl(colon, 1) | colon_before
            st64(first + place + 8, ld64(first + place + 8) | shr(pairs, 63))
            filled |= pairs | shl(pairs, 1)
        st64(first + place, filled)
    # Joins.
    value_before = 0
    two_before = 0
    for at in range(blocks):
        place = at << 3
        value = ld64(first + place)
        join = ld64(joins + place) & ~ld64(token + place)
        result = value | two_before
        two_before = 0
        if join != 0:
            value_after = ld64(first + place + 8)
            behind = shl(value, 1) | value_before
            ahead = shr(value, 1) | shl(value_after, 63)
            ahead_two = shr(value, 2) | shl(value_after, 62)
            join_after = ld64(joins + place + 8) & ~ld64(token + place + 8)
            one = join & behind & ahead
            two = join & (shr(join, 1) | shl(join_after, 63)) & behind & ahead_two
            result |= one | two | shl(two, 1)
            two_before = shr(two, 63)
        value_before = shr(value, 63)
        st64(masked + place, result)


@compiled
def hash_masked(text, masked, start, end):
    """A hash of the message's pattern: equal for equal patterns."""
    result = _SEED
    at = start
    while True:
        stop = min(next_set(masked, at, end), end)
        size = stop - at
        place = text + at
        while size > 8:
            result = mul(result ^ ld64(place), _MULTIPLY)
            result ^= shr(result, 29)
            place += 8
            size -= 8
        if size > 0:
            result = mul(result ^ (ld64(place) & shr(-1, 64 - (size << 3))), _MULTIPLY)
            result ^= shr(result, 32)
        result = mul(result + (stop - at), _VALUE)
        result ^= shr(result, 29)
        if stop >= end:
            return result
        at = next_clear(masked, stop, end)


@compiled
def hash_bytes(text, size, seed):
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
def same_bytes(a, b, size):
    """Whether so many bytes (at least one) are the same."""
    while size > 8:
        if ld64(a) != ld64(b):
            return False
        a += 8
        b += 8
        size -= 8
    return (ld64(a) ^ ld64(b)) & shr(-1, 64 - (size << 3)) == 0


@compiled
def copy_bytes(into, source, size):
    """Copy; writes up to seven bytes more."""
    at = 0
    while at < size:
        st64(into + at, ld64(source + at))
        at += 8


@compiled
def in_class(table, text):
    """Whether the byte is in the class of a table of 256 bytes."""
    return ld8(table + ld8(text)) != 0
