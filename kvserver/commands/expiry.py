"""Deadlines of keys, the everyday part: EXPIRE PEXPIRE TTL PTTL PERSIST (with NX XX GT LT)."""

from __future__ import annotations

from typing import Final

from kvserver import resp
from kvserver.commands.strings import MAX_DEADLINE_MS, NOT_AN_INTEGER
from kvserver.commands.table import CommandTable, shown
from kvserver.errors import CommandError
from kvserver.numbers import parse_int
from kvserver.session import Session

TABLE: Final = CommandTable("generic")


def set_deadline(session: Session, args: list[bytes], *, factor: int, absolute: bool) -> bytes:
    """Do what EXPIRE and its relatives do; the last two say what the number means."""
    keyspace = session.keyspace
    key, raw = args[1], args[2]
    wanted = _conditions(args[3:]) if len(args) > 3 else None
    number = parse_int(raw)
    if number is None:
        raise CommandError(NOT_AN_INTEGER)
    deadline_ms = number * factor + (0 if absolute else keyspace.now)
    if not -MAX_DEADLINE_MS <= number * factor <= MAX_DEADLINE_MS or deadline_ms > MAX_DEADLINE_MS:
        name = args[0].decode("ascii", "replace").lower()
        raise CommandError(f"ERR invalid expire time in '{name}' command")
    if wanted and (
        not keyspace.exists(key) or _forbids(wanted, keyspace.deadline(key), deadline_ms)
    ):
        return resp.ZERO
    return resp.ONE if keyspace.expire(key, deadline_ms) else resp.ZERO


def _forbids(wanted: set[bytes], held_ms: int | None, deadline_ms: int) -> bool:
    """Whether the conditions say that a key with one deadline does not get another."""
    return (
        (b"NX" in wanted and held_ms is not None)
        or (b"XX" in wanted and held_ms is None)
        or (b"GT" in wanted and (held_ms is None or deadline_ms <= held_ms))
        or (b"LT" in wanted and held_ms is not None and deadline_ms >= held_ms)
    )


def _conditions(words: list[bytes]) -> set[bytes]:
    wanted = {word.upper() for word in words}
    for word in words:
        if word.upper() not in {b"NX", b"XX", b"GT", b"LT"}:
            raise CommandError(f"ERR Unsupported option {shown(word)}")
    if b"NX" in wanted and len(wanted) > 1:
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= wanted:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    return wanted


@TABLE.command("expire", -3, "write fast", keys=(1, 1, 1), complexity="O(1)")
def expire(session: Session, args: list[bytes]) -> bytes:
    """Sets the time to live of a key, in seconds."""
    return set_deadline(session, args, factor=1000, absolute=False)


@TABLE.command("pexpire", -3, "write fast", keys=(1, 1, 1), since="2.6.0", complexity="O(1)")
def pexpire(session: Session, args: list[bytes]) -> bytes:
    """Sets the time to live of a key, in milliseconds."""
    return set_deadline(session, args, factor=1, absolute=False)


def moment_ms(session: Session, key: bytes) -> int:
    """When a key expires, epoch ms; -1 for never, -2 when there is no such key."""
    keyspace = session.keyspace
    deadline_ms = keyspace.deadlines.get(key)
    if deadline_ms is None:
        return -1 if key in keyspace.data else -2
    return deadline_ms if keyspace.alive(key) else -2


def _left_ms(session: Session, key: bytes) -> int:
    """Milliseconds left; -1 without a deadline, -2 without a key."""
    deadline_ms = moment_ms(session, key)
    return deadline_ms if deadline_ms < 0 else deadline_ms - session.keyspace.now


@TABLE.command("ttl", 2, "readonly fast", keys=(1, 1, 1), complexity="O(1)")
def ttl(session: Session, args: list[bytes]) -> bytes:
    """Returns the time to live of a key, in seconds."""
    left = _left_ms(session, args[1])
    return resp.integer(left if left < 0 else (left + 500) // 1000)


@TABLE.command("pttl", 2, "readonly fast", keys=(1, 1, 1), since="2.6.0", complexity="O(1)")
def pttl(session: Session, args: list[bytes]) -> bytes:
    """Returns the time to live of a key, in milliseconds."""
    return resp.integer(_left_ms(session, args[1]))


@TABLE.command("persist", 2, "write fast", keys=(1, 1, 1), since="2.2.0", complexity="O(1)")
def persist(session: Session, args: list[bytes]) -> bytes:
    """Takes the deadline of a key away."""
    keyspace = session.keyspace
    key = args[1]
    if not keyspace.exists(key) or keyspace.deadline(key) is None:
        return resp.ZERO
    keyspace.expire(key, None)
    return resp.ONE
