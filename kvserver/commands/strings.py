"""Strings, the everyday part: GET SET MGET MSET INCR INCRBY."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Final

from kvserver import resp
from kvserver.commands.table import CommandTable, Reply, Work, wrong_arity
from kvserver.errors import CommandError
from kvserver.isolation import LONG, Steps
from kvserver.keyspace import Keyspace
from kvserver.livestore import WRONG_TYPE
from kvserver.longstring import LongString, String, whole
from kvserver.lookup import plain_replies
from kvserver.numbers import INT64_MAX, INT64_MIN, parse_int
from kvserver.resp import BULK_HEADS
from kvserver.session import Session
from kvserver.values import SummaryValue, Value
from parser.summaryjson import to_json

TABLE: Final = CommandTable("string")

NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
SYNTAX: Final = "ERR syntax error"
MAX_DEADLINE_MS: Final = 2**63 - 1
SLICE_KEYS: Final = 256
"""Keys that a long MGET handles before it looks at the time."""

_LARGE_BYTES: Final = 1 << 18
"""A larger reply is not copied, and others may have their turn while it is sent."""
_CRLF: Final = b"\r\n"


def shown(keyspace: Keyspace, key: bytes, value: Value) -> bytes:
    """Return what GET shows of a value: a string itself, a summary as its JSON text."""
    if type(value) is not SummaryValue:
        return whole(value)
    return json.dumps(to_json(keyspace.read_summary(key, value))).encode()


@TABLE.command("get", 2, "readonly fast", keys=(1, 1, 1), complexity="O(1)", checks_itself=True)
def get(session: Session, args: list[bytes]) -> Reply:
    """Returns the string value of a key; a summary as JSON."""
    if len(args) != 2:
        return session.rejected("get", wrong_arity("get"))
    key = args[1]
    keyspace = session.keyspace
    value = keyspace.data.get(key)
    if value is None or (key in keyspace.deadlines and not keyspace.alive(key)):
        keyspace.misses += 1
        return session.null
    keyspace.hits += 1
    if type(value) is bytes and len(value) < 4096:
        return BULK_HEADS[len(value)] + value + _CRLF
    if type(value) is SummaryValue:
        value = shown(keyspace, key, value)
    return string_reply(session, value)


def string_reply(session: Session, string: String) -> Reply:
    """Return what a handler returns to answer a string, however long it is."""
    head = b"$%d\r\n" % len(string)
    if isinstance(string, LongString):
        return session.in_parts([head, *string.blocks, _CRLF])
    if len(string) < _LARGE_BYTES:
        return b"%b%b\r\n" % (head, string)
    return session.in_parts([head, string, _CRLF])


@TABLE.command("set", -3, "write denyoom", keys=(1, 1, 1), complexity="O(1)", checks_itself=True)
def set_(session: Session, args: list[bytes]) -> Reply:
    """Sets the string value of a key, with options for its expiry and for when to set it."""
    if len(args) == 3:
        _, key, value = args
        session.keyspace.set(key, value)
        return resp.OK
    if len(args) < 3:
        return session.rejected("set", wrong_arity("set"))
    if len(args) == 5 and args[3] in LIFETIMES:  # the usual way to write to a cache
        keyspace = session.keyspace
        deadline_ms = absolute_deadline(keyspace, args[4], args[3].upper(), "set")
        set_with_deadline(keyspace, args[1], args[2], deadline_ms)
        return resp.OK
    return _set_with_options(session, args)


def _set_with_options(session: Session, args: list[bytes]) -> Reply:
    keyspace = session.keyspace
    _, key, value, *options = args
    only_if: bool | None = None
    want_old = keep_ttl = False
    lifetime: tuple[bytes, bytes] | None = None
    index = 0
    while index < len(options):
        word = options[index].upper()
        if word in {b"NX", b"XX"} and only_if in {None, word == b"XX"}:
            only_if = word == b"XX"
        elif word == b"GET":
            want_old = True
        elif word == b"KEEPTTL" and lifetime is None:
            keep_ttl = True
        elif (
            word in _UNITS
            and not keep_ttl
            and (lifetime is None or lifetime[1] == word)
            and index + 1 < len(options)
        ):
            index += 1
            lifetime = (options[index], word)
        else:
            raise CommandError(SYNTAX)
        index += 1
    deadline_ms: int | None = None
    if lifetime is not None:
        deadline_ms = absolute_deadline(keyspace, *lifetime, "set")
    old = keyspace.string(key) if want_old else keyspace.peek(key)
    if only_if is not None and (old is not None) is not only_if:
        return string_reply(session, old) if want_old and old is not None else session.null
    if keep_ttl and old is not None:
        keyspace.set(key, value, keyspace.deadline(key))
    else:
        set_with_deadline(keyspace, key, value, deadline_ms)
    if not want_old:
        return resp.OK
    return session.null if old is None else string_reply(session, old)


_UNITS: Final = {
    b"EX": (1000, False),
    b"PX": (1, False),
    b"EXAT": (1000, True),
    b"PXAT": (1, True),
}
LIFETIMES: Final = frozenset([b"EX", b"ex", b"PX", b"px"])
"""As clients spell the options that say how long a string lives."""


def absolute_deadline(keyspace: Keyspace, raw: bytes, unit: bytes, command: str) -> int:
    """Return the deadline that e.g. ``EX 10`` says, in epoch ms. Raises CommandError."""
    value = parse_int(raw)
    if value is None:
        raise CommandError(NOT_AN_INTEGER)
    factor, absolute = _UNITS[unit]
    deadline_ms = value * factor + (0 if absolute else keyspace.now)
    if value <= 0 or value * factor > MAX_DEADLINE_MS or deadline_ms > MAX_DEADLINE_MS:
        raise CommandError(f"ERR invalid expire time in '{command}' command")
    return deadline_ms


def set_with_deadline(
    keyspace: Keyspace, key: bytes, value: bytes, deadline_ms: int | None, event: str = "set"
) -> None:
    """Set a string; one whose deadline has passed already expires at once."""
    keyspace.set(key, value, deadline_ms, event)
    if deadline_ms is not None:
        if keyspace.listening:
            keyspace.touched(key, "expire")
        if deadline_ms <= keyspace.now:
            keyspace.alive(key)


@TABLE.command("mget", -2, "readonly fast", keys=(1, -1, 1), complexity="O(N)")
def mget(session: Session, args: list[bytes]) -> Reply:
    """Returns the string values of several keys; nothing for a key that holds none."""
    if len(args) > 4 * SLICE_KEYS:
        return _mget_in_slices(session, args)
    parts = [b"*%d\r\n" % (len(args) - 1), *_replies(session, args[1:])]
    return session.in_parts(parts) if sum(map(len, parts)) > _LARGE_BYTES else b"".join(parts)


def _mget_in_slices(session: Session, args: list[bytes]) -> Work:
    reply = resp.LongArray()
    for start in range(1, len(args), SLICE_KEYS):
        keys = args[start : start + SLICE_KEYS]
        reply.add_parts(len(keys), _replies(session, keys))
        yield None
    return reply.parts()


def _replies(session: Session, keys: list[bytes]) -> list[bytes]:
    """Return what GET answers for each of the keys, in parts; for a summary, too."""
    replies = plain_replies(session, keys) if len(keys) > 1 else None
    if replies is not None:
        return [replies]
    keyspace, null = session.keyspace, session.null
    parts = []
    for key in keys:
        value = keyspace.lookup(key)
        if value is None:
            parts.append(null)
        else:
            text = shown(keyspace, key, value)
            parts += (b"$%d\r\n" % len(text), text, _CRLF)
    return parts


@TABLE.command("mset", -3, "write denyoom", keys=(1, -1, 2), since="1.0.1", complexity="O(N)")
def mset(session: Session, args: list[bytes]) -> Reply:
    """Sets the string values of several keys, all at once."""
    if len(args) % 2 == 0:
        raise CommandError(wrong_arity("mset"))
    if len(args) > 2 * LONG:
        isolation = session.engine.isolation
        steps = set_in_slices(session.keyspace, args)
        if isolation.is_of(session):  # it is a part of a transaction which goes in slices
            return steps
        if isolation.suits(session):
            return in_isolation(session, args, steps)
    session.keyspace.set_many(args[1::2], args[2::2])
    return resp.OK


def set_in_slices(keyspace: Keyspace, args: list[bytes]) -> Generator[None, None, bytes]:
    """Set the keys of an MSET or MSETNX, some in each step."""
    for start in range(1, len(args), 2 * SLICE_KEYS):
        part = args[start : start + 2 * SLICE_KEYS]
        keyspace.set_many(part[::2], part[1::2])
        yield
    return resp.OK


def in_isolation(session: Session, args: list[bytes], steps: Steps) -> Work:
    """Run a long MSET or MSETNX, which nobody is to see half done."""
    keys: dict[bytes, None] = {}
    for start in range(1, len(args), 2 * SLICE_KEYS):
        keys.update(dict.fromkeys(args[start : start + 2 * SLICE_KEYS : 2]))
        yield None
    return (yield from session.engine.isolation.run(session, keys, steps))


def increment(keyspace: Keyspace, key: bytes, by: int) -> bytes:
    """Add to the number that a string spells, keeping its deadline; return the reply."""
    value = keyspace.peek(key)
    if type(value) is SummaryValue:
        raise CommandError(WRONG_TYPE)
    number = parse_int(value) if type(value) is bytes else 0 if value is None else None
    if number is None:
        raise CommandError(NOT_AN_INTEGER)
    number += by
    if not INT64_MIN <= number <= INT64_MAX:
        raise CommandError("ERR increment or decrement would overflow")
    text = b"%d" % number
    keyspace.set(key, text, keyspace.deadlines.get(key), "incrby")
    return b":%b\r\n" % text


@TABLE.command("incr", 2, "write denyoom fast", keys=(1, 1, 1), complexity="O(1)")
def incr(session: Session, args: list[bytes]) -> bytes:
    """Increments the integer value of a key by one; a missing key counts as 0."""
    return increment(session.keyspace, args[1], 1)


@TABLE.command("incrby", 3, "write denyoom fast", keys=(1, 1, 1), complexity="O(1)")
def incrby(session: Session, args: list[bytes]) -> bytes:
    """Increments the integer value of a key by a number; a missing key counts as 0."""
    by = parse_int(args[2])
    if by is None:
        raise CommandError(NOT_AN_INTEGER)
    return increment(session.keyspace, args[1], by)
