"""Requests in: bytes of one client to commands, as strictly as Redis reads them. No I/O.

Guarantees, property-tested:

* However the bytes are cut into pieces, the commands and the error are the same.
* Whatever the bytes, the outcome is commands, then perhaps one error with Redis's text; commands
  before the error are given out first.
* Nothing is allocated because a length was *declared*; what is kept is what came.

Two ways to the same result (``quick`` is a third for the simplest chunks). ``strict`` is the
reference: plain Python, incremental, byte for byte by Redis's rules. A whole chunk goes to
hiredis, which parses in C but accepts more than Redis does (nested arrays, other types) and makes
room for an array of any declared size. So that is done only for a chunk that starts at a request's
border and declares no array of more than 9999, and the result counts only when it consists of
plain arrays of bulk strings. Otherwise nothing has happened yet, and the same bytes go the strict
way.
"""

from __future__ import annotations

import re
from itertools import chain
from secrets import token_hex
from typing import Any, Final

import hiredis

from kvserver.config import Config
from kvserver.resp import bulks
from kvserver.runs import NEXT
from kvserver.strict import STAR, Command, StrictReader

__all__ = ["RequestReader"]

_LARGE_ARRAY: Final = re.compile(rb"\*\d{5}").search
_OTHER_TYPES: Final = re.compile(rb"\r\n[+(=]").search
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
_LONG_BYTES: Final = 4096
"""To look at the end of a chunk first costs little compared to reading so many bytes twice."""
_flatten: Final = chain.from_iterable


class RequestReader:
    """What one client has sent and not yet been answered for."""

    __slots__ = ("_config", "_small_limits", "_strict", "error", "limited")

    def __init__(self, config: Config, *, limited: bool = False) -> None:
        self._config = config
        self._small_limits = config.max_args < _QUICK_ARGS or config.max_bulk_bytes < _QUICK_BYTES
        self._strict: StrictReader | None = None
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
        if self.idle and data[0] == STAR and not _declares_large_array(data):
            commands = self._quick(data)
            if commands is not None:
                return commands
        return self._feed_strict(data)

    def _feed_strict(self, data: bytes, at_most: int = _ALL) -> list[Command]:
        strict = self._strict
        if strict is None:
            strict = self._strict = StrictReader(self._config, limited=self.limited)
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
