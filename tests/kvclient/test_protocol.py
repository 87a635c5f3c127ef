"""The client's half of RESP: every reply whole, byte by byte and with a tail; nothing believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvclient.errors import AuthFailed, ProtocolError, ReplyError, ServerLoading
from kvclient.protocol import NEED_DATA, Decoder, Push, as_map, encode

REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", "OK"),
    (b"+\r\n", ""),
    (b":0\r\n", 0),
    (b":-9223372036854775808\r\n", -(2**63)),
    (b":+5\r\n", 5),
    (b"$-1\r\n", None),
    (b"$0\r\n\r\n", b""),
    (b"$5\r\na\r\nbc\r\n", b"a\r\nbc"),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*2\r\n:1\r\n*2\r\n$1\r\nx\r\n*0\r\n", [1, [b"x", []]]),
    (b"_\r\n", None),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b",3.5\r\n", 3.5),
    (b",inf\r\n", float("inf")),
    (b"(12345678901234567890123\r\n", 12345678901234567890123),
    (b"=6\r\ntxt:hi\r\n", b"hi"),
    (b"%0\r\n", {}),
    (b"%2\r\n$1\r\na\r\n:1\r\n*1\r\n:7\r\n%1\r\n+b\r\n_\r\n", {b"a": 1, (7,): {"b": None}}),
    (b"~2\r\n:1\r\n:2\r\n", [1, 2]),
    (b">2\r\n+message\r\n$1\r\nx\r\n", ["message", b"x"]),
    (b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n", b"x"),
    (b"*2\r\n|1\r\n+a\r\n:3\r\n:1\r\n:2\r\n", [1, 2]),
]


def decoded(*chunks: bytes) -> list[Any]:
    decoder = Decoder()
    replies: list[Any] = []
    for chunk in chunks:
        decoder.feed(chunk)
        replies += decoder.replies()
    return replies


@pytest.mark.parametrize(("wire", "reply"), REPLIES)
def test_a_reply_reads_the_same_whole_in_pieces_and_with_a_tail(wire: bytes, reply: Any) -> None:
    assert decoded(wire) == [reply]
    assert decoded(*[wire[i : i + 1] for i in range(len(wire))]) == [reply]
    for cut in range(len(wire)):
        assert decoded(wire[:cut], wire[cut:] + b":42\r\n") == [reply, 42]


def test_errors_are_returned_not_raised_and_may_stand_inside_an_array() -> None:
    whole, inside, blob = decoded(
        b"-ERR no such\r\n", b"*2\r\n-WRONGTYPE x\r\n:1\r\n", b"!5\r\nERR a\r\n"
    )
    assert isinstance(whole, ReplyError)
    assert whole.code == "ERR"
    assert isinstance(inside[0], ReplyError)
    assert inside[0].code == "WRONGTYPE"
    assert inside[1] == 1
    assert isinstance(blob, ReplyError)


@pytest.mark.parametrize("text", ["NOAUTH Authentication required.", "WRONGPASS invalid"])
def test_a_refusal_to_let_in_has_a_type_of_its_own(text: str) -> None:
    (reply,) = decoded(b"-" + text.encode() + b"\r\n")
    assert isinstance(reply, AuthFailed)


def test_a_server_that_reads_its_data_has_a_type_of_its_own() -> None:
    early, other = decoded(b"-LOADING Redis is loading\r\n", b"-ERR LOADING\r\n")
    assert isinstance(early, ServerLoading)
    assert not isinstance(other, ServerLoading)


def test_a_push_is_told_apart_from_an_array() -> None:
    push, array = decoded(b">1\r\n:1\r\n*1\r\n:1\r\n")
    assert isinstance(push, Push)
    assert not isinstance(array, Push)


BROKEN: list[bytes] = [
    b"\r\n",
    b"hello\r\n",
    b"$x\r\n",
    b"$-2\r\n",
    b"$+5\r\nhello\r\n",
    b"$1_0\r\n",
    b"$ 5\r\nhello\r\n",
    b"$99999999999999999999999\r\n",
    b"$536870913\r\n",
    b"$3\r\nabcd\r\n",
    b"$?\r\n",
    b"*-5\r\n",
    b"*99999999999\r\n",
    b"*1_0\r\n",
    b"%999999999\r\n",
    b":\r\n",
    b":1_0\r\n",
    b": 5\r\n",
    b":1.5\r\n",
    b":111111111111111111111\r\n",
    b"#x\r\n",
    b",1_0\r\n",
    b",x\r\n",
    b"(x\r\n",
    b"(" + b"1" * 5000 + b"\r\n",
    b"*1\r\n" * 33 + b":1\r\n",
    b"+" + b"a" * 70_000,
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
]


@pytest.mark.parametrize("wire", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_reply_is_a_protocol_error_now_and_ever_after(wire: bytes) -> None:
    for chunks in ([wire], [wire[i : i + 1] for i in range(len(wire))]):
        decoder = Decoder()
        with pytest.raises(ProtocolError):  # noqa: PT012 - where it is noticed depends on the cut
            for chunk in chunks:
                decoder.feed(chunk)
                list(decoder.replies())
        decoder.feed(b"+OK\r\n")
        with pytest.raises(ProtocolError):
            decoder.next()


def test_an_announced_length_allocates_nothing() -> None:
    decoder = Decoder()
    decoder.feed(b"*268435456\r\n$536870912\r\n")
    assert decoder.next() is NEED_DATA
    assert decoder.pending_bytes < 64


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=20))
def test_whatever_the_bytes_the_only_error_is_a_protocol_error(
    data: bytes, sizes: list[int]
) -> None:
    decoder = Decoder(max_bulk_bytes=1000, max_elements=50, max_depth=4)
    at = 0
    try:
        for size in [*sizes, len(data)]:
            decoder.feed(data[at : at + size])
            at += size
            for _ in decoder.replies():
                pass
    except ProtocolError:
        pass


@given(st.lists(st.one_of(st.binary(max_size=40), st.integers(), st.text(max_size=20)), min_size=1))
def test_a_command_is_an_array_that_reads_back_as_its_arguments(args: list[Any]) -> None:
    text = [arg for arg in args if isinstance(arg, str)]
    if any("\ud800" <= c <= "\udfff" for word in text for c in word):
        return
    (reply,) = decoded(encode(*args))
    assert reply == [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]


def test_stray_bytes_of_the_shell_are_sent_as_they_were() -> None:
    assert encode(b"\xff".decode("utf-8", "surrogateescape")) == b"*1\r\n$1\r\n\xff\r\n"


def test_a_truth_value_is_no_argument() -> None:
    with pytest.raises(TypeError):
        encode("SET", "a", True)


def test_a_flat_array_reads_as_a_map_and_anything_else_does_not() -> None:
    assert as_map([b"a", 1, b"b", 2]) == {b"a": 1, b"b": 2}
    assert as_map({b"a": 1}) == {b"a": 1}
    for reply in (None, [1], 5):
        with pytest.raises(ProtocolError):
            as_map(reply)
