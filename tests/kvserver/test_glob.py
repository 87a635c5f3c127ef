"""Glob patterns: equal to a naive reading of the rules, and linear for every pattern."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver import glob
from kvserver.glob import compile_glob, glob_match


def naive(pattern: bytes, text: bytes) -> bool:
    """The rules written as they are told: recursive, exponential, obviously right."""
    if not text:
        return not pattern
    if not pattern:
        return False
    head = pattern[0:1]
    if head == b"*":
        rest = pattern.lstrip(b"*")
        return not rest or any(naive(rest, text[at:]) for at in range(len(text)))
    if head == b"?":
        taken = 1
    elif head == b"[":
        taken, admitted = naive_class(pattern)
        if (text[0] in admitted[1]) == admitted[0]:
            return False
    else:
        taken = 2 if head == b"\\" and len(pattern) > 1 else 1
        if pattern[taken - 1] != text[0]:
            return False
    rest = pattern[taken:]
    if len(text) == 1:
        return not rest.lstrip(b"*")
    return naive(rest, text[1:])


def naive_class(pattern: bytes) -> tuple[int, tuple[bool, set[int]]]:
    at = 1
    negated = pattern[1:2] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            members.add(pattern[at + 1])
            at += 2
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = pattern[at], pattern[at + 2]
            members |= set(range(min(low, high), max(low, high) + 1))
            at += 3
        else:
            members.add(pattern[at])
            at += 1
    return min(at + 1, len(pattern)), (negated, members)


PATTERNS = st.lists(
    st.sampled_from([b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"a", b"b", b"c", b"\n", b"\xff"]),
    max_size=10,
).map(b"".join)
TEXTS = st.lists(
    st.sampled_from([b"a", b"b", b"c", b"]", b"-", b"\\", b"*", b"\n", b"\x00", b"\xff"]),
    max_size=8,
).map(b"".join)


@given(PATTERNS, TEXTS)
def test_matches_what_the_naive_rules_match(pattern: bytes, text: bytes) -> None:
    assert glob_match(pattern, text) == naive(pattern, text)


@given(PATTERNS, TEXTS)
def test_a_long_pattern_follows_the_same_rules(pattern: bytes, text: bytes) -> None:
    pieces = glob._pieces(pattern)
    assert glob._long_matcher(pieces)(text) == naive(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (b"*", b"anything", True),
        (b"*", b"", False),
        (b"", b"", True),
        (b"h[^e]llo", b"hello", False),
        (b"h[^e]llo", b"hallo", True),
        (b"h[a-b]llo", b"hbllo", True),
        (b"h[b-a]llo", b"hbllo", True),
        (b"\\*", b"*", True),
        (b"\\*", b"a", False),
        (b"a\\", b"a\\", True),
        (b"[", b"[", False),
        (b"[^", b"x", True),
        (b"[]", b"]", False),
        (b"[^]", b"]", True),
        (b"[abc", b"c", True),
        (b"[\\]]", b"]", True),
        (b"line*", b"line\nbreak", True),
        (b"?", b"\n", True),
    ],
)
def test_known_cases(pattern: bytes, text: bytes, expected: bool) -> None:
    assert glob_match(pattern, text) is expected


BOMBS = [
    (b"a*" * 30 + b"b", b"a" * 5000),
    (b"*a" * 100 + b"b", b"a" * 5000),
    (b"?*" * 100 + b"b", b"a" * 5000),
    (b"*" * 65536 + b"b", b"a" * 5000),
    (b"a*" * 32768 + b"b", b"a" * 5000),
    (b"*?" * 32768, b"a" * 5000),
    (b"[" * 65536, b"a" * 5000),
    (b"[a-z]" * 13107 + b"*", b"a" * 5000),
    (b"*[a-z]" * 40 + b"[0-9]", b"a" * 5000),
    (b"*" + b"?a" * 2000 + b"b*", b"a" * 5000),
    (b"\\" * 65535, b"\\" * 5000),
    (b"[^" * 200, b"a" * 5000),
    (b"*" + b"[ab]" * 60 + b"c*", b"ab" * 2500),
]


@pytest.mark.parametrize(("pattern", "text"), BOMBS, ids=range(len(BOMBS)))
def test_no_pattern_is_a_bomb(pattern: bytes, text: bytes) -> None:
    match = compile_glob(pattern)
    short = text[:64]
    best = min(_seconds(match, text) for _ in range(3))
    assert best < 0.1, "a key of 5,000 bytes"
    assert min(_seconds(match, short) for _ in range(3)) < 0.01, "a key of ordinary size"


def _seconds(match: glob.Matcher, text: bytes) -> float:
    started = time.perf_counter()
    match(text)
    return time.perf_counter() - started


def test_compiling_the_longest_pattern_is_quick() -> None:
    started = time.perf_counter()
    for pattern, _ in BOMBS:
        glob._compile(pattern)
    assert time.perf_counter() - started < 3
