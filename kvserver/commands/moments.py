"""Deadlines as points in time: EXPIREAT PEXPIREAT EXPIRETIME PEXPIRETIME."""

from __future__ import annotations

from kvserver.commands.expiry import moment_ms, set_deadline
from kvserver.commands.table import CommandTable
from kvserver.resp import integer
from kvserver.session import Session

TABLE = CommandTable("generic")


@TABLE.command("expireat", -3, "write fast", keys=(1, 1, 1), since="1.2.0", complexity="O(1)")
def expireat(session: Session, args: list[bytes]) -> bytes:
    """Sets when a key expires, in seconds since 1970."""
    return set_deadline(session, args, factor=1000, absolute=True)


@TABLE.command("pexpireat", -3, "write fast", keys=(1, 1, 1), since="2.6.0", complexity="O(1)")
def pexpireat(session: Session, args: list[bytes]) -> bytes:
    """Sets when a key expires, in milliseconds since 1970."""
    return set_deadline(session, args, factor=1, absolute=True)


@TABLE.command("expiretime", 2, "readonly fast", keys=(1, 1, 1), since="7.0.0", complexity="O(1)")
def expiretime(session: Session, args: list[bytes]) -> bytes:
    """Returns when a key expires, in seconds since 1970."""
    deadline_ms = moment_ms(session, args[1])
    return integer(deadline_ms if deadline_ms < 0 else (deadline_ms + 500) // 1000)


@TABLE.command("pexpiretime", 2, "readonly fast", keys=(1, 1, 1), since="7.0.0", complexity="O(1)")
def pexpiretime(session: Session, args: list[bytes]) -> bytes:
    """Returns when a key expires, in milliseconds since 1970."""
    return integer(moment_ms(session, args[1]))
