"""Parts of strings: APPEND STRLEN GETRANGE SUBSTR SETRANGE LCS."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from kvserver import lcs as longest
from kvserver.bitops import clip_range
from kvserver.commands.arguments import SYNTAX_ERROR, TOO_LONG, integer_argument
from kvserver.commands.cutting import cut_first, is_uncut
from kvserver.commands.strings import string_reply
from kvserver.commands.table import CommandTable, Reply, at_once
from kvserver.errors import CommandError
from kvserver.longstring import whole
from kvserver.resp import EMPTY_BULK, ZERO, array, bulk, integer, mapping
from kvserver.session import Session

TABLE = CommandTable("string")

_QUICK_CELLS: Final = 1 << 20
"""A comparison of at most so many pairs of bytes is done at once."""


@TABLE.command("append", 3, "write denyoom fast", keys=(1, 1, 1), since="2.0.0")
def append(session: Session, args: list[bytes]) -> Reply:
    """Appends to a string, or makes a new one; returns its length."""
    keyspace = session.keyspace
    old = keyspace.string_or_none(args[1])
    if is_uncut(old, session):
        return cut_first(session, args[1], old, lambda: append(session, args))
    if old is not None and len(old) + len(args[2]) > session.engine.config.max_bulk_bytes:
        raise CommandError(TOO_LONG)
    return integer(keyspace.append(args[1], args[2]))


@TABLE.command("strlen", 2, "readonly fast", keys=(1, 1, 1), since="2.2.0")
def strlen(session: Session, args: list[bytes]) -> bytes:
    """Returns the length of a string."""
    return integer(len(session.keyspace.string(args[1]) or b""))


def _getrange(session: Session, args: list[bytes]) -> Reply:
    start, end = integer_argument(args[2]), integer_argument(args[3])
    value = session.keyspace.string(args[1])
    if not value or (start < 0 and end < 0 and start > end):
        return EMPTY_BULK
    found = clip_range(start, end, len(value))
    if found is None:
        return EMPTY_BULK
    return string_reply(session, value[found[0] : found[1] + 1])


@TABLE.command("getrange", 4, "readonly", keys=(1, 1, 1), since="2.4.0")
def getrange(session: Session, args: list[bytes]) -> Reply:
    """Returns a part of a string, both ends included."""
    return _getrange(session, args)


@TABLE.command("substr", 4, "readonly", keys=(1, 1, 1), since="1.0.0")
def substr(session: Session, args: list[bytes]) -> Reply:
    """Returns a part of a string: the old name of GETRANGE."""
    return _getrange(session, args)


@TABLE.command("setrange", 4, "write denyoom", keys=(1, 1, 1), since="2.2.0")
def setrange(session: Session, args: list[bytes]) -> Reply:
    """Overwrites a part of a string, filling a gap with zeros; returns its length."""
    offset, piece = integer_argument(args[2]), args[3]
    if offset < 0:
        raise CommandError("ERR offset is out of range")
    keyspace = session.keyspace
    old = keyspace.string_or_none(args[1])
    if not piece:
        return ZERO if old is None else integer(len(old))
    if offset + len(piece) > session.engine.config.max_bulk_bytes:
        raise CommandError(TOO_LONG)
    if is_uncut(old, session):
        return cut_first(session, args[1], old, lambda: setrange(session, args))
    return integer(keyspace.overwrite(args[1], offset, piece, "setrange"))


@TABLE.command("lcs", -3, "readonly", keys=(1, 2, 1), since="7.0.0")
def lcs(session: Session, args: list[bytes]) -> Reply:
    """Finds the longest common subsequence of two strings."""
    keyspace = session.keyspace
    try:
        first, second = (whole(keyspace.string(key) or b"") for key in args[1:3])
    except CommandError:
        raise CommandError("ERR The specified keys must contain string values") from None
    want_length = want_ranges = with_lengths = False
    shortest = 0
    at = 3
    while at < len(args):
        word = args[at].upper()
        if word == b"IDX":
            want_ranges = True
        elif word == b"LEN":
            want_length = True
        elif word == b"WITHMATCHLEN":
            with_lengths = True
        elif word == b"MINMATCHLEN" and at + 1 < len(args):
            at += 1
            shortest = max(0, integer_argument(args[at]))
        else:
            raise CommandError(SYNTAX_ERROR)
        at += 1
    if want_ranges and want_length:
        raise CommandError("ERR If you want both the length and indexes, please just use IDX.")
    cells = (len(first) + 1) * (len(second) + 1)
    if cells * 4 > session.engine.config.max_bulk_bytes:
        raise CommandError(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
        )
    work = _lcs_reply(session, first, second, (want_length, want_ranges, with_lengths), shortest)
    return work if cells > _QUICK_CELLS else at_once(work)


def _lcs_reply(
    session: Session, first: bytes, second: bytes, wants: tuple[bool, bool, bool], shortest: int
) -> Generator[None, None, bytes]:
    want_length, want_ranges, with_lengths = wants
    table: list[int] = []
    for row in longest.rows(first, second):
        table.append(row)
        if len(table) & 255 == 0:
            yield
    total = len(second) - table[-1].bit_count()
    if want_length:
        return integer(total)
    pieces: list[bytes] = []
    for match in longest.trace(first, second, table):
        if not want_ranges:
            pieces.append(first[match.first_start : match.first_end + 1])
        elif match.length >= shortest:
            parts = [
                array([integer(match.first_start), integer(match.first_end)]),
                array([integer(match.second_start), integer(match.second_end)]),
            ]
            if with_lengths:
                parts.append(integer(match.length))
            pieces.append(array(parts))
        yield
    if want_ranges:
        pairs = [(bulk(b"matches"), array(pieces)), (bulk(b"len"), integer(total))]
        return mapping(session.resp, pairs)
    return bulk(b"".join(reversed(pieces)))
