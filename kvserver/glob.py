"""Glob patterns as KEYS, SCAN, PSUBSCRIBE and CONFIG GET understand them.

Guarantees the semantics of Redis (``*``, ``?``, ``[a-z]``, ``[^x]``, a backslash escapes, an
unclosed class ends with the pattern) and a cost of at most ``len(pattern) * len(text)`` cheap
steps: no recursion and no backtracking over more than one star, whatever the pattern is.

Two peculiarities are kept on purpose: an empty text is matched by the empty pattern only (KEYS and
SCAN treat the lone ``*`` as "everything" before they come here), and ``[a-]`` is a range up to
``]``. One is not: bytes above 127 are compared as unsigned, on every machine.

How: a pattern is cut at its stars. What is between two stars has a fixed width, and taking its
leftmost occurrence is always right, so each piece is searched once. A short pattern becomes a
regular expression of atomic groups, which is exactly that in C; a long one would take longer to
compile than to match and goes through ``bytes.find`` and a bit-parallel search.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

Matcher = Callable[[bytes], bool]

_ANY: Final = frozenset(range(256))
_SINGLE: Final = [frozenset((byte,)) for byte in range(256)]
_LONG_TOKENS: Final = 64
"""Patterns above this size are not compiled to a regular expression: compiling one of 250 bytes may
take 50 ms, which is a stall that a client must not be able to cause."""

_Piece = list[frozenset[int]]


def compile_glob(pattern: bytes) -> Matcher:
    """Return a function that says whether a text matches ``pattern``."""
    if len(pattern) <= _LONG_TOKENS:
        return _compile_cached(pattern)
    return _compile(pattern)


def glob_match(pattern: bytes, text: bytes) -> bool:
    """Say whether ``text`` as a whole matches ``pattern``."""
    return compile_glob(pattern)(text)


def is_literal(pattern: bytes) -> bool:
    """Say whether ``pattern`` can match nothing but itself, byte for byte."""
    return not any(special in pattern for special in (b"*", b"?", b"[", b"\\"))


def _compile(pattern: bytes) -> Matcher:
    if is_literal(pattern):
        return pattern.__eq__
    pieces = _pieces(pattern)
    if len(pieces) == 2 and not pieces[1] and all(len(token) == 1 for token in pieces[0]):
        prefix = bytes(min(token) for token in pieces[0])
        if not prefix:
            return bool
        return lambda text: text.startswith(prefix)
    if len(pattern) <= _LONG_TOKENS:
        found = re.compile(_expression(pieces), re.DOTALL).fullmatch
        return lambda text: found(text) is not None and text != b""
    return _long_matcher(pieces)


_compile_cached = lru_cache(maxsize=256)(_compile)


def _pieces(pattern: bytes) -> list[_Piece]:
    """Cut a pattern at its stars; each token is the set of bytes that it admits."""
    pieces: list[_Piece] = [[]]
    at = 0
    end = len(pattern)
    while at < end:
        byte = pattern[at]
        if byte == 0x2A:  # *
            if pieces[-1] or len(pieces) == 1:
                pieces.append([])
        elif byte == 0x3F:  # ?
            pieces[-1].append(_ANY)
        elif byte == 0x5B:  # [
            end_of_class = _class_end(pattern, at + 1)
            pieces[-1].append(_character_class(pattern[at + 1 : end_of_class]))
            at = end_of_class
            continue
        else:
            if byte == 0x5C and at + 1 < end:  # an escape
                at += 1
            pieces[-1].append(_SINGLE[pattern[at]])
        at += 1
    return pieces


def _class_end(pattern: bytes, at: int) -> int:
    """Return the place after the ``]`` of the class whose ``[`` is just before ``at``."""
    end = len(pattern)
    if pattern[at : at + 1] == b"^":
        at += 1
    while at < end:
        byte = pattern[at]
        if byte == 0x5D:  # ]
            return at + 1
        if byte == 0x5C and at + 1 < end:
            at += 1
        elif at + 2 < end and pattern[at + 1] == 0x2D:  # a range, whose end may be a bracket
            at += 2
        at += 1
    return end


@lru_cache(maxsize=1024)
def _character_class(inside: bytes) -> frozenset[int]:
    """Return the bytes that a class admits, given what stands behind its ``[``."""
    at, end = 0, len(inside)
    negated = inside[:1] == b"^"
    if negated:
        at += 1
    admitted: set[int] = set()
    while at < end:
        byte = inside[at]
        if byte == 0x5C and at + 1 < end:
            at += 1
            admitted.add(inside[at])
        elif byte == 0x5D:  # ]
            break
        elif at + 2 < end and inside[at + 1] == 0x2D:
            low, high = sorted((byte, inside[at + 2]))
            admitted.update(range(low, high + 1))
            at += 2
        else:
            admitted.add(byte)
        at += 1
    return _ANY - admitted if negated else frozenset(admitted)


def _expression(pieces: Sequence[_Piece]) -> bytes:
    first, *others = pieces
    parts = [b"".join(map(_token_expression, first))]
    if others:
        *middle, last = others
        parts += [b"(?>.*?" + b"".join(map(_token_expression, piece)) + b")" for piece in middle]
        # The last piece must end the text: its place is known, there is nothing to search.
        ending = b"".join(map(_token_expression, last))
        parts.append(b"(?=.{%d})(?>.*)(?<=%b)" % (len(last), ending) if last else b"(?>.*)")
    return b"".join(parts)


def _token_expression(token: frozenset[int]) -> bytes:
    if len(token) == 256:
        return b"."
    if not token:
        return b"(?!)"
    if len(token) == 1:
        return re.escape(bytes(token))
    return b"[" + b"".join(map(_range_expression, _ranges(token))) + b"]"


def _ranges(token: frozenset[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for byte in sorted(token):
        if ranges and ranges[-1][1] == byte - 1:
            ranges[-1] = (ranges[-1][0], byte)
        else:
            ranges.append((byte, byte))
    return ranges


def _range_expression(ends: tuple[int, int]) -> bytes:
    return b"\\x%02x-\\x%02x" % ends


def _long_matcher(pieces: Sequence[_Piece]) -> Matcher:
    first, *others = pieces
    width = sum(map(len, pieces))
    searches: list[_Search] = []

    def matches(text: bytes) -> bool:
        if not text:
            return width == 0 and not others
        if len(text) < width or not _stands_at(first, text, 0):
            return False
        if not others:
            return len(text) == width
        last = others[-1]
        stop = len(text) - len(last)
        if not _stands_at(last, text, stop):
            return False
        if not searches:  # made when first needed: most keys are too short for a long pattern
            searches.extend([_Search(piece) for piece in others[:-1] if piece])
        at = len(first)
        for search in searches:
            at = search.end_of_leftmost(text, at, stop)
            if at < 0:
                return False
        return at <= stop

    return matches


def _stands_at(piece: _Piece, text: bytes, at: int) -> bool:
    return all(map(frozenset.__contains__, piece, text[at : at + len(piece)]))


class _Search:
    """Finds the leftmost occurrence of one fixed-width piece.

    A piece of plain bytes goes to ``bytes.find``, which is linear. Any other one is searched with
    one bit a token and one step a byte of the text (Shift-And); its tables are built when a text
    is first long enough to need them.
    """

    def __init__(self, piece: _Piece) -> None:
        self.piece = piece
        self.width = len(piece)
        self.anything = all(len(token) == 256 for token in piece)
        self.literal: bytes | None = None
        if all(len(token) == 1 for token in piece):
            self.literal = bytes(min(token) for token in piece)
        self.masks: dict[int, int] = {}
        self.common = 0

    def end_of_leftmost(self, text: bytes, start: int, stop: int) -> int:
        """Return where the leftmost occurrence in ``text[start:stop]`` ends, or -1."""
        if self.anything:
            return start + self.width if start + self.width <= stop else -1
        if self.literal is not None:
            found = text.find(self.literal, start, stop)
            return found if found < 0 else found + self.width
        if self.width == 1:
            token = self.piece[0]
            return next((at + 1 for at in range(start, stop) if text[at] in token), -1)
        if not self.masks:
            self._build()
        state = 0
        wanted = 1 << (self.width - 1)
        masks, common = self.masks, self.common
        for at in range(start, stop):
            state = (state << 1 | 1) & masks.get(text[at], common)
            if state & wanted:
                return at + 1
        return -1

    def _build(self) -> None:
        """Fill ``masks``: for each byte that some token names, the places where it may stand."""
        size = (self.width + 7) // 8
        rows: dict[int, bytearray] = {}
        everywhere = bytearray(size)
        for place, token in enumerate(self.piece):
            if len(token) == 256:
                everywhere[place >> 3] |= 1 << (place & 7)
                continue
            for byte in token:
                rows.setdefault(byte, bytearray(size))[place >> 3] |= 1 << (place & 7)
        self.common = int.from_bytes(everywhere, "little")
        self.masks = {
            byte: int.from_bytes(row, "little") | self.common for byte, row in rows.items()
        } or {0: self.common}
