r"""Masking: what of a message is its pattern, and what are values.

``mask`` is one fixed rule for every log. Guarantees: it depends on the message alone, so the same
line has the same pattern on every machine, in any order, after any restart; it needs one pass from
left to right with a state of constant size. Masking a pattern again changes
nothing (except that one which has grown beyond the limit is cut).

The rule, over bytes
--------------------
Only the first ``MAX_MESSAGE_BYTES`` bytes of a message count. Each byte is of one class
(``BYTE_CLASS``)::

    DELIM   whitespace, NUL and  = : , ; ( ) [ ] { } < > " ' ` | # ! ? & @ / \
    DIGIT   0-9
    DOT     .
    WORD    everything else, bytes from 0x80 up included

1. A DOT whose neighbours on both sides are DIGIT or WORD belongs to a token ("10.0.0.1", "a.log");
   any other DOT is a DELIM ("exception......", "done.", "...5").
2. A *token* is a maximal run of bytes that are not DELIM.
3. A token is *masked* when it holds a DIGIT, or when it is exactly two letters a-f or A-F with a
   ``:`` directly before or behind it (the middle of "00:1b:fc:ea:00:11"), or when the message is
   longer than the limit and the token reaches the limit (nobody knows how it goes on).
4. A *path* is masked from its first byte to its last. It is made of bytes that are no DELIM and of
   ``PATH`` bytes; it is at least two bytes long, and its first one is a ``/`` that is the first
   byte of the message or stands behind a ``=`` or a byte that cannot be in a path
   ("/var/log/messages", "src: /10.0.0.1", "GET /a/b?c=d HTTP", the "//host/x" of a URL).
5. *Joins*: when one or two bytes, each one of ``: , . ; / | # @`` (``JOIN``), are all that stands
   between two masked bytes, they are masked too ("10.0.0.1:50010", "2008-11-09/20:35", "fe80::1").
6. Each maximal run of masked bytes is one value and becomes ``<*>``. All other bytes stay.

As bitmaps over a block of bytes, M being the masked bytes of tokens and paths and J the JOIN bytes
outside of tokens: ``one = J & M<<1 & M>>1``; ``two = J & J>>1 & M<<1 & M>>2``;
``M |= one | two | two<<1``, where ``x<<n`` moves a byte's bit n positions to the right in the text.
Both use the M of step 4.

The id of a pattern is the first eight bytes of its BLAKE2b, big endian, and never 0.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

__all__ = [
    "BYTE_CLASS",
    "CLASS_DELIM",
    "CLASS_DIGIT",
    "CLASS_DOT",
    "CLASS_WORD",
    "DELIMITERS",
    "JOIN",
    "MASK_VERSION",
    "MAX_MESSAGE_BYTES",
    "PATH",
    "WILDCARD",
    "mask",
    "mask_values",
    "pattern_id",
]

MASK_VERSION: Final = 3
"""Grows whenever a message could get another pattern; ids of different versions do not mix."""

MAX_MESSAGE_BYTES: Final = 2048
"""What is behind is not looked at: a dump in a log must not become a pattern of its own size."""

WILDCARD: Final = b"<*>"

DELIMITERS: Final = b" \t\r\n\x0b\x0c\x00=:,;()[]{}<>\"'`|#!?&@/\\"
JOIN: Final = b":,.;/|#@"
PATH: Final = b"/\\?&=#@>"
"""With ``>``, so that a ``/`` behind a ``<*>`` begins no path when a pattern is masked again."""
CLASS_WORD, CLASS_DELIM, CLASS_DIGIT, CLASS_DOT = 0, 1, 2, 3

BYTE_CLASS: Final = bytes(
    CLASS_DELIM
    if byte in DELIMITERS
    else CLASS_DIGIT
    if byte in b"0123456789"
    else CLASS_DOT
    if byte == 0x2E
    else CLASS_WORD
    for byte in range(256)
)
"""The class of each byte."""

_DELIM = re.escape(DELIMITERS)
_IN = rb"[^" + _DELIM + rb"\.]"
_PLAIN = rb"[^" + _DELIM + rb"\.0-9]"
_NO_PATH = re.escape(bytes(byte for byte in DELIMITERS if byte not in PATH))
_PATH = rb"(?<![^=" + _NO_PATH + rb"])/[^" + _NO_PATH + rb"]++"
# Atomic, and not a possessive group: that takes a dot too many before Python 3.11.5.
_TOKEN: Final = re.compile(
    rb"(" + _PATH + rb")|"
    # A token without a digit, or (group 2) a pair of hexadecimal letters, or any other token.
    rb"((?<=:)[a-fA-F]{2}(?!" + _IN + rb"|\." + _IN + rb")|[a-fA-F]{2}(?=:))"
    rb"|(?>" + _PLAIN + rb"++(?:\." + _PLAIN + rb"++)*)(?!" + _IN + rb"|\." + _IN + rb")"
    rb"|(" + _IN + rb"++(?:\." + _IN + rb"++)*)"
)
_JOINED: Final = re.compile(rb"[" + re.escape(JOIN) + rb"]{1,2}")


def mask(message: bytes) -> bytes:
    """Return the pattern of a message: its text with every value as ``<*>``."""
    return mask_values(message)[0]


def mask_values(message: bytes) -> tuple[bytes, list[bytes]]:
    """Return the pattern and the values it hides, from left to right."""
    cut = len(message) > MAX_MESSAGE_BYTES
    message = message[:MAX_MESSAGE_BYTES]
    parts: list[bytes] = []
    values: list[bytes] = []
    written = 0  # everything before is in parts, or is the value that may still grow
    start = -1  # of the value that may still grow
    for token in _TOKEN.finditer(message):
        begin, end = token.span()
        if token.lastindex is None and not (cut and end == MAX_MESSAGE_BYTES):
            continue
        if start >= 0:
            if _JOINED.fullmatch(message, written, begin):
                written = end
                continue
            values.append(message[start:written])
        parts += (message[written:begin], WILDCARD)
        start, written = begin, end
    if start >= 0:
        values.append(message[start:written])
    parts.append(message[written:])
    return b"".join(parts), values


def pattern_id(masked: bytes) -> int:
    """Return the id of a pattern: 64 bits of its text's hash, never 0."""
    return int.from_bytes(blake2b(masked, digest_size=8).digest(), "big") or 1
