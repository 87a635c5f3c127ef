"""The language of layouts and key rules."""

from __future__ import annotations

import pytest

from parser.errors import LayoutError
from parser.format import make_format
from parser.interpreter import Interpreter
from parser.layout import parse_key_rule, parse_layout


def fields(layout: str, line: bytes) -> dict[str, bytes] | None:
    event = Interpreter(make_format("test", layouts=[layout])).parse_line(line, 1)
    return None if event is None else event.fields


def keys(rules: list[str], line: bytes, layout: str = "<content>") -> list[bytes]:
    event = Interpreter(make_format("test", layouts=[layout], keys=rules)).parse_line(line, 1)
    assert event is not None
    return event.keys


@pytest.mark.parametrize(
    ("layout", "line", "expected"),
    [
        ("<a> <content>", b"one two three", {"a": b"one", "content": b"two three"}),
        ("<a> <content>", b"one   two  three", {"a": b"one", "content": b"two  three"}),
        ("<a>: <content>", b"x: y: z", {"a": b"x", "content": b"y: z"}),
        ("<a>: <content>", b"x:", {"a": b"x", "content": b""}),
        ("<a> [<b>] <content>", b"x  [] y", {"a": b"x", "b": b"", "content": b"y"}),
        ("<a> - <content>", b"b-c - d", {"a": b"b-c", "content": b"d"}),
        ("<a> <content>", b" x y", None),
        ("<a:word>: <content>", b"x y: z", None),
        ("<a>: <content>", b"x y: z", {"a": b"x y", "content": b"z"}),
        ("<n:int> <content>", b"-17 x", {"n": b"-17", "content": b"x"}),
        ("<n:int> <content>", b"- x", None),
        ("<n:hex>|<content>", b"fF09|x", {"n": b"fF09", "content": b"x"}),
        ("<n:ip>:<content>", b"10.0.0.255:80", {"n": b"10.0.0.255", "content": b"80"}),
        ("<n:ip> <content>", b"fe80::1 x", {"n": b"fe80::1", "content": b"x"}),
        ("<n:ip> <content>", b"12:34:56 x", None),
        ("<q:quoted> <content>", rb'"a \" b" c', {"q": rb"a \" b", "content": b"c"}),
        ("<q:quoted> <content>", b'"a b', None),
        ("<d:sd> <content>", rb'[a b="\"]"][c] x', {"d": rb'[a b="\"]"][c]', "content": b"x"}),
        (r"\<<n:int>\><content>", b"<34>x", {"n": b"34", "content": b"x"}),
        (r"<a>\t<content>", b"x\ty", {"a": b"x", "content": b"y"}),
        ("<_:int> <content>", b"5 x", {"content": b"x"}),
        (
            '"<+content><m:alpha> <p><-content>" <s:int>',
            b'"GET /x" 200',
            {"content": b"GET /x", "m": b"GET", "p": b"/x", "s": b"200"},
        ),
        ("<content>", b"x \t\r", {"content": b"x"}),
        ("<content>", b"\0\0x", {"content": b"x"}),
    ],
)
def test_a_layout_cuts_a_line_at_its_literals(
    layout: str, line: bytes, expected: dict[str, bytes] | None
) -> None:
    assert fields(layout, line) == expected


@pytest.mark.parametrize(
    ("layout", "complaint"),
    [
        ("", "empty layout"),
        ("<a", "does not end with '>'"),
        ("<a b> <content>", "is not a field"),
        ("<a:blob> <content>", "no type 'blob'"),
        ("<a><content>", "side by side"),
        ("<a> <a> <content>", "two fields are called 'a'"),
        ("<a> <b>", "no <content>"),
        ("<+content><a>", "come once each"),
        ("<a:%q> <content>", "%q is not a directive"),
        ("<a>\n<content>", "line break"),
    ],
)
def test_a_wrong_layout_is_explained(layout: str, complaint: str) -> None:
    with pytest.raises(LayoutError, match=complaint):
        parse_layout(layout)


def test_every_different_match_is_a_key_once() -> None:
    line = b"blk_1 blk_-22, xblk_3 blk_1 blk_ blk_x"
    found = [b"block_1", b"block_-22", b"block_3"]
    assert keys(["content ~ blk_<int> -> block_{}"], line) == found


def test_a_value_spans_from_the_first_capture_to_the_last() -> None:
    rule = "content ~ attempt_<int>_<int>_<alpha>_<int> -> try_{}!"
    assert keys([rule], b"attempt_14_0020_m_3_0 failed") == [b"try_14_0020_m_3!"]


def test_a_pattern_that_begins_with_a_capture_begins_where_no_word_goes_on() -> None:
    rule = ["content ~ <ip> -> ip_{}"]
    assert keys(rule, b"10.0.0.1 x10.0.0.2 /10.0.0.3:80 1.10.0.0.4 (::1)") == [
        b"ip_10.0.0.1",
        b"ip_10.0.0.3",
        b"ip_1.10.0.0",
        b"ip_::1",
    ]


def test_fields_together_are_a_key_and_empty_ones_are_none() -> None:
    rules = ["host, process -> {}/{}", "else host -> host_{}"]
    layout = "<host> <process>: <content>"
    assert keys(rules, b"a b: c", layout) == [b"a/b"]
    assert keys(rules, b"a -: c", layout) == [b"host_a"]
    assert keys(rules, b"- -: c", layout) == []


def test_a_value_that_is_too_long_is_no_key() -> None:
    assert keys(["content ~ k<int> -> {}"], b"k" + b"1" * 255) == [b"1" * 255]
    assert keys(["content ~ k<int> -> {}"], b"k" + b"1" * 256) == []


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("content", "not a key rule"),
        ("content ~ blk_<int> -> block", "must hold {} once"),
        ("content ~ blk -> {}", "captures nothing"),
        ("content ~ <int><hex> -> {}", "side by side"),
        ("content ~ <thing> -> {}", "<thing> in a key rule"),
        ("a, b -> {}", "must hold {} once for each"),
        ("a, b ~ <int> -> {}_{}", "searched in one field"),
    ],
)
def test_a_wrong_key_rule_is_explained(rule: str, complaint: str) -> None:
    with pytest.raises(LayoutError, match=complaint):
        parse_key_rule(rule)
