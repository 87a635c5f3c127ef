"""Writing with a condition or a deadline, reading with an effect.

GETDEL GETEX GETSET SETNX SETEX PSETEX MSETNX.
"""

from __future__ import annotations

from collections.abc import Generator

from kvserver.commands.arguments import SYNTAX_ERROR
from kvserver.commands.strings import (
    SLICE_KEYS,
    absolute_deadline,
    in_isolation,
    set_in_slices,
    set_with_deadline,
    string_reply,
)
from kvserver.commands.table import CommandTable, Reply, at_once, wrong_arity
from kvserver.errors import CommandError
from kvserver.isolation import LONG
from kvserver.keyspace import Keyspace
from kvserver.resp import OK, ONE, ZERO
from kvserver.session import Session

TABLE = CommandTable("string")

_UNITS = frozenset([b"EX", b"PX", b"EXAT", b"PXAT"])


@TABLE.command("getdel", 2, "write fast", keys=(1, 1, 1), since="6.2.0")
def getdel(session: Session, args: list[bytes]) -> Reply:
    """Returns a string and deletes its key."""
    value = session.keyspace.string(args[1])
    if value is None:
        return session.null
    session.keyspace.delete(args[1])
    return string_reply(session, value)


@TABLE.command("getset", 3, "write denyoom fast", keys=(1, 1, 1), since="1.0.0")
def getset(session: Session, args: list[bytes]) -> Reply:
    """Sets a string and returns what it was."""
    old = session.keyspace.string(args[1])
    session.keyspace.set(args[1], args[2])
    return session.null if old is None else string_reply(session, old)


@TABLE.command("getex", -2, "write fast", keys=(1, 1, 1), since="6.2.0")
def getex(session: Session, args: list[bytes]) -> Reply:
    """Returns a string and sets, or takes away, its time to live."""
    keyspace = session.keyspace
    persist = False
    chosen: tuple[bytes, bytes] | None = None
    at = 2
    while at < len(args):
        word = args[at].upper()
        if word == b"PERSIST" and chosen is None:
            persist = True
        elif (
            word in _UNITS
            and at + 1 < len(args)
            and not persist
            and (chosen is None or chosen[0] == word)
        ):
            at += 1
            chosen = (word, args[at])
        else:
            raise CommandError(SYNTAX_ERROR)
        at += 1
    value = keyspace.string(args[1])
    if value is None:
        return session.null
    if chosen is not None:
        unit, raw = chosen
        keyspace.expire(args[1], absolute_deadline(keyspace, raw, unit, "getex"))
    elif persist:
        keyspace.expire(args[1], None)
    return string_reply(session, value)


@TABLE.command("setnx", 3, "write denyoom fast", keys=(1, 1, 1), since="1.0.0")
def setnx(session: Session, args: list[bytes]) -> bytes:
    """Sets a string when there is no such key."""
    if session.keyspace.exists(args[1]):
        return ZERO
    session.keyspace.set(args[1], args[2])
    return ONE


def _setex(session: Session, args: list[bytes], unit: bytes, command: str) -> bytes:
    keyspace = session.keyspace
    deadline_ms = absolute_deadline(keyspace, args[2], unit, command)
    set_with_deadline(keyspace, args[1], args[3], deadline_ms)
    return OK


@TABLE.command("setex", 4, "write denyoom", keys=(1, 1, 1), since="2.0.0")
def setex(session: Session, args: list[bytes]) -> bytes:
    """Sets a string with a time to live in seconds."""
    return _setex(session, args, b"EX", "setex")


@TABLE.command("psetex", 4, "write denyoom", keys=(1, 1, 1), since="2.6.0")
def psetex(session: Session, args: list[bytes]) -> bytes:
    """Sets a string with a time to live in milliseconds."""
    return _setex(session, args, b"PX", "psetex")


@TABLE.command("msetnx", -3, "write denyoom", keys=(1, -1, 2), since="1.0.1")
def msetnx(session: Session, args: list[bytes]) -> Reply:
    """Sets several strings when none of the keys is there."""
    if len(args) % 2 == 0:
        raise CommandError(wrong_arity("msetnx"))
    steps = _set_if_none_exists(session.keyspace, args)
    isolation = session.engine.isolation
    if isolation.is_of(session):
        return steps
    if len(args) > 2 * LONG and isolation.suits(session):
        return in_isolation(session, args, steps)
    return at_once(steps)


def _set_if_none_exists(keyspace: Keyspace, args: list[bytes]) -> Generator[None, None, bytes]:
    for start in range(1, len(args), 2 * SLICE_KEYS):
        if any(map(keyspace.exists, args[start : start + 2 * SLICE_KEYS : 2])):
            return ZERO
        yield
    yield from set_in_slices(keyspace, args)
    return ONE
