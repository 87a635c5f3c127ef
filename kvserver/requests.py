"""Requests in: bytes of one client to commands, as strictly as Redis reads them. No I/O.

Guarantees, property-tested:

* However the bytes are cut into pieces, the commands and the error are the same.
* Whatever the bytes, the outcome is commands, then perhaps one error with Redis's text; commands
  before the error are given out first.
* Nothing is allocated because a length was *declared*; what is kept is what came.

Two ways to the same result (``quick`` is a third for the simplest chunks). ``_Strict`` is the
reference: plain Python, incremental, goes byte for byte by Redis's rules. A whole chunk goes to
hiredis, which parses in C but accepts more than Redis does (nested arrays, other types) and makes
room for an array of any declared size. So that is done only for a chunk that starts at a request's
border and declares no array of more than 9999, and the result counts only when it consists of
plain arrays of bulk strings. Otherwise nothing has happened yet, and the same bytes go the strict
way.
"""

from __future__ import annotations

import re
from io import BytesIO
from itertools import chain
from secrets import token_hex
from typing import Any, Final

import hiredis

from kvserver.config import Config
from kvserver.resp import bulks
from kvserver.runs import NEXT

__all__ = ["RequestReader", "split_inline"]

_PREFIX: Final = "Protocol error: "
_STAR: Final = 42
_LARGE_ARRAY: Final = re.compile(rb"\*\d{5}").search
_OTHER_TYPES: Final = re.compile(rb"\r\n[+(=]").search
_LENGTH: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch
_ONLY_BYTES: Final = {bytes}
_ONLY_LISTS: Final = {list}
_RARE_TYPES: Final = tuple(b"+-,#_%~>|!(=")
_ALL: Final = 1 << 60
_ARRAY_HEAD_BYTES: Final = 8
_LARGE_BYTES: Final = 1024
"""Of one request, from which on a search through it costs more than to copy it."""
_QUICK_ARGS: Final = 10_000
_QUICK_BYTES: Final = 1 << 16
"""With limits below these the quick way, which does not count, would let too much through."""
_LARGE_BULK_BYTES: Final = 1 << 17
"""A longer argument is put together where it can stay: to copy 16 MB takes 10 ms."""
_MANY_ARGS: Final = 16
"""With fewer still to come, one by one is as quick."""
_LONG_BYTES: Final = 4096
"""To look at the end of a chunk first costs little compared to reading so many bytes twice."""
_flatten: Final = chain.from_iterable

Command = list[bytes]


class RequestReader:
    """What one client has sent and not yet been answered for."""

    __slots__ = ("_config", "_small_limits", "_strict", "error", "limited")

    def __init__(self, config: Config, *, limited: bool = False) -> None:
        self._config = config
        self._small_limits = config.max_args < _QUICK_ARGS or config.max_bulk_bytes < _QUICK_BYTES
        self._strict: _Strict | None = None
        self.error: str | None = None
        """Set once the bytes are no requests; the connection is to be closed after saying so."""
        self.limited = limited
        """The client is not authenticated: small requests only."""

    @property
    def idle(self) -> bool:
        """Whether a new chunk starts at a request's border and nothing forbids the quick way."""
        return self._strict is None and not self.limited and not self._small_limits

    @property
    def broken(self) -> bool:
        """Whether the bytes are no requests."""
        return self.error is not None

    @property
    def held_bytes(self) -> int:
        """Bytes of a request that is not complete."""
        return self._strict.held_bytes if self._strict is not None else 0

    def feed(self, data: bytes) -> list[Command]:
        """Return the commands that are complete now; look at ``error`` afterwards."""
        if self.broken:
            return []
        strict = self._strict
        if strict is not None:
            if self.limited:
                return self._feed_strict(data)
            begun = self._feed_strict(data, 1)  # the request that had begun; then the quick way
            if not begun or not strict.held_bytes:
                return begun
            self._strict = None
            return begun + self.feed(strict.rest())
        if self.idle and data[0] == _STAR and not _declares_large_array(data):
            commands = self._quick(data)
            if commands is not None:
                return commands
        return self._feed_strict(data)

    def _feed_strict(self, data: bytes, at_most: int = _ALL) -> list[Command]:
        strict = self._strict
        if strict is None:
            strict = self._strict = _Strict(self._config, limited=self.limited)
        commands, self.error = strict.feed(data, at_most)
        if self.error is None and strict.held_bytes == 0:
            self._strict = None
        return commands

    def _quick(self, data: bytes) -> list[Command] | None:
        """Parse a chunk in C; None when this is a matter for the strict parser.

        A chunk that ends inside a request, as those of a long pipeline do, is cut before it.
        """
        end = data.rfind(NEXT)
        if end < 0:
            return _parsed(data)
        last = end + 2
        if len(data) < _LONG_BYTES:  # as a rule it ends where a request ends
            commands = _parsed(data)
            if commands is not None:
                return commands
        elif _parsed(data[last:]) is not None:
            return _parsed(data)
        commands = _parsed(data[:last])
        return None if commands is None else commands + self._feed_strict(data[last:])


