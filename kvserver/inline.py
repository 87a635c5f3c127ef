"""Requests as a person types them: a line with quotes and escapes, cut as Redis cuts it. No I/O."""

from __future__ import annotations

from typing import Final

__all__ = ["split_inline"]

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
