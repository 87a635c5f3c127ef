"""Requests in, the reference: plain Python that goes byte for byte by the rules of Redis 7. No I/O.

Guarantees, property-tested:

* However the bytes are cut into pieces, the commands and the error are the same.
* Nothing is allocated because a length was *declared*; what is kept is what came.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import Final

from kvserver.config import Config
from kvserver.inline import split_inline

__all__ = ["STAR", "Command", "StrictReader"]

Command = list[bytes]

STAR: Final = 42
_PREFIX: Final = "Protocol error: "
_LENGTH: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch
_LARGE_BULK_BYTES: Final = 1 << 17
"""A longer argument is put together where it can stay: to copy 16 MB takes 10 ms."""
_MANY_ARGS: Final = 16
"""With fewer still to come, one by one is as quick."""


class _BrokenError(Exception):
    """The bytes are no request."""


class StrictReader:
    """What one client has sent and not yet been answered for, read by the rules."""

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
        except _BrokenError as broken:
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
        if self._buffer[self._pos] == STAR:
            return self._read_count()
        return self._read_inline(commands)

    def _read_count(self) -> bool:
        line = self._line("too big mbulk count string")
        if line is None:
            return False
        count = _length(line[1:])
        if count is None or count > self._config.max_args:
            raise _BrokenError("invalid multibulk length")
        if self._limited and count > self._config.max_unauthenticated_args:
            raise _BrokenError("unauthenticated multibulk length")
        self._pos += len(line) + 2
        self._left = max(count, 0)
        return True

    def _read_argument(self, commands: list[Command]) -> bool:
        if self._bulk < 0:
            line = self._line("too big bulk count string")
            if line is None:
                return False
            if line[:1] != b"$":
                raise _BrokenError(f"expected '$', got '{line[:1].decode('latin-1')}'")
            size = _length(line[1:])
            if size is None or not 0 <= size <= self._config.max_bulk_bytes:
                raise _BrokenError("invalid bulk length")
            if self._limited and size > self._config.max_unauthenticated_bulk_bytes:
                raise _BrokenError("unauthenticated bulk length")
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
                raise _BrokenError(too_long)
            return None
        if len(self._buffer) < end + 2:
            return None
        return bytes(self._buffer[self._pos : end])

    def _read_inline(self, commands: list[Command]) -> bool:
        end = self._buffer.find(b"\n", self._pos)
        limit = self._config.max_inline_bytes
        if end < 0:
            if len(self._buffer) - self._pos > limit:
                raise _BrokenError("too big inline request")
            return False
        line = bytes(self._buffer[self._pos : end]).removesuffix(b"\r")
        args = split_inline(line)
        if args is None:
            raise _BrokenError("unbalanced quotes in request")
        self._pos = end + 1
        if args:
            commands.append(args)
        return True


def _length(raw: bytes) -> int | None:
    return int(raw) if _LENGTH(raw) else None
