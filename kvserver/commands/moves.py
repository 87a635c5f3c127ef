"""Keys moved and picked: COPY RENAME RENAMENX MOVE RANDOMKEY."""

from __future__ import annotations

from collections.abc import Callable

from kvserver.ahead import ahead
from kvserver.commands.arguments import NO_SUCH_KEY, SYNTAX_ERROR, integer_argument
from kvserver.commands.table import CommandTable, Reply
from kvserver.errors import CommandError
from kvserver.resp import OK, ONE, ZERO, bulk
from kvserver.session import Session

TABLE = CommandTable("generic")


def _rename(session: Session, source: bytes, target: bytes) -> None:
    keyspace = session.keyspace
    value = keyspace.peek(source)
    if value is None:
        raise CommandError(NO_SUCH_KEY)
    if source == target:
        return
    deadline_ms = keyspace.deadline(source)
    keyspace.delete(source, "rename_from")
    keyspace.put(target, value, deadline_ms, "rename_to")


def _ahead_of(session: Session, source: bytes, do: Callable[[], Reply]) -> Reply:
    """Do it once the value of ``source``, which another key is to have too, is in the journal."""
    value = session.keyspace.peek(source)
    return do() if value is None else ahead(session, [value], do)


@TABLE.command("rename", 3, "write", keys=(1, 2, 1), complexity="O(1)")
def rename(session: Session, args: list[bytes]) -> Reply:
    """Renames a key, in place of whatever had the new name."""

    def do() -> bytes:
        _rename(session, args[1], args[2])
        return OK

    return _ahead_of(session, args[1], do)


@TABLE.command("renamenx", 3, "write fast", keys=(1, 2, 1), complexity="O(1)")
def renamenx(session: Session, args: list[bytes]) -> Reply:
    """Renames a key unless the new name is taken."""

    def do() -> bytes:
        keyspace = session.keyspace
        if not keyspace.exists(args[1]):
            raise CommandError(NO_SUCH_KEY)
        if keyspace.exists(args[2]):
            return ZERO
        _rename(session, args[1], args[2])
        return ONE

    return _ahead_of(session, args[1], do)


@TABLE.command("copy", -3, "write denyoom", keys=(1, 2, 1), since="6.2.0", complexity="O(1)")
def copy(session: Session, args: list[bytes]) -> Reply:
    """Copies the value of a key, with its deadline, to another key."""
    replace = False
    at = 3
    while at < len(args):
        word = args[at].upper()
        if word == b"REPLACE":
            replace = True
        elif word == b"DB" and at + 1 < len(args):
            at += 1
            if integer_argument(args[at]) != 0:
                raise CommandError("ERR DB index is out of range")
        else:
            raise CommandError(SYNTAX_ERROR)
        at += 1
    source, target = args[1], args[2]
    if source == target:
        raise CommandError("ERR source and destination objects are the same")

    def do() -> bytes:
        keyspace = session.keyspace
        value = keyspace.peek(source)
        if value is None or (keyspace.exists(target) and not replace):
            return ZERO
        keyspace.put(target, value, keyspace.deadline(source), "copy_to")
        return ONE

    return _ahead_of(session, source, do)


@TABLE.command("move", 3, "write fast", keys=(1, 1, 1), since="1.0.0", complexity="O(1)")
def move(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Refuses: there is one database, in which a key stays."""
    if integer_argument(args[2]) != 0:
        raise CommandError("ERR DB index is out of range")
    raise CommandError("ERR source and destination objects are the same")


@TABLE.command("randomkey", 1, "readonly", complexity="O(1)")
def randomkey(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns a key at random."""
    key = session.keyspace.random_key()
    return session.null if key is None else bulk(key)
