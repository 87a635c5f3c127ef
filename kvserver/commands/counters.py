"""Numbers kept in strings, what INCR and INCRBY leave: DECR DECRBY INCRBYFLOAT."""

from __future__ import annotations

from kvserver.commands.arguments import NOT_A_FLOAT, integer_argument
from kvserver.commands.strings import increment
from kvserver.commands.table import CommandTable
from kvserver.errors import CommandError
from kvserver.longstring import whole
from kvserver.numbers import (
    INT64_MIN,
    format_long_double,
    parse_long_double,
    round_long_double,
)
from kvserver.resp import bulk
from kvserver.session import Session

TABLE = CommandTable("string")


@TABLE.command("decr", 2, "write denyoom fast", keys=(1, 1, 1), since="1.0.0")
def decr(session: Session, args: list[bytes]) -> bytes:
    """Takes one from the number in a string."""
    return increment(session.keyspace, args[1], -1)


@TABLE.command("decrby", 3, "write denyoom fast", keys=(1, 1, 1), since="1.0.0")
def decrby(session: Session, args: list[bytes]) -> bytes:
    """Takes a number from the number in a string."""
    step = integer_argument(args[2])
    if step == INT64_MIN:  # cannot be negated in 64 bits
        raise CommandError("ERR decrement would overflow")
    return increment(session.keyspace, args[1], -step)


@TABLE.command("incrbyfloat", 3, "write denyoom fast", keys=(1, 1, 1), since="2.6.0")
def incrbyfloat(session: Session, args: list[bytes]) -> bytes:
    """Adds a decimal number to the number in a string."""
    keyspace = session.keyspace
    raw = keyspace.string_or_none(args[1])
    value = parse_long_double(b"0" if raw is None else whole(raw))
    step = parse_long_double(args[2])
    if value is None or step is None:
        raise CommandError(NOT_A_FLOAT)
    total = None
    if not isinstance(value, float) and not isinstance(step, float):
        total = round_long_double(value + step)
    if total is None:
        raise CommandError("ERR increment would produce NaN or Infinity")
    text = format_long_double(total)
    keyspace.set(args[1], text, keyspace.deadline(args[1]), "incrbyfloat")
    return bulk(text)
