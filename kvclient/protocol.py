"""RESP2 and RESP3 as a client speaks them, without I/O: commands to bytes, bytes to replies.

Guarantees:

* ``encode`` is the only way a command becomes bytes; a value can hold anything.
* ``Decoder.next`` gives a whole reply or ``NEED_DATA``, never a part of one, wherever the bytes
  were cut; it looks at each byte a bounded number of times.
* Nothing is allocated for what a length merely declares, and every limit ends in ProtocolError.
  After one, the decoder stays dead: where the next reply begins cannot be known any more.

How replies look in Python: a simple string is ``str``, a bulk string ``bytes``, null ``None``, an
error a ``ReplyError`` object (returned, not raised, since it may stand inside an array), a map
``dict``, sets and arrays ``list``, what the server pushes unasked a ``Push``.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, TypeAlias

from kvclient.errors import AuthFailed, ProtocolError, ReplyError, ServerLoading

__all__ = ["NEED_DATA", "Arg", "Decoder", "NeedData", "Push", "Reply", "as_map", "encode"]

Arg: TypeAlias = bytes | bytearray | memoryview | str | int | float
"""What a command's argument may be; text is sent as UTF-8, stray bytes of the shell kept."""

Reply: TypeAlias = Any
"""str | bytes | int | float | bool | None | list | dict | Push | ReplyError"""

MAX_BULK_BYTES: Final = 512 * 1024 * 1024
MAX_ELEMENTS: Final = 1 << 28
MAX_DEPTH: Final = 32
MAX_LINE_BYTES: Final = 64 * 1024
"""A line is a number, a status or an error text; none of them is ever this long."""
MAX_DIGITS: Final = 20
"""Of an integer that fits 64 bits, with its sign."""

_COMPACT_BYTES: Final = 64 * 1024
_AUTH_CODES: Final = ("NOAUTH", "WRONGPASS", "NOPERM", "DENIED")


class NeedData(Enum):
    """The type of the one object that means: no whole reply yet."""

    NEED_DATA = "NEED_DATA"


NEED_DATA: Final = NeedData.NEED_DATA


class Push(list[Any]):
    """What the server sends unasked: a message of a subscription, mostly."""


def encode(*args: Arg) -> bytes:
    """Return one command as the wire wants it."""
    parts: list[bytes | bytearray | memoryview] = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = _bytes_of(arg)
        parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(parts)


def _bytes_of(arg: Arg) -> bytes | bytearray | memoryview:
    if isinstance(arg, str):
        return arg.encode("utf-8", "surrogateescape")
    if isinstance(arg, bool):
        raise TypeError("a command has no argument of type bool; say 0 or 1")
    if isinstance(arg, int | float):
        return repr(arg).encode()
    if isinstance(arg, memoryview):
        return arg.cast("B") if arg.format != "B" or arg.ndim != 1 else arg
    return arg


def as_map(reply: Reply) -> dict[Any, Any]:
    """Return a map that RESP2 sent as a flat array as the map it stands for."""
    if isinstance(reply, dict):
        return reply
    if not isinstance(reply, list) or len(reply) % 2:
        raise ProtocolError("expected a map")
    return dict(zip(reply[::2], reply[1::2], strict=True))


class _Frame:
    """An aggregate that is being read."""

    __slots__ = ("items", "kind", "left")

    def __init__(self, kind: int, left: int) -> None:
        self.kind = kind
        self.left = left
        self.items: list[Any] = []


_OPENED: Final = object()


