"""Searching blocks finds exactly the lines that asking line by line finds."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parser.errors import PatternError
from parser.matcher import compile_pattern
from parser.rewriting import within_lines
from parser.search import Tally, blocks_of_lines, count, select

ATOMS = st.sampled_from(
    [
        r"a",
        r"b",
        r"ab",
        r"abc",
        r".",
        r"\d",
        r"\D",
        r"\s",
        r"\S",
        r"\w",
        r"\W",
        r"\b",
        r"\B",
        r"^",
        r"$",
        r"\A",
        r"\Z",
        r"[ab]",
        r"[^a]",
        r"[^ab]",
        r"[\s,]",
        r"[\S\s]",
        r"[^\s]",
        r"[]a]",
        r"[^]a]",
        r"[^-a]",
        r"[a-]",
        r"[\x00-\x7f]",
        r"[^\n]",
        r"\n",
        r"\x0a",
        r"\012",
        r"\.",
        r"\-",
        r"x{",
        r"{}",
        r"\t",
        r"\0",
        r'"',
    ]
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        inner.map("(?:{})*".format),
        inner.map("(?:{})+?".format),
        inner.map("({})?".format),
        inner.map("(?:{}){{1,2}}".format),
        inner.map("(?={})".format),
        inner.map("(?!{})".format),
        inner.map("(?>{})".format),
        inner.map("(?P<name>{})".format),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(inner, inner).map("{0[0]}|{0[1]}".format),
    )


REGEXES = st.recursive(ATOMS, _grown, max_leaves=6)
LOGS = st.lists(
    st.sampled_from([b"a", b"b", b"ab", b"abc", b"A", b" ", b"-", b"]", b'"', b"1", b"\n", b"\n\n",
                     b"x{", b"{}", b"\xff", b"\x00", b"\r", b"\t", b",", b"."]),
    max_size=40,
).map(b"".join)  # fmt: skip


def naive(log: bytes, matches: object, *, invert: bool = False) -> list[bytes]:
    """The lines as grep would print them, one question a line."""
    lines = log.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    assert callable(matches)
    return [line for line in lines if bool(matches(line)) != invert]


def found(
    log: bytes, pattern: str, *, cut: int = 7, invert: bool = False, **options: bool
) -> list[bytes]:
    tally = Tally()
    chunks = [log[at : at + cut] for at in range(0, len(log), cut)]
    matcher = compile_pattern(pattern, **options)
    text = b"".join(select(chunks, matcher, tally, invert=invert))
    assert text == b"" or text.endswith(b"\n")
    lines = text.split(b"\n")[:-1]
    assert tally.selected == len(lines)
    assert tally.lines == len(naive(log, lambda _: True))
    counted = Tally()
    count(chunks, matcher, counted, invert=invert)
    assert counted == tally
    return lines


@given(REGEXES, LOGS, st.integers(1, 50), st.booleans(), st.booleans())
@example("[^a]*b", b"x\nab\n", 3, False, False)
@example("ab(?!\\s)", b"ab\nab c\n", 50, False, False)
@example("a$", b"a\nab\na", 50, False, False)
@example("abc[^-a]", b"abc,\nabc-\n", 50, False, False)
@example("^", b"\n\n", 50, False, False)
@example("abc|b", b"b\n", 50, False, False)
@example("abcd{0}", b"abc\n", 50, False, False)
def test_blocks_give_what_lines_give(
    pattern: str, log: bytes, cut: int, invert: bool, ignore_case: bool
) -> None:
    flags = re.IGNORECASE if ignore_case else re.NOFLAG
    try:
        regex = re.compile(pattern.encode(), flags)
    except re.error:
        with pytest.raises(PatternError):
            compile_pattern(pattern, ignore_case=ignore_case)
        return
    expected = naive(log, regex.search, invert=invert)
    assert found(log, pattern, cut=cut, invert=invert, ignore_case=ignore_case) == expected


@given(st.text(alphabet="ab.[(*A", min_size=1, max_size=3), LOGS, st.booleans(), st.booleans())
def test_plain_text_is_found_as_it_stands(
    text: str, log: bytes, invert: bool, ignore_case: bool
) -> None:
    def holds(line: bytes) -> bool:
        return text.encode().lower() in line.lower() if ignore_case else text.encode() in line

    lines = found(log, text, invert=invert, ignore_case=ignore_case, fixed=True)
    assert lines == naive(log, holds, invert=invert)


def test_text_that_is_not_ascii_is_matched_as_text() -> None:
    log = "Größe 5\nGRÖSSE 6\nstraße\n".encode()
    assert found(log, "Größe") == ["Größe 5".encode()]
    assert found(log, "gr[öo].*", ignore_case=True) == ["Größe 5".encode(), "GRÖSSE 6".encode()]
    assert found(log, "stra.e$") == []
    assert found(log, "stra[ß]e$") == ["straße".encode()]


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        ("WARN", "text"),
        ("WARN.*blk_", "text+regex"),
        (r"^\d+ \d+", "regex"),
        ("ERROR|WARN", "text"),
        (r"ERROR|W\w+N", "regex"),
        (r"a\nb", "lines"),
        ("(?s)a.b", "lines"),
        ("gr[öo]ß", "lines"),
    ],
)
def test_the_fastest_way_that_is_exact_is_taken(pattern: str, how: str) -> None:
    assert compile_pattern(pattern).how == how


def test_a_pattern_is_rewritten_so_that_it_stays_in_its_line() -> None:
    assert within_lines(r"a[^b]c\sd\Ze") == (r"a[^\nb]c[^\S\n]d$e", "a")
    assert within_lines(r"[^]x]") == (r"[^\n\]x]", "")
    assert within_lines(r"blk_\d+ done?") == (r"blk_\d+ done?", "blk_")
    assert within_lines(r"a\x0ab") is None


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "a{2}{3}", "(?P<n>a)(?P<n>b)", "a\nb"])
def test_what_is_not_a_pattern_is_refused_with_the_reason(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)


def test_no_pattern_makes_a_block_slower_than_its_lines() -> None:
    """A class such as [^"] would run to the end of the block from each of its bytes."""
    block = b"no quotes in any of these lines\n" * 30_000
    began = time.process_time()
    assert compile_pattern('[^"]*"').count(block) == 0
    assert time.process_time() - began < 5


def test_an_endless_line_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parser.search.MAX_LINE_BYTES", 100)
    blocks = list(blocks_of_lines(b"x" * 30 for _ in range(20)))
    assert max(map(len, blocks)) < 200
    assert b"".join(blocks) == b"x" * 600


def test_the_share_of_selected_lines_of_nothing_is_zero() -> None:
    assert Tally().percent == 0
    assert Tally(8, 2).percent == 25


def test_a_small_block_does_not_decide_how_the_others_are_searched() -> None:
    block = b"081109 203615 148 INFO nothing here\n" * 1000

    def cost(pattern: str) -> float:
        matcher = compile_pattern(pattern)
        assert matcher.count(b"1 INFO\n") == 0
        began = time.process_time()
        assert sum(matcher.count(block) for _ in range(200)) == 0
        return time.process_time() - began

    assert cost("[0-9]+ WARN") < cost("[0-9]+ (WARN)") / 2
