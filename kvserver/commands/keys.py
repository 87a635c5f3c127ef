"""Keys of any type, the everyday part: DEL DELETE UNLINK EXISTS TOUCH TYPE KEYS SCAN."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from kvserver import resp
from kvserver.commands.strings import NOT_AN_INTEGER, SYNTAX
from kvserver.commands.table import CommandTable, Reply, Work
from kvserver.errors import CommandError
from kvserver.glob import Matcher, compile_glob
from kvserver.keysnapshot import KeySnapshot
from kvserver.keyspace import Keyspace
from kvserver.numbers import parse_int
from kvserver.session import Session
from kvserver.values import kind_of

TABLE: Final = CommandTable("generic")

SLICE_KEYS: Final = 512
MAX_SCAN_COUNT: Final = 2**31
_CURSOR: Final = re.compile(rb"(?:[+-]?[0-9]{1,40})?")


def _count_keys(keys: list[bytes], counts: Callable[[bytes], bool]) -> Reply:
    """Reply for how many keys something holds or is done, in slices when they are many."""
    if len(keys) <= SLICE_KEYS:
        return resp.integer(sum(map(counts, keys)))
    return _count_in_slices(keys, counts)


def _count_in_slices(keys: list[bytes], counts: Callable[[bytes], bool]) -> Work:
    total = 0
    for start in range(0, len(keys), SLICE_KEYS):
        total += sum(map(counts, keys[start : start + SLICE_KEYS]))
        yield None
    return resp.integer(total)


def _count_existing(session: Session, keys: list[bytes]) -> Reply:
    """Reply how many of the keys exist; each is a hit or a miss."""
    lookup = session.keyspace.lookup
    return _count_keys(keys, lambda key: lookup(key) is not None)


@TABLE.command("del", -2, "write", keys=(1, -1, 1), complexity="O(N)")
def del_(session: Session, args: list[bytes]) -> Reply:
    """Deletes one or more keys."""
    if len(args) == 2:
        return resp.ONE if session.keyspace.delete(args[1]) else resp.ZERO
    return _count_keys(args[1:], session.keyspace.delete)


@TABLE.command("delete", -2, "write", keys=(1, -1, 1), complexity="O(N)")
def delete(session: Session, args: list[bytes]) -> Reply:
    """Deletes one or more keys; another name of DEL."""
    return _count_keys(args[1:], session.keyspace.delete)


@TABLE.command("unlink", -2, "write fast", keys=(1, -1, 1), since="4.0.0", complexity="O(N)")
def unlink(session: Session, args: list[bytes]) -> Reply:
    """Deletes one or more keys; here the same as DEL."""
    return _count_keys(args[1:], session.keyspace.delete)


@TABLE.command("exists", -2, "readonly fast", keys=(1, -1, 1), complexity="O(N)")
def exists(session: Session, args: list[bytes]) -> Reply:
    """Determines how many of the keys exist."""
    if len(args) == 2:
        return resp.ZERO if session.keyspace.lookup(args[1]) is None else resp.ONE
    return _count_existing(session, args[1:])


@TABLE.command("touch", -2, "readonly fast", keys=(1, -1, 1), since="3.2.1", complexity="O(N)")
def touch(session: Session, args: list[bytes]) -> Reply:
    """Counts how many of the keys exist, and marks them as used now."""
    return _count_existing(session, args[1:])


@TABLE.command("type", 2, "readonly fast", keys=(1, 1, 1), complexity="O(1)")
def type_(session: Session, args: list[bytes]) -> bytes:
    """Determines the type of a key: string, summary or none."""
    value = session.keyspace.peek(args[1])
    return b"+%b\r\n" % (b"none" if value is None else kind_of(value))


@TABLE.command("keys", 2, "readonly", complexity="O(N)")
def keys(session: Session, args: list[bytes]) -> Work:
    """Returns all keys that match a pattern."""
    everything = args[1] == b"*"
    matches = compile_glob(args[1])
    keyspace = session.keyspace
    if session.engine.isolation.is_of(session):
        return _keys_of_now(keyspace, None if everything else matches)
    return _keys(keyspace, None if everything else matches)


def _keys_of_now(keyspace: Keyspace, matches: Matcher | None) -> Work:
    """As a transaction sees them: those of one moment, whatever others do meanwhile."""
    names = KeySnapshot(keyspace)
    yield from names.take()
    reply = resp.LongArray()
    for some in names.slices():
        chosen = filter(matches, some) if matches is not None else some
        reply.add([b"$%d\r\n%b\r\n" % (len(name), name) for name in chosen])
        yield None
    return reply.parts()


def _keys(keyspace: Keyspace, matches: Matcher | None) -> Work:
    reply = resp.LongArray()
    buckets = keyspace.buckets
    yield from keyspace.sort_arrivals()
    for number in buckets.filled():
        there = keyspace.in_bucket(number)
        for start in range(0, len(there), SLICE_KEYS):
            some = there[start : start + SLICE_KEYS]
            chosen = filter(matches, some) if matches is not None else some
            reply.add([b"$%d\r\n%b\r\n" % (len(name), name) for name in chosen])
            yield None
    return reply.parts()


@TABLE.command("scan", -2, "readonly", since="2.8.0", complexity="O(1) for each call")
def scan(session: Session, args: list[bytes]) -> Reply:
    """Iterates over the keys; a key that stays during a whole iteration is returned."""
    cursor = _cursor(args[1])
    count, matches, kind = 10, None, None
    for index in range(2, len(args), 2):
        if index + 1 == len(args):
            raise CommandError(SYNTAX)
        word, value = args[index].upper(), args[index + 1]
        if word == b"COUNT":
            number = parse_int(value)
            if number is None:
                raise CommandError(NOT_AN_INTEGER)
            if number < 1:
                raise CommandError(SYNTAX)
            count = min(number, MAX_SCAN_COUNT)
        elif word == b"MATCH":
            matches = None if value == b"*" else compile_glob(value)
        elif word == b"TYPE":
            kind = value.lower()
        else:
            raise CommandError(SYNTAX)
    return _scan(session, cursor, count, matches, kind)


def _scan(session: Session, cursor: int, count: int, matches: object, kind: bytes | None) -> Reply:
    if count > SLICE_KEYS:
        return _scan_in_slices(session, cursor, count, matches, kind)
    cursor, found = session.keyspace.scan(cursor, count)
    return _page(cursor, _chosen(session, found, matches, kind))


def _scan_in_slices(
    session: Session, cursor: int, count: int, matches: object, kind: bytes | None
) -> Work:
    page = resp.LongArray()
    while count > 0:
        cursor, found = session.keyspace.scan(cursor, min(count, SLICE_KEYS))
        chosen = dict.fromkeys(_chosen(session, found, matches, kind))
        page.add([b"$%d\r\n%b\r\n" % (len(name), name) for name in chosen])
        count -= SLICE_KEYS
        if cursor == 0:
            break
        yield None
    return [b"*2\r\n", resp.bulk(b"%d" % cursor), *page.parts()]


def _chosen(
    session: Session, found: list[bytes], matches: object, kind: bytes | None
) -> list[bytes]:
    if callable(matches):
        found = [key for key in found if matches(key)]
    if kind is not None:
        peek = session.keyspace.peek
        found = [
            key for key in found if (value := peek(key)) is not None and kind_of(value) == kind
        ]
    return found


def _page(cursor: int, found: list[bytes]) -> bytes:
    return resp.array([resp.bulk(b"%d" % cursor), resp.bulks(dict.fromkeys(found))])


def _cursor(raw: bytes) -> int:
    """Read a cursor as Redis does: a number with or without a sign, taken modulo 2**64."""
    if _CURSOR.fullmatch(raw) is None or abs(value := int(raw or b"0")) >= 2**64:
        raise CommandError("ERR invalid cursor")
    return value % 2**64
