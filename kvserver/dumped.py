"""A string as DUMP gives it and RESTORE takes it: Redis's own format, both ways. Pure.

    type 0 | the string as in an RDB file | RDB version, 2 bytes | CRC-64 of all before, 8 bytes

The two numbers at the end are little endian. The string is one of::

    length, bytes                       a length is 1, 2, 5 or 9 bytes, big endian
    0xC0 + width, number                a number in its canonical form, of 1, 2 or 4 bytes
    0xC3, length, length, compressed    by LZF; the lengths of what is compressed and of the string

What is written is what Redis writes, but for LZF: it is not used here, because Redis reads both,
and compressing in Python would take longer than sending what it saves.

Written is version 10, which is that of Redis 7.0. Read are all from 1 to 12. Redis refuses what is
newer than itself, because types of its own have changed; strings have been the same in all of
these versions, so that a key can be brought here from Redis 7.2, 7.4 and 8.0, too.

A payload is believed nothing: sizes are compared with the bytes there are before anything is made
of them, and nothing may be left over. (Redis ignores what is left, and lets a string reach into the
footer.) A checksum of zero is compared like any other: that it stands for none is a rule of RDB
files alone.

Both ways are generators which yield between steps of about a millisecond.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeVar

from kvserver.crc64 import BLOCK_BYTES, crc64
from kvserver.errors import CommandError
from kvserver.numbers import parse_int

__all__ = ["BAD_FOOTER", "BAD_FORMAT", "Steps", "around", "unpacked"]

_T = TypeVar("_T")
Steps = Generator[None, None, _T]

BAD_FOOTER: Final = "ERR DUMP payload version or checksum are wrong"
BAD_FORMAT: Final = "ERR Bad data format"

_STRING: Final = 0
_VERSION: Final = 10
_VERSIONS_READ: Final = range(1, 13)
_VERSION_BYTES: Final = 2
_CHECKSUM_BYTES: Final = 8
_FOOTER_BYTES: Final = _VERSION_BYTES + _CHECKSUM_BYTES

_NUMBER_WIDTHS: Final = {0xC0: 1, 0xC1: 2, 0xC2: 4}
_COMPRESSED: Final = 0xC3
_LONG_LENGTHS: Final = {0x80: 4, 0x81: 8}
"""First byte of a length -> how many bytes of it follow."""
_NUMBER_CHARS: Final = len("-2147483648")

_MOST_GROWTH: Final = 88
"""LZF makes at most 264 bytes of three."""
_PIECES_AT_ONCE: Final = 2048


def around(value: bytes) -> Steps[tuple[bytes, bytes, bytes]]:
    """Return a string's payload in three parts: what comes first, the string itself, the footer.

    In parts, so that a long string is copied once, when the reply is put together. Of a number the
    first part says everything, and the second is empty.
    """
    number = parse_int(value) if len(value) <= _NUMBER_CHARS else None
    if number is None or not -(2**31) <= number < 2**31:
        head = _length_bytes(len(value))
    else:
        head, value = _number_bytes(number), b""
    head = bytes((_STRING,)) + head
    version = _VERSION.to_bytes(_VERSION_BYTES, "little")
    crc = yield from _checksum(value, crc64(head))
    return head, value, version + crc64(version, crc).to_bytes(_CHECKSUM_BYTES, "little")


def _number_bytes(number: int) -> bytes:
    for mark, width in _NUMBER_WIDTHS.items():
        if -(1 << 8 * width - 1) <= number < 1 << 8 * width - 1:
            return bytes((mark,)) + number.to_bytes(width, "little", signed=True)
    raise AssertionError(number)


def _length_bytes(length: int) -> bytes:
    if length < 1 << 6:
        return bytes((length,))
    if length < 1 << 14:
        return (0x4000 | length).to_bytes(2, "big")
    if length < 1 << 32:
        return b"\x80" + length.to_bytes(4, "big")
    return b"\x81" + length.to_bytes(8, "big")


def _checksum(data: bytes | memoryview, crc: int) -> Steps[int]:
    view = memoryview(data)
    for start in range(0, len(view), BLOCK_BYTES):
        if start:
            yield
        crc = crc64(view[start : start + BLOCK_BYTES], crc)
    return crc


def unpacked(payload: bytes, max_bytes: int) -> Steps[bytes]:
    """Return the string that a payload holds; one longer than ``max_bytes`` is refused.

    Raises CommandError, with the texts of Redis, for whatever is wrong.
    """
    body = memoryview(payload)[:-_FOOTER_BYTES]
    at = len(body)
    version = int.from_bytes(payload[at : at + _VERSION_BYTES], "little")
    if len(payload) < _FOOTER_BYTES or version not in _VERSIONS_READ:
        raise CommandError(BAD_FOOTER)
    crc = yield from _checksum(memoryview(payload)[:-_CHECKSUM_BYTES], 0)
    if crc != int.from_bytes(payload[-_CHECKSUM_BYTES:], "little"):
        raise CommandError(BAD_FOOTER)
    if len(body) < 2 or body[0] != _STRING:
        raise CommandError(BAD_FORMAT)
    kind = body[1]
    if kind in _NUMBER_WIDTHS:
        if len(body) != 2 + _NUMBER_WIDTHS[kind]:
            raise CommandError(BAD_FORMAT)
        return b"%d" % int.from_bytes(body[2:], "little", signed=True)
    if kind == _COMPRESSED:
        packed, at = _length(body, 2)
        length, at = _length(body, at)
        if packed != len(body) - at or not 0 < length <= min(max_bytes, packed * _MOST_GROWTH):
            raise CommandError(BAD_FORMAT)
        return (yield from _expanded(body[at:], length))
    length, at = _length(body, 1)
    if length > max_bytes or length != len(body) - at:
        raise CommandError(BAD_FORMAT)
    return bytes(body[at:])


def _length(body: memoryview, at: int) -> tuple[int, int]:
    """Read a length in any of its forms; return it and where it ends."""
    if at >= len(body):
        raise CommandError(BAD_FORMAT)
    first = body[at]
    at += 1
    if first < 0x40:
        return first, at
    more = 1 if first < 0x80 else _LONG_LENGTHS.get(first, 0)
    end = at + more
    if not more or end > len(body):
        raise CommandError(BAD_FORMAT)
    length = int.from_bytes(body[at:end], "big")
    return (length | (first & 0x3F) << 8 if more == 1 else length), end


def _expanded(packed: memoryview, length: int) -> Steps[bytes]:
    """Undo LZF. It is pieces, which are either bytes as they are or a stretch of those before.

    A first byte below 32 is the number of bytes that follow, less one. In any other the upper three
    bits are the stretch's length less two (7: the next byte adds to it), and the lower five, with
    the byte that follows, how far back it begins, less one. It may reach into itself.
    """
    out = bytearray()
    at, end, pieces = 0, len(packed), 0
    while at < end:
        first = packed[at]
        at += 1
        if first < 32:
            stop = at + first + 1
            if stop > end:
                raise CommandError(BAD_FORMAT)
            out += packed[at:stop]
            at = stop
        else:
            size = first >> 5
            if size == 7 and at < end:
                size += packed[at]
                at += 1
            if at >= end:
                raise CommandError(BAD_FORMAT)
            start = len(out) - ((first & 31) << 8 | packed[at]) - 1
            at += 1
            if start < 0:
                raise CommandError(BAD_FORMAT)
            size += 2
            stretch = out[start : start + size]
            if len(stretch) < size:
                stretch = (stretch * (size // len(stretch) + 1))[:size]
            out += stretch
        if len(out) > length:
            raise CommandError(BAD_FORMAT)
        pieces += 1
        if pieces % _PIECES_AT_ONCE == 0:
            yield
    if len(out) != length:
        raise CommandError(BAD_FORMAT)
    return bytes(out)
