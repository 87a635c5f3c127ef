"""Requests of many arguments, read a chunk at a time: the same as byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.config import Config
from kvserver.requests import RequestReader
from kvserver.strict import StrictReader

ARGUMENT = st.one_of(
    st.binary(max_size=6),
    st.text("\r\n$*0123", max_size=12).map(str.encode),
    st.integers(0, 300).map(lambda size: b"x" * size),
)


def wire(args: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)


def read(data: bytes, step: int, config: Config) -> tuple[list[list[bytes]], str | None, int]:
    """Feed so many bytes at a time; return the commands, what was wrong, and what is held."""
    reader = RequestReader(config)
    commands = []
    for start in range(0, len(data), step):
        commands += reader.feed(data[start : start + step])
    return commands, reader.error, reader.held_bytes


@given(
    requests=st.lists(st.lists(ARGUMENT, min_size=1, max_size=80), min_size=1, max_size=3),
    step=st.integers(1, 2000),
)
def test_however_many_come_at_once_the_commands_are_those_that_were_sent(
    requests: list[list[bytes]], step: int
) -> None:
    data = b"".join(map(wire, requests))
    assert read(data, step, Config()) == (requests, None, 0)


@given(
    args=st.lists(ARGUMENT, min_size=20, max_size=60),
    at=st.integers(0, 400),
    byte=st.integers(0, 255),
    step=st.integers(1, 2000),
)
def test_a_wrong_byte_gives_what_reading_byte_by_byte_gives(
    args: list[bytes], at: int, byte: int, step: int
) -> None:
    data = bytearray(wire(args))
    data[at % len(data)] = byte
    config = Config(max_bulk_bytes=200)
    commands, error, held = read(bytes(data), 1, config)
    got = read(bytes(data), step, config)
    assert got[:2] == (commands, error)
    assert error is not None or got[2] == held


def test_a_request_of_twenty_thousand_arguments_comes_out_whole() -> None:
    args = [b"MSET", *(b"%d" % n if n % 7 else b"\r\n$1\r\n" for n in range(20_000))]
    assert read(wire(args), 1 << 16, Config()) == ([args], None, 0)


@pytest.mark.parametrize("size", [100, 1448, 16384, 65536])
def test_a_long_pipeline_is_read_quickly_wherever_it_is_cut(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [[b"SET", b"key:%d" % number, b"x" * (number % 50)] for number in range(4000)]
    data = b"".join(map(wire, commands))
    slowly = 0
    step = StrictReader._step

    def counted(self: StrictReader, found: list[list[bytes]]) -> bool:
        nonlocal slowly
        slowly += 1
        return step(self, found)

    monkeypatch.setattr(StrictReader, "_step", counted)
    assert read(data, size, Config()) == (commands, None, 0)
    assert slowly < 10 * (len(data) // size + 1), "more than the one request that was cut"