_MARK_READ: Final = [token_hex(8).encode()]
_MARK: Final = bulks(_MARK_READ)
"""A request put behind every chunk: it comes out as it is only when the chunk ends at a border.

Nobody can know it. A client that could send it, and half a request behind it, would leave that half
in the parser of all: the next client's request would become an argument of it.
"""

_reader = hiredis.Reader()
"""One for all clients, because it is empty between two calls; replaced when it is not."""


def _parsed(data: bytes) -> list[Command] | None:
    """Parse whole requests in C; None when it is anything else, or perhaps is."""
    global _reader  # noqa: PLW0603 - see there
    try:
        _reader.feed(data)
        _reader.feed(_MARK)
        commands: list[Any] = list(iter(_reader.gets, False))
    except (hiredis.HiredisError, TypeError):
        commands = []
    except BaseException:  # out of memory, say: what is left in it is nobody else's
        _reader = hiredis.Reader()
        raise
    if not commands or commands.pop() != _MARK_READ:  # it was taken for a part of a request
        _reader = hiredis.Reader()
        return None
    return commands if _is_plain(data, commands) else None


def _is_plain(data: bytes, commands: list[Any]) -> bool:
    """Whether hiredis read nothing but arrays of bulk strings, none of them empty."""
    if not all(commands) or set(map(type, commands)) != _ONLY_LISTS:
        return not commands
    if len(data) > _LARGE_BYTES * len(commands):  # to write it again costs less than to search
        try:
            return b"".join(map(bulks, commands)) == data
        except TypeError:
            return False
    if (
        data.count(b"*") == len(commands)
        and not any(map(data.__contains__, _RARE_TYPES))
        and b"\r\n:" not in data
    ):
        return True  # no byte in it can begin anything but a request or a bulk string
    try:
        if set(map(type, _flatten(commands))) != _ONLY_BYTES:
            return False
    except TypeError:
        return False
    # A status, a big number and a verbatim string are bytes too; they show by their first byte.
    return _OTHER_TYPES(data) is None


def _declares_large_array(data: bytes) -> bool:
    """Whether a request in it may be an array of more than 9999."""
    end = _ARRAY_HEAD_BYTES if data.find(b"*", 1) < 0 else len(data)
    return _LARGE_ARRAY(data, 0, end) is not None


