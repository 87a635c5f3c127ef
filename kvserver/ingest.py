"""The header of an INGEST: where the summaries of one piece of a log come from. Pure.

A map, as msgpack or as JSON text: ``source`` (unsigned 64 bits or 16 hexadecimal digits),
``ranges`` ([[start, end], …]), ``books`` ({name: n}), ``patterns`` ({id: [text, count, first,
last, example]}) and ``about`` (kept as it is). Only the source is required. Other names are
refused, so that a misspelt one is not lost in silence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

import msgpack

from kvserver.errors import CommandError

__all__ = ["Header", "parse_header", "unpack_deltas"]

MAX_COUNT: Final = 2**64 - 1
_FIELDS: Final = frozenset(["source", "ranges", "books", "patterns", "about"])


@dataclass(slots=True)
class Header:
    """What an INGEST says of itself."""

    source: int
    ranges: list[list[int]] = field(default_factory=list)
    books: dict[str, int] = field(default_factory=dict)
    patterns: dict[Any, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def parse_header(raw: bytes) -> Header:
    """Read a header, believing nothing. Raises CommandError with what is wrong."""
    try:
        if raw[:1] == b"{":
            shown = json.loads(raw)
        else:
            shown = msgpack.unpackb(raw, strict_map_key=False, unicode_errors="surrogateescape")
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise CommandError("ERR INGEST header is neither msgpack nor JSON") from error
    if type(shown) is not dict:
        raise CommandError("ERR INGEST header must be a map")
    unknown = [name for name in shown if name not in _FIELDS]
    if unknown:
        raise CommandError(f"ERR INGEST header has an unknown field {str(unknown[0])[:64]!r}")
    header = Header(
        _source(shown.get("source")),
        _ranges(shown.get("ranges") or []),
        _books(shown.get("books") or {}),
        shown.get("patterns") or {},
        shown.get("about") or {},
    )
    if type(header.patterns) is not dict or type(header.about) is not dict:
        raise CommandError("ERR INGEST patterns and about must be maps")
    return header


def _source(value: Any) -> int:
    if isinstance(value, str | bytes) and len(value) == 16:
        try:
            return int(bytes.fromhex(value if isinstance(value, str) else value.decode()).hex(), 16)
        except ValueError:
            pass
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise CommandError("ERR INGEST source must be an unsigned 64-bit integer or 16 hex digits")
    return value


def _ranges(value: Any) -> list[list[int]]:
    if type(value) is not list or any(
        type(pair) is not list or len(pair) != 2 or any(type(end) is not int for end in pair)
        for pair in value
    ):
        raise CommandError("ERR INGEST ranges must be pairs of integers")
    return value


def _books(value: Any) -> dict[str, int]:
    if type(value) is not dict or any(
        type(name) is not str or type(n) is not int or not 0 <= n <= MAX_COUNT
        for name, n in value.items()
    ):
        raise CommandError("ERR INGEST books must map names to counts")
    return value


def unpack_deltas(packed: bytes) -> list[bytes]:
    """Read ``[key, delta, key, delta, …]``. Raises CommandError when it is anything else.

    The deltas themselves are not looked into: a bad one shows when it is folded, and is counted.
    """
    try:
        flat: Any = msgpack.unpackb(packed, use_list=True, max_ext_len=0, max_map_len=0)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise CommandError("ERR INGEST deltas are not a msgpack array") from error
    if type(flat) is not list or len(flat) % 2:
        raise CommandError("ERR INGEST deltas must be pairs of key and delta")
    check_deltas(flat)
    return flat


def check_deltas(flat: list[bytes]) -> None:
    """Refuse what cannot be a delta at first sight. Raises CommandError."""
    if not set(map(type, flat)) <= {bytes}:
        raise CommandError("ERR INGEST keys and deltas must be binary")
    try:
        heads = set(map(_first_byte, flat[1::2]))
    except IndexError:  # an empty one
        heads = {0}
    if not heads <= _ARRAY_HEADS:
        raise CommandError("ERR INGEST a delta is not a packed summary")


_first_byte: Final = itemgetter(0)
_ARRAY_HEADS: Final = frozenset(0x90 + n for n in range(1, 8))
