"""Payloads of DUMP: there and back, those of a real Redis, and any bytes at all.

``redis_dumps.json`` holds what a real Redis 7.0.15 returned. To record it anew, with a redis-server
7.0 in the path::

    python -m tests.kvserver.test_dumped
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvserver.commands.table import at_once
from kvserver.crc64 import crc64
from kvserver.dumped import BAD_FOOTER, BAD_FORMAT, around, unpacked
from kvserver.errors import CommandError
from tests.support import ROOT
from tests.wire import Wire, real_redis

FILE = ROOT / "tests" / "golden" / "redis_dumps.json"
EDGES = [edge for bits in (7, 15, 31, 63) for edge in (2**bits - 1, 2**bits, -(2**bits))]
VALUES = {
    "empty": b"",
    "one byte": b"x",
    "no text": b"\0\xff\r\n",
    "zero": b"0",
    "minus one": b"-1",
    **{f"number {edge}": b"%d" % edge for edge in EDGES if edge < 2**63},
    **{f"number {-(2**bits) - 1}": b"%d" % (-(2**bits) - 1) for bits in (7, 15, 31)},
    "12 digits": b"123456789012",
    "20 digits": b"12345678901234567890",
    "no canonical number": b"007",
    "20 bytes": b"abcdefghijklmnopqrst",
    "21 bytes": b"abcdefghijklmnopqrstu",
    "21 equal bytes": b"a" * 21,
    "63 bytes": bytes(range(63)),
    "64 bytes": bytes(range(64)),
    "1000 bytes": b"0123456789" * 100,
    "70 KB": b"a line of a log\n" * 4480,
    "16 KB that cannot be compressed": b"".join(
        crc64(b"%d" % number).to_bytes(8, "big") for number in range(2048)
    ),
}
LIMIT = 1 << 22


def dumped(value: bytes) -> bytes:
    return b"".join(at_once(around(value)))


def restored(payload: bytes, max_bytes: int = LIMIT) -> bytes:
    return at_once(unpacked(payload, max_bytes))


def closed(body: bytes, version: int = 10) -> bytes:
    """Add a footer that is right."""
    body += version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


def refusal(payload: bytes, max_bytes: int = LIMIT) -> str:
    with pytest.raises(CommandError) as raised:
        restored(payload, max_bytes)
    return raised.value.text


def outcome(payload: bytes) -> bytes | str:
    try:
        return restored(payload)
    except CommandError as error:
        return error.text


@pytest.mark.parametrize("name", VALUES)
def test_what_redis_wrote_is_read_and_written_alike(name: str) -> None:
    theirs = bytes.fromhex(json.loads(FILE.read_text("ascii"))[name])
    assert restored(theirs) == VALUES[name]
    if theirs[1] == 0xC3:  # compressed, which we do not
        assert len(dumped(VALUES[name])) > len(theirs)
    else:
        assert dumped(VALUES[name]) == theirs


def test_the_file_holds_all_of_them() -> None:
    payloads = json.loads(FILE.read_text("ascii"))
    assert payloads.keys() == VALUES.keys()
    compressed = {name for name, payload in payloads.items() if payload[2:4] == "c3"}
    assert compressed == {"21 equal bytes", "1000 bytes", "70 KB"}


@given(st.binary() | st.integers(-(2**70), 2**70).map(lambda number: b"%d" % number))
@example(b"x" * (1 << 14))
@example(b"x" * 300_000)
def test_a_string_comes_back(value: bytes) -> None:
    payload = dumped(value)
    assert restored(payload) == value
    assert restored(payload, len(value)) == value


@given(st.binary(max_size=60))
@example(b"")
@example(bytes(10))
def test_any_bytes_are_an_error(payload: bytes) -> None:
    assert refusal(payload) == BAD_FOOTER


# The marks of every kind of string; most with the type of strings before them, some with another.
MARKS = [0, 1, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0x82, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 255]
HEADS = [bytes((kind, mark)) for kind in (0, 0, 0, 1, 4, 255) for mark in MARKS]


@given(st.sampled_from([b"", *HEADS]), st.binary(max_size=40))
def test_any_bytes_with_a_good_checksum_are_a_string_or_an_error(head: bytes, rest: bytes) -> None:
    found = outcome(closed(head + rest))
    assert isinstance(found, bytes) or found == BAD_FORMAT


@given(
    st.sampled_from(list(VALUES)),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=3),
    st.booleans(),
)
def test_a_changed_payload_is_an_error_or_another_string(
    name: str, changes: list[tuple[int, int]], keep_checksum: bool
) -> None:
    right = bytes.fromhex(json.loads(FILE.read_text("ascii"))[name])
    wrong = bytearray(right)
    for at, flip in changes:
        wrong[at % len(wrong)] ^= flip
    if keep_checksum:
        assert wrong == right or refusal(bytes(wrong)) == BAD_FOOTER
    else:
        found = outcome(closed(bytes(wrong[:-10])))
        assert isinstance(found, bytes) or found == BAD_FORMAT


@given(st.sampled_from(list(VALUES)), st.integers(1, 400))
def test_a_payload_cut_short_or_with_a_tail_is_an_error(name: str, by: int) -> None:
    payload = bytes.fromhex(json.loads(FILE.read_text("ascii"))[name])
    assert refusal(payload[:-by]) == BAD_FOOTER
    assert refusal(payload + b"\xff" * by) == BAD_FOOTER  # with NULs a checksum of 0 may be right
    assert refusal(closed(payload[:-10] + bytes(by))) == BAD_FORMAT
    body = payload[: -10 - by] if len(payload) > 10 + by else b""
    assert refusal(closed(body)) == BAD_FORMAT


@pytest.mark.parametrize("version", range(1, 13))
def test_versions_in_which_strings_are_the_same_are_read(version: int) -> None:
    assert restored(closed(b"\0\x05hello", version)) == b"hello"


@pytest.mark.parametrize("version", [0, 13, 80, 0x0A00, 0xFFFF])
def test_other_versions_are_refused(version: int) -> None:
    assert refusal(closed(b"\0\x05hello", version)) == BAD_FOOTER


def test_no_checksum_is_no_excuse() -> None:
    assert refusal(b"\0\x05hello\x0a\0" + bytes(8)) == BAD_FOOTER


@pytest.mark.parametrize(
    "length", [b"\x05", b"\x40\x05", b"\x80\0\0\0\x05", b"\x81\0\0\0\0\0\0\0\x05"]
)
def test_a_length_may_be_longer_than_it_needs_to_be(length: bytes) -> None:
    assert restored(closed(b"\0" + length + b"hello")) == b"hello"
    packed = length.replace(b"\x05", b"\x06")
    assert restored(closed(b"\0\xc3" + packed + length + b"\x04hello")) == b"hello"


def test_what_is_too_long_is_refused_before_it_is_made() -> None:
    assert refusal(dumped(b"hello"), 4) == BAD_FORMAT
    pieces = b"\x00a" + b"\xe0\xff\x00" * 1000
    for length, max_bytes in ((264_001, 264_000), (88 * len(pieces) + 1, 1 << 40), (0, 1 << 40)):
        head = b"\0\xc3\x80%b\x80%b" % (len(pieces).to_bytes(4, "big"), length.to_bytes(4, "big"))
        steps = unpacked(closed(head + pieces), max_bytes)
        with pytest.raises(CommandError, match=BAD_FORMAT):
            next(steps)  # and not after having worked on it
    head = b"\0\xc3\x80%b\x80%b" % (len(pieces).to_bytes(4, "big"), (264_001).to_bytes(4, "big"))
    assert restored(closed(head + pieces)) == b"a" * 264_001


PIECES = st.binary(min_size=1, max_size=32) | st.tuples(
    st.integers(1, 1 << 13), st.integers(3, 264)
)


@given(st.lists(PIECES, min_size=1, max_size=30), st.integers(-2, 2))
def test_what_is_compressed_is_expanded(pieces: list[bytes | tuple[int, int]], off: int) -> None:
    value, packed = bytearray(), bytearray()
    for piece in pieces:
        if isinstance(piece, bytes):
            packed += bytes((len(piece) - 1,)) + piece
            value += piece
        elif piece[0] <= len(value):
            back, size = piece[0] - 1, piece[1] - 2
            more = bytes((size - 7,)) if size >= 7 else b""
            packed += bytes((min(size, 7) << 5 | back >> 8,)) + more + bytes((back & 255,))
            for _ in range(piece[1]):
                value.append(value[-piece[0]])
    lengths = (len(packed), max(0, len(value) + off))
    head = b"\0\xc3" + b"".join(b"\x80" + length.to_bytes(4, "big") for length in lengths)
    found = outcome(closed(head + packed))
    assert found == (BAD_FORMAT if off or not value else bytes(value))
    if len(packed) > 1 and off == 0:
        head = b"\0\xc3\x80%b\x80%b" % tuple(
            length.to_bytes(4, "big") for length in (len(packed) - 1, len(value))
        )
        assert refusal(closed(head + packed[:-1])) == BAD_FORMAT


def test_a_stretch_may_not_begin_before_the_string() -> None:
    assert refusal(closed(b"\0\xc3\x03\x04\x00a\x20")) == BAD_FORMAT, "its second byte is missing"
    assert restored(closed(b"\0\xc3\x04\x04\x00a\x20\x00")) == b"aaaa"
    assert refusal(closed(b"\0\xc3\x04\x04\x00a\x20\x01")) == BAD_FORMAT


def record() -> None:
    """Ask a real Redis."""
    payloads = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        real_redis(Path(directory)) as port,
        Wire("127.0.0.1", port) as wire,
    ):
        for name, value in VALUES.items():
            wire("SET", "k", value)
            payloads[name] = wire("DUMP", "k").partition(b"\r\n")[2][:-2].hex()
    FILE.write_text(json.dumps(payloads, indent=1) + "\n", "ascii")


if __name__ == "__main__":
    record()