class _Strict:
    """The reference: an incremental parser by the rules of Redis 7."""

    __slots__ = (
        "_args",
        "_args_bytes",
        "_buffer",
        "_bulk",
        "_config",
        "_large",
        "_left",
        "_limited",
        "_many",
        "_need",
        "_pos",
    )

    def __init__(self, config: Config, *, limited: bool) -> None:
        self._config = config
        self._limited = limited
        self._buffer = bytearray()
        self._pos = 0
        self._args: list[bytes] = []
        self._args_bytes = 0
        self._left = 0
        """Arguments of the current array that have not come."""
        self._bulk = -1
        """Length of the current argument, -1 when its header has not come."""
        self._need = 0
        """Do not look again before so many bytes are here."""
        self._large: BytesIO | None = None
        """The current argument, as far as it has come, if it is a large one."""
        self._many = False
        """Whether to try to read many arguments of this chunk at once."""

    @property
    def held_bytes(self) -> int:
        """Bytes that are kept because a request is not complete."""
        large = 0 if self._large is None else self._large.tell()
        return len(self._buffer) - self._pos + self._args_bytes + self._left + large

    def rest(self) -> bytes:
        """Return the bytes that were not looked at, when a request has just come to its end."""
        return bytes(self._buffer)

    def feed(self, data: bytes, at_most: int) -> tuple[list[Command], str | None]:
        """Return up to so many requests, and what is wrong with what follows if something is."""
        if self._large is not None:
            data = self._feed_large(self._large, data)
        self._buffer += data
        commands: list[Command] = []
        if len(self._buffer) < self._need:
            return commands, None
        self._need = 0
        self._many = not self._limited
        error = None
        try:
            while len(commands) < at_most and self._step(commands):
                pass
        except _Broken as broken:
            error = _PREFIX + str(broken)
        del self._buffer[: self._pos]
        self._pos = 0
        return commands, error

    def _feed_large(self, large: BytesIO, data: bytes) -> bytes:
        """Add what belongs to a large argument; return the rest."""
        missing = self._bulk - large.tell()
        large.write(data if len(data) <= missing else data[:missing])
        return data[missing:]

    def _step(self, commands: list[Command]) -> bool:
        """Read one element; False when more bytes are needed."""
        if self._left:
            if self._many and self._bulk < 0 and self._left >= _MANY_ARGS:
                self._read_arguments()
            return self._read_argument(commands)
        if self._pos == len(self._buffer):
            return False
        if self._buffer[self._pos] == _STAR:
            return self._read_count()
        return self._read_inline(commands)

    def _read_count(self) -> bool:
        line = self._line("too big mbulk count string")
        if line is None:
            return False
        count = _length(line[1:])
        if count is None or count > self._config.max_args:
            raise _Broken("invalid multibulk length")
        if self._limited and count > self._config.max_unauthenticated_args:
            raise _Broken("unauthenticated multibulk length")
        self._pos += len(line) + 2
        self._left = max(count, 0)
        return True

    def _read_argument(self, commands: list[Command]) -> bool:
        if self._bulk < 0:
            line = self._line("too big bulk count string")
            if line is None:
                return False
            if line[:1] != b"$":
                raise _Broken(f"expected '$', got '{line[:1].decode('latin-1')}'")
            size = _length(line[1:])
            if size is None or not 0 <= size <= self._config.max_bulk_bytes:
                raise _Broken("invalid bulk length")
            if self._limited and size > self._config.max_unauthenticated_bulk_bytes:
                raise _Broken("unauthenticated bulk length")
            self._pos += len(line) + 2
            self._bulk = size
        large = self._large
        end = self._pos + (self._bulk if large is None else 0)
        if len(self._buffer) < end + 2:
            del self._buffer[: self._pos]
            self._pos = 0
            if large is None and self._bulk > _LARGE_BULK_BYTES:
                self._large = BytesIO()
                self._buffer = bytearray(self._feed_large(self._large, bytes(self._buffer)))
            self._need = 2 if self._large is not None else self._bulk + 2
            return False
        if large is None:
            with memoryview(self._buffer) as buffer:  # one copy instead of two
                self._args.append(bytes(buffer[self._pos : end]))
        else:
            self._args.append(large.getvalue())
            self._large = None
        self._args_bytes += self._bulk
        self._pos = end + 2
        self._bulk = -1
        self._left -= 1
        if self._left == 0:
            commands.append(self._args)
            self._args = []
            self._args_bytes = 0
        return True

    def _read_arguments(self) -> None:
        """Read all but the last of the arguments that are whole, as far as that is easy.

        Cut at the line ends, every second piece must be the header of the next. What is so reads
        the same byte for byte; an argument with a line end in it is not, and is left where it is.
        """
        self._many = False
        pieces = bytes(self._buffer[self._pos :]).split(b"\r\n")
        whole = min((len(pieces) - 1) // 2, self._left - 1)
        heads, args = pieces[: 2 * whole : 2], pieces[1 : 2 * whole : 2]
        sizes = list(map(len, args))
        wanted = [b"$%d" % size for size in sizes]
        if heads != wanted:
            whole = next(n for n, head in enumerate(heads) if head != wanted[n])
            del args[whole:], sizes[whole:]
        if not args or max(sizes) > self._config.max_bulk_bytes:
            return
        self._args += args
        self._args_bytes += sum(sizes)
        self._left -= whole
        self._pos += sum(map(len, heads[:whole])) + sum(sizes) + 4 * whole

    def _line(self, too_long: str) -> bytes | None:
        """Return the header line at the position, without its end; None when it is not whole."""
        end = self._buffer.find(b"\r", self._pos, self._pos + self._config.max_inline_bytes + 1)
        if end < 0:
            if len(self._buffer) - self._pos > self._config.max_inline_bytes:
                raise _Broken(too_long)
            return None
        if len(self._buffer) < end + 2:
            return None
        return bytes(self._buffer[self._pos : end])

    def _read_inline(self, commands: list[Command]) -> bool:
        end = self._buffer.find(b"\n", self._pos)
        limit = self._config.max_inline_bytes
        if end < 0:
            if len(self._buffer) - self._pos > limit:
                raise _Broken("too big inline request")
            return False
        line = bytes(self._buffer[self._pos : end]).removesuffix(b"\r")
        args = split_inline(line)
        if args is None:
            raise _Broken("unbalanced quotes in request")
        self._pos = end + 1
        if args:
            commands.append(args)
        return True


class _Broken(Exception):
    """The bytes are no request."""


def _length(raw: bytes) -> int | None:
    return int(raw) if _LENGTH(raw) else None


_SPACE: Final = frozenset(b" \t\n\r\x0b\x0c")
_ESCAPES: Final = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_QUOTE, _APOSTROPHE, _BACKSLASH = b"\"'\\"


def split_inline(line: bytes) -> list[bytes] | None:
    """Split a line as a person types it, with quotes and escapes; None if they do not close."""
    if b'"' not in line and b"'" not in line:
        return line.partition(b"\0")[0].split()  # at the same characters as below
    args: list[bytes] = []
    at, size = 0, len(line)
    while True:
        while at < size and line[at] in _SPACE:
            at += 1
        if at == size or line[at] == 0:
            return args
        arg = bytearray()
        while at < size and line[at] not in _SPACE and line[at] != 0:
            if line[at] in {_QUOTE, _APOSTROPHE}:
                end = _read_quoted(line, at, arg)
                if end is None or (end < size and line[end] not in _SPACE):
                    return None
                at = end
                break
            arg.append(line[at])
            at += 1
        args.append(bytes(arg))


def _read_quoted(line: bytes, at: int, arg: bytearray) -> int | None:
    """Append what is between quotes; return the position behind, None when they do not close."""
    quote = line[at]
    at += 1
    size = len(line)
    while at < size:
        byte = line[at]
        if byte == quote:
            return at + 1
        if byte == _BACKSLASH and quote == _QUOTE and at + 1 < size:
            digits = line[at + 2 : at + 4]
            if line[at + 1] == ord("x") and len(digits) == 2 and _HEX.issuperset(digits):
                arg.append(int(digits, 16))
                at += 4
                continue
            at += 1
            byte = _ESCAPES.get(line[at], line[at])
        elif byte == _BACKSLASH and line[at + 1 : at + 2] == b"'":
            at += 1
            byte = _APOSTROPHE
        arg.append(byte)
        at += 1
    return None
