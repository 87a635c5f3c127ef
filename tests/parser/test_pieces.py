"""Pieces tile what they are cut from, and lines stay whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parser.pieces
from parser.pieces import Piece, cut_pieces
from parser.streams import BrokenStream

contents = st.lists(
    st.sampled_from([b"a", b" ", b"\n", b"bb\n", b"\n\n", b"E", b"x" * 30]), max_size=60
).map(b"".join)


@pytest.fixture(autouse=True, scope="module")
def lines_are_too_long_early() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser.pieces, "MAX_LINE_BYTES", 20)
        yield


def blocks_of(data: bytes, sizes: list[int]) -> list[bytes]:
    blocks = []
    at = 0
    for size in sizes:
        blocks.append(data[at : at + size])
        at += size
    return [*blocks, data[at:]]


def check(pieces: list[Piece], data: bytes, start: int, passed: int, end: int) -> None:
    position = start
    for piece in pieces:
        assert piece.start == position
        position = piece.end
        shown = data[piece.data_start - start : piece.end - start]
        if piece.too_long:
            assert shown.startswith(bytes(piece.data))
            assert shown.count(b"\n") <= 1
            assert len(shown.rstrip(b"\n")) > 20
        else:
            assert piece.data == shown
            assert all(len(line) <= 20 for line in shown.split(b"\n"))
        if piece.data_start > start + passed:
            assert data[piece.data_start - start - 1 : piece.data_start - start] == b"\n"
    assert position == end
    if pieces:
        assert pieces[0].data_start == start + passed


@given(contents, st.lists(st.integers(0, 25), max_size=10), st.integers(1, 40), st.booleans())
def test_pieces_tile_whatever_the_blocks(
    data: bytes, sizes: list[int], piece_bytes: int, inside: bool
) -> None:
    rest = data.find(b"\n") + 1 if b"\n" in data else len(data)
    passed = rest if inside else 0
    pieces = list(
        cut_pieces(blocks_of(data, sizes), 100, inside_line=inside, piece_bytes=piece_bytes)
    )
    check(pieces, data, 100, passed, 100 + len(data))


@given(contents, st.lists(st.integers(0, 25), max_size=10), st.integers(1, 40))
def test_without_the_end_only_whole_lines_go_out(
    data: bytes, sizes: list[int], piece_bytes: int
) -> None:
    blocks = [*blocks_of(data, sizes), b""]
    pieces = list(cut_pieces(blocks, 0, piece_bytes=piece_bytes, to_the_end=False))
    check(pieces, data, 0, 0, data.rfind(b"\n") + 1)


@given(contents, st.lists(st.integers(1, 25), max_size=10), st.integers(1, 40))
def test_pieces_begin_where_events_begin(data: bytes, sizes: list[int], piece_bytes: int) -> None:
    data = data.replace(b"x" * 30, b"x")
    blocks = [block for block in blocks_of(data, sizes) if block]
    pieces = list(
        cut_pieces(
            blocks,
            0,
            piece_bytes=piece_bytes,
            starts_event=lambda line: line.startswith(b"E"),
        )
    )
    long = any(len(line) > 20 for line in data.split(b"\n"))
    for piece in pieces[1:]:
        assert long or bytes(piece.data).startswith(b"E")
    assert b"".join(data[piece.start : piece.end] for piece in pieces) == data


def test_an_empty_line_within_an_event_begins_no_piece() -> None:
    asked: list[bytes] = []

    def starts_event(line: bytes) -> bool:
        asked.append(line)
        return line.startswith(b"E")

    data = b"E one\n\n c\nE two\n\n c\n"
    pieces = list(cut_pieces([data], 0, piece_bytes=1, starts_event=starts_event))
    assert [bytes(piece.data) for piece in pieces] == [b"E one\n\n c\n", b"E two\n\n c\n"]
    assert asked == [b" c\n", b"\n", b"E two\n"]


def test_what_came_before_a_break_goes_out_in_whole_lines() -> None:
    def blocks() -> Iterator[bytes]:
        yield b"one\ntwo\nthr"
        raise BrokenStream(7, "cut off")

    pieces: list[Piece] = []
    with pytest.raises(BrokenStream, match="cut off at byte 7"):
        pieces.extend(cut_pieces(blocks(), 0, piece_bytes=100))
    assert [(piece.start, piece.end, piece.data) for piece in pieces] == [(0, 8, b"one\ntwo\n")]
