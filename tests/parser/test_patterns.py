"""Masking: golden examples for each rule, and a twin that follows the written rule byte by byte."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parser.patterns import (
    BYTE_CLASS,
    CLASS_DELIM,
    CLASS_DIGIT,
    CLASS_DOT,
    CLASS_WORD,
    DELIMITERS,
    JOIN,
    MAX_MESSAGE_BYTES,
    mask,
    mask_values,
    pattern_id,
)

GOLDEN: dict[str, list[tuple[str, str, list[str] | None]]] = {
    "a token with a digit is a value": [
        ("took 15 ms", "took <*> ms", ["15"]),
        ("block blk_-1608999687919862906 done", "block <*> done", ["blk_-1608999687919862906"]),
        ("worker7 exits", "<*> exits", ["worker7"]),
        ("size=67108864", "size=<*>", ["67108864"]),
        ("load 99% at +5C", "load <*> at <*>", ["99%", "+5C"]),
        ("no digit here", "no digit here", []),
        ("", "", []),
    ],
    "hexadecimal numbers hold digits": [
        ("at 0xdeadbeef", "at <*>", ["0xdeadbeef"]),
        ("id b9000564-fe1a-409b-b8cc-1e88b294cd1d", "id <*>", None),
        ("core.Foo@5a3bc1", "core.Foo@<*>", ["5a3bc1"]),
    ],
    "two letters a-f beside a colon belong to an address": [
        ("from 00:1b:fc:ea:00:11 up", "from <*> up", ["00:1b:fc:ea:00:11"]),
        ("from fc:ea:ba:be:ff:dd up", "from <*> up", ["fc:ea:ba:be:ff:dd"]),
        ("we had a bad feed", "we had a bad feed", []),
        ("be it: so", "be it: so", []),
        ("abc:fed", "abc:fed", []),
    ],
    "signs between values join them": [
        ("to 10.0.0.1:50010 ok", "to <*> ok", ["10.0.0.1:50010"]),
        ("at 2008-11-09/20:35:18,123", "at <*>", ["2008-11-09/20:35:18,123"]),
        ("fe80::202:b3ff", "<*>", ["fe80::202:b3ff"]),
        ("1##2##3", "<*>", ["1##2##3"]),
        ("1:::2", "<*>:::<*>", ["1", "2"]),
        ("1, 2", "<*>, <*>", ["1", "2"]),
        ("1=2", "<*>=<*>", ["1", "2"]),
        ("a:1", "a:<*>", ["1"]),
    ],
    "a dot is part of a token only between its bytes": [
        ("version 2.6.5-1.358 up", "version <*> up", ["2.6.5-1.358"]),
        ("wrote core.2275", "wrote <*>", ["core.2275"]),
        ("enable......0", "enable......<*>", ["0"]),
        ("done in 5.", "done in <*>.", ["5"]),
        (".5", ".<*>", ["5"]),
        ("a.log and b.log", "a.log and b.log", []),
        ("host1.example.com is up", "<*> is up", ["host1.example.com"]),
    ],
    "a path is a value from its first slash to its end": [
        ("read /var/log/app/x.log now", "read <*> now", ["/var/log/app/x.log"]),
        ("src: /10.0.0.1:50010", "src: <*>", ["/10.0.0.1:50010"]),
        ("GET /a/b?c=d&e HTTP/1.1", "GET <*> HTTP/<*>", ["/a/b?c=d&e", "1.1"]),
        ("open '/etc/motd' failed", "open '<*>' failed", ["/etc/motd"]),
        ("http://example.com/x, gone", "http:<*>, gone", ["//example.com/x"]),
        ("/usr/bin/env", "<*>", ["/usr/bin/env"]),
        ("(/a) [/b] {/c} =/e", "(<*>) [<*>] {<*>} =<*>", None),
        ("either/or and / or", "either/or and / or", []),
        ("C:\\Temp\\a1\\b", "C:\\Temp\\<*>\\b", ["a1"]),
        ("in /a:b", "in <*>:b", ["/a"]),
    ],
    "quotes and brackets delimit": [
        ("user 'bob' of \"x1\"", "user 'bob' of \"<*>\"", ["x1"]),
        ("call(7)[8]{9}<1>", "call(<*>)[<*>]{<*>}<<*>>", ["7", "8", "9", "1"]),
        ("uid=0 (root)", "uid=<*> (root)", ["0"]),
    ],
    "bytes that are not ASCII are letters": [
        ("größe ändert sich", "größe ändert sich", []),
        ("größe5 passt", "<*> passt", ["größe5"]),
    ],
}
CASES = [
    pytest.param(*case, id=f"{rule}-{n}")
    for rule, cases in GOLDEN.items()
    for n, case in enumerate(cases)
]


@pytest.mark.parametrize(("message", "masked", "values"), CASES)
def test_golden_examples(message: str, masked: str, values: list[str] | None) -> None:
    found, hidden = mask_values(message.encode())
    assert found.decode() == masked
    assert mask(message.encode()) == found
    if values is not None:
        assert [value.decode() for value in hidden] == values


def test_a_long_message_is_masked_up_to_the_limit_and_the_cut_word_is_a_value() -> None:
    assert mask(b"a" * (MAX_MESSAGE_BYTES + 1)) == b"<*>"
    assert mask(b"a" * MAX_MESSAGE_BYTES) == b"a" * MAX_MESSAGE_BYTES
    assert mask(b"ab " * MAX_MESSAGE_BYTES).endswith(b" ab <*>")


def test_the_table_of_classes_is_what_the_rule_says() -> None:
    for byte in range(256):
        expected = (
            CLASS_DELIM
            if byte in DELIMITERS
            else CLASS_DIGIT
            if 0x30 <= byte <= 0x39
            else CLASS_DOT
            if byte == 0x2E
            else CLASS_WORD
        )
        assert BYTE_CLASS[byte] == expected
    assert set(JOIN) - {0x2E} <= set(DELIMITERS)


ENDS = b" \t\r\n\v\f\0\"'`<()[]{}|,;:!"


def naive(message: bytes) -> tuple[bytes, list[bytes]]:
    """The rule as it is written, one step after the other."""
    cut = len(message) > MAX_MESSAGE_BYTES
    message = message[:MAX_MESSAGE_BYTES]
    size = len(message)
    classes = [BYTE_CLASS[byte] for byte in message]
    inside = [
        0 < i < size - 1
        and classes[i - 1] in {CLASS_WORD, CLASS_DIGIT}
        and classes[i + 1] in {CLASS_WORD, CLASS_DIGIT}
        if classes[i] == CLASS_DOT
        else classes[i] != CLASS_DELIM
        for i in range(size)
    ]
    masked = [False] * size
    start = 0
    while start < size:
        end = start
        while end < size and inside[end]:
            end += 1
        token = message[start:end]
        pair = len(token) == 2 and all(byte in b"abcdefABCDEF" for byte in token)
        colon = message[start - 1 : start] == b":" or message[end : end + 1] == b":"
        if token and (
            any(byte in b"0123456789" for byte in token)
            or (pair and colon)
            or (cut and end == size)
        ):
            masked[start:end] = [True] * len(token)
        start = end + 1
    start = 0
    while start < size:
        end = start
        begins = message[start : start + 1] == b"/" and (
            start == 0 or message[start - 1] in ENDS + b"="
        )
        while begins and end < size and message[end] not in ENDS:
            end += 1
        if end > start + 1:
            masked[start:end] = [True] * (end - start)
        start = max(end, start + 1)
    joined = list(masked)
    joins = [not inside[i] and message[i] in JOIN for i in range(size)]
    for i in range(1, size - 1):
        if joins[i] and masked[i - 1] and masked[i + 1]:
            joined[i] = True
        if i + 2 < size and joins[i] and joins[i + 1] and masked[i - 1] and masked[i + 2]:
            joined[i] = joined[i + 1] = True
    out = bytearray()
    values: list[bytearray] = []
    for i, byte in enumerate(message):
        if not joined[i]:
            out.append(byte)
        elif i and joined[i - 1]:
            values[-1].append(byte)
        else:
            out += b"<*>"
            values.append(bytearray([byte]))
    return bytes(out), [bytes(value) for value in values]


messages = st.one_of(
    st.text(alphabet='abfz:.01 /-=g,"(?', max_size=60).map(str.encode), st.binary(max_size=60)
)


@given(messages)
@example(b":ab")
@example(b"0.:")
@example(b"1.:2")
@example(b"1:ab:2.")
def test_mask_follows_the_rule_byte_by_byte(message: bytes) -> None:
    assert mask_values(message) == naive(message)


@given(messages)
def test_masking_a_pattern_again_changes_nothing(message: bytes) -> None:
    assert mask(mask(message)) == mask(message)


@pytest.mark.parametrize(
    "unit", [b"ab ", b"ab. ", b"a.b", b"a.", b"a.1", b"1:", b"ab:", b"/", b" /a"]
)
def test_a_message_cut_anywhere_follows_the_rule(unit: bytes) -> None:
    for size in range(MAX_MESSAGE_BYTES - 3, MAX_MESSAGE_BYTES + 5):
        message = (unit * MAX_MESSAGE_BYTES)[:size]
        assert mask_values(message) == naive(message)


def test_ids_are_64_bits_of_the_text_and_stay_what_they_are() -> None:
    assert pattern_id(b"Received block <*>") == 0x06EE092BFB09FE3C
    for text in (b"", b"a", b"b", b"Received block <*>"):
        digest = hashlib.blake2b(text, digest_size=8).digest()
        assert pattern_id(text) == int.from_bytes(digest, "big") > 0
    assert pattern_id(b"a") != pattern_id(b"b")
