"""The longest common subsequence, against the table that the textbook fills."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from kvserver import lcs

STRINGS = st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=14).map(b"".join)


def textbook(a: bytes, b: bytes) -> tuple[bytes, list[tuple[int, int, int, int]]]:
    """Fill the whole table, walk back preferring the second string among equals."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            longest = max(table[i - 1][j], table[i][j - 1])
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else longest
    pairs = []
    i, j = len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    ranges: list[tuple[int, int, int, int]] = []
    for i, j in pairs:
        if ranges and (ranges[-1][0], ranges[-1][2]) == (i + 1, j + 1):
            ranges[-1] = (i, ranges[-1][1], j, ranges[-1][3])
        else:
            ranges.append((i, i, j, j))
    return bytes(a[i] for i, _ in reversed(pairs)), ranges


def traced(a: bytes, b: bytes) -> tuple[int, bytes, list[lcs.Match]]:
    table = list(lcs.rows(a, b))
    matches = list(lcs.trace(a, b, table))
    text = b"".join(a[match.first_start : match.first_end + 1] for match in reversed(matches))
    return len(b) - table[-1].bit_count(), text, matches


@given(STRINGS, STRINGS)
def test_same_choices_as_the_table(a: bytes, b: bytes) -> None:
    text, ranges = textbook(a, b)
    length, ours, matches = traced(a, b)
    assert length == len(text)
    assert ours == text
    assert [tuple(match) for match in matches] == ranges


def test_the_largest_pair_allowed_is_quick() -> None:
    a, b = b"abcdefghij" * 1100, b"jihgfedcba" * 1100
    started = time.perf_counter()
    length, text, _ = traced(a, b)
    assert len(text) == length
    assert time.perf_counter() - started < 2
