"""Replies as bytes: RESP2 and RESP3 encoders. No I/O, no state.

A handler returns one encoded reply. Encoders whose form depends on the protocol version take
``resp`` (2 or 3), which every session knows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = [
    "BULK_HEADS",
    "EMPTY_ARRAY",
    "EMPTY_BULK",
    "NULL",
    "NULL_ARRAY",
    "OK",
    "ONE",
    "PONG",
    "QUEUED",
    "ZERO",
    "LongArray",
    "array",
    "boolean",
    "bulk",
    "bulks",
    "double",
    "encode",
    "error",
    "integer",
    "mapping",
    "push",
    "set_of",
    "simple",
    "split_replies",
    "verbatim",
]

OK: Final = b"+OK\r\n"
PONG: Final = b"+PONG\r\n"
QUEUED: Final = b"+QUEUED\r\n"
ZERO: Final = b":0\r\n"
ONE: Final = b":1\r\n"
EMPTY_BULK: Final = b"$0\r\n\r\n"
EMPTY_ARRAY: Final = b"*0\r\n"
NULL: Final = {2: b"$-1\r\n", 3: b"_\r\n"}
"""What stands for no value; a session has its own as ``session.null``."""
NULL_ARRAY: Final = {2: b"*-1\r\n", 3: b"_\r\n"}
"""What stands for no array (an EXEC that was cancelled)."""


BULK_HEADS: Final = [b"$%d\r\n" % size for size in range(4096)]
"""What stands before a string of so many bytes."""


def simple(text: str) -> bytes:
    """A status line; the text holds no line end."""
    return b"+%b\r\n" % text.encode()


def error(text: str) -> bytes:
    """An error reply; as in Redis line ends become spaces, and those at the end go."""
    line = (
        text.rstrip("\r\n")
        .encode("utf-8", "surrogateescape")
        .replace(b"\r", b" ")
        .replace(b"\n", b" ")
    )
    return b"-%b\r\n" % line


def integer(value: int) -> bytes:
    """A number."""
    return b":%d\r\n" % value


def bulk(value: bytes) -> bytes:
    """A string of bytes."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(items: Sequence[bytes]) -> bytes:
    """An array of replies that are encoded already."""
    return b"*%d\r\n%b" % (len(items), b"".join(items))


class LongArray:
    """An array that is put together a slice at a time, so that no step takes long."""

    __slots__ = ("_count", "_parts")

    def __init__(self) -> None:
        self._parts = [b""]
        self._count = 0

    def add(self, items: Sequence[bytes]) -> None:
        """Append small replies that are encoded already."""
        self.add_parts(len(items), [b"".join(items)])

    def add_parts(self, count: int, parts: Sequence[bytes]) -> None:
        """The same for so many replies, in whatever parts."""
        self._count += count
        self._parts += parts

    def parts(self) -> list[bytes]:
        """Return the whole array, nothing copied."""
        self._parts[0] = b"*%d\r\n" % self._count
        return self._parts


def bulks(values: Iterable[bytes]) -> bytes:
    """An array of strings."""
    return array([b"$%d\r\n%b\r\n" % (len(value), value) for value in values])


def mapping(resp: int, pairs: Mapping[bytes, bytes] | Sequence[tuple[bytes, bytes]]) -> bytes:
    """A map whose keys and values are encoded already; in RESP2 a flat array."""
    items = list(pairs.items()) if isinstance(pairs, Mapping) else pairs
    body = b"".join([part for pair in items for part in pair])
    return (b"%%%d\r\n%b" % (len(items), body)) if resp == 3 else _flat(len(items), body)


def _flat(pairs: int, body: bytes) -> bytes:
    return b"*%d\r\n%b" % (2 * pairs, body)


def set_of(resp: int, items: Sequence[bytes]) -> bytes:
    """A set of replies that are encoded already, in this order; in RESP2 an array."""
    return (b"~%d\r\n%b" if resp == 3 else b"*%d\r\n%b") % (len(items), b"".join(items))


def push(resp: int, items: Sequence[bytes]) -> bytes:
    """What comes without being asked for (a message, an invalidation); in RESP2 an array."""
    return (b">%d\r\n%b" if resp == 3 else b"*%d\r\n%b") % (len(items), b"".join(items))


def double(resp: int, value: float) -> bytes:
    """A floating point number; in RESP2 a string."""
    if math.isnan(value):
        text = b"nan"
    elif math.isinf(value):
        text = b"inf" if value > 0 else b"-inf"
    elif value == int(value) and abs(value) < 1e17:
        text = b"%d" % int(value)
    else:
        text = repr(value).encode()
    return b",%b\r\n" % text if resp == 3 else bulk(text)


def boolean(resp: int, value: bool) -> bytes:
    """True or false; in RESP2 1 or 0."""
    if resp == 3:
        return b"#t\r\n" if value else b"#f\r\n"
    return ONE if value else ZERO


def verbatim(resp: int, text: bytes) -> bytes:
    """Text for people; in RESP2 a plain string."""
    return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if resp == 3 else bulk(text)


def encode(resp: int, value: Any) -> bytes:
    """Encode a plain Python value: None, bool, int, float, bytes, str, list, tuple, set or dict."""
    if value is None:
        return NULL[resp]
    kind = type(value)
    if kind is bool:
        return boolean(resp, value)
    if kind is int:
        return integer(value)
    if kind is float:
        return double(resp, value)
    if kind is str:
        return bulk(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, bytes | bytearray):
        return bulk(bytes(value))
    if isinstance(value, Mapping):
        return mapping(
            resp, [(encode(resp, name), encode(resp, part)) for name, part in value.items()]
        )
    if isinstance(value, set | frozenset):
        items = [encode(resp, part) for part in sorted(value)]
        return (b"~%d\r\n%b" if resp == 3 else b"*%d\r\n%b") % (len(items), b"".join(items))
    return array([encode(resp, part) for part in value])


def split_replies(data: bytes) -> list[bytes]:
    """Cut replies apart; they must be whole, as those that this module makes."""
    replies, at = [], 0
    while at < len(data):
        end = _end_of_reply(data, at)
        replies.append(data[at:end])
        at = end
    return replies


def _end_of_reply(data: bytes, at: int) -> int:
    end = data.index(b"\r\n", at) + 2
    kind = data[at : at + 1]
    if kind in b"$=":
        size = int(data[at + 1 : end])
        return end if size < 0 else end + size + 2
    if kind in b"*~>%":
        for _ in range(int(data[at + 1 : end]) * (2 if kind == b"%" else 1)):
            end = _end_of_reply(data, end)
    return end