class Decoder:
    """Bytes in, replies out; one for each connection."""

    def __init__(
        self,
        *,
        max_bulk_bytes: int = MAX_BULK_BYTES,
        max_elements: int = MAX_ELEMENTS,
        max_depth: int = MAX_DEPTH,
    ) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._stack: list[_Frame] = []
        self._max_bulk_bytes = max_bulk_bytes
        self._max_elements = max_elements
        self._max_depth = max_depth
        self._error: str | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they came from the peer."""
        if self._at > _COMPACT_BYTES and self._at * 2 > len(self._buffer):
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    @property
    def pending_bytes(self) -> int:
        """Bytes taken that no reply has used yet."""
        return len(self._buffer) - self._at

    def replies(self) -> Iterable[Reply]:
        """Yield every reply that is complete."""
        while (reply := self.next()) is not NEED_DATA:
            yield reply

    def next(self) -> Reply | NeedData:
        """Return the next reply, or NEED_DATA. Raises ProtocolError, then and ever after."""
        if self._error is not None:
            raise ProtocolError(self._error)
        try:
            return self._next()
        except ProtocolError as error:
            self._error = str(error)
            self._buffer.clear()
            self._stack.clear()
            raise

    def _next(self) -> Reply | NeedData:
        stack = self._stack
        while True:
            value = self._one()
            if value is NEED_DATA:
                if self._at == len(self._buffer):
                    self._buffer.clear()
                    self._at = 0
                return NEED_DATA
            if value is _OPENED:
                if stack[-1].left:
                    continue
                value = _close(stack.pop())
            while stack:
                frame = stack[-1]
                if value is not _ATTRIBUTE:
                    frame.items.append(value)
                    frame.left -= 1
                    if frame.left:
                        break
                    value = _close(stack.pop())
                else:
                    break
            else:
                if value is not _ATTRIBUTE:
                    return value

    def _one(self) -> Any:
        """Read one scalar, or open one aggregate."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\r\n", at, at + MAX_LINE_BYTES)
        if end < 0:
            if len(buffer) - at >= MAX_LINE_BYTES:
                raise ProtocolError("the server sent a line without an end")
            return NEED_DATA
        if end == at:
            raise ProtocolError("the server sent an empty line instead of a reply")
        kind = buffer[at]
        line = bytes(buffer[at + 1 : end])
        if kind in b"$=!":
            return self._bulk(kind, line, end + 2)
        self._at = end + 2
        if kind == 0x3A:  # :
            return _integer(line)
        if kind == 0x2B:  # +
            return line.decode("utf-8", "surrogateescape")
        if kind in b"*%~>|":
            return self._open(kind, line)
        if kind == 0x2D:  # -
            return _error(line)
        if kind == 0x5F:  # _
            return None
        if kind == 0x23 and line in {b"t", b"f"}:  # #
            return line == b"t"
        if kind == 0x2C:  # ,
            return _double(line)
        if kind == 0x28:  # (
            return _big_number(line)
        raise ProtocolError(f"the server sent {bytes([kind])!r}, which begins no reply")

    def _bulk(self, kind: int, line: bytes, start: int) -> Any:
        size = _length(line)
        if size < 0:
            self._at = start
            return None
        if size > self._max_bulk_bytes:
            raise ProtocolError(f"the server announced a value of {size} bytes")
        stop = start + size
        if len(self._buffer) < stop + 2:
            return NEED_DATA
        if self._buffer[stop : stop + 2] != b"\r\n":
            raise ProtocolError("the server sent a value that is longer than announced")
        self._at = stop + 2
        data = bytes(memoryview(self._buffer)[start:stop])
        if kind == 0x21:  # !
            return _error(data)
        return data[4:] if kind == 0x3D else data  # = has its format in front, "txt:"

    def _open(self, kind: int, line: bytes) -> Any:
        n = _length(line)
        if n < 0:
            return None
        if kind in b"%|":
            n *= 2
        if n > self._max_elements:
            raise ProtocolError(f"the server announced {n} elements")
        if len(self._stack) >= self._max_depth:
            raise ProtocolError("the server sent a reply that is nested too deep")
        self._stack.append(_Frame(kind, n))
        return _OPENED


_ATTRIBUTE: Final = object()


def _close(frame: _Frame) -> Any:
    if frame.kind == 0x25:  # %
        items = frame.items
        return {_hashable(name): value for name, value in zip(items[::2], items[1::2], strict=True)}
    if frame.kind == 0x3E:  # >
        return Push(frame.items)
    if frame.kind == 0x7C:  # | is about the reply that follows; nobody here asks for it
        return _ATTRIBUTE
    return frame.items


def _hashable(name: Any) -> Any:
    if isinstance(name, list):
        return tuple(_hashable(part) for part in name)
    if isinstance(name, dict):
        return tuple((key, _hashable(value)) for key, value in name.items())
    return name


def _error(data: bytes) -> ReplyError:
    text = data.decode("utf-8", "backslashreplace")
    if text.startswith(_AUTH_CODES):
        return AuthFailed(text)
    return ServerLoading(text) if text.startswith("LOADING") else ReplyError(text)


def _length(line: bytes) -> int:
    if line == b"-1":
        return -1
    if not line.isdigit() or len(line) > MAX_DIGITS:
        raise ProtocolError(f"the server sent {line[:32]!r} for a length")
    return int(line)


def _integer(line: bytes) -> int:
    digits = line[1:] if line[:1] in {b"-", b"+"} else line
    if not digits.isdigit() or len(digits) > MAX_DIGITS:
        raise ProtocolError(f"the server sent {line[:32]!r} for an integer")
    return int(line)


def _big_number(line: bytes) -> int:
    digits = line[1:] if line[:1] in {b"-", b"+"} else line
    if not digits.isdigit() or len(digits) > 4000:  # int() itself refuses more
        raise ProtocolError(f"the server sent {line[:32]!r} for a big number")
    return int(line)


def _double(line: bytes) -> float:
    try:
        if b"_" in line:
            raise ValueError
        return float(line)
    except ValueError:
        raise ProtocolError(f"the server sent {line[:32]!r} for a number") from None
