"""The server itself, the everyday part: DBSIZE FLUSHALL FLUSHDB SHUTDOWN INFO STATS TIME."""

from __future__ import annotations

from typing import Final

from kvserver import resp
from kvserver.commands.strings import SYNTAX
from kvserver.commands.table import CommandTable
from kvserver.errors import CommandError
from kvserver.session import Session

TABLE: Final = CommandTable("server")


@TABLE.command("dbsize", 1, "readonly fast", complexity="O(1)")
def dbsize(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - is called like any handler
    """Returns the number of keys."""
    return resp.integer(len(session.keyspace))


def _flush(session: Session, args: list[bytes]) -> bytes:
    if len(args) > 2 or (len(args) == 2 and args[1].upper() not in {b"SYNC", b"ASYNC"}):
        raise CommandError(SYNTAX)
    session.keyspace.clear()
    return resp.OK


@TABLE.command("flushall", -1, "write", complexity="O(1); memory is freed in slices")
def flushall(session: Session, args: list[bytes]) -> bytes:
    """Deletes all keys, the books of sources and the patterns too."""
    return _flush(session, args)


@TABLE.command("flushdb", -1, "write", complexity="O(1); memory is freed in slices")
def flushdb(session: Session, args: list[bytes]) -> bytes:
    """Deletes all keys of the one database there is."""
    return _flush(session, args)


@TABLE.command("shutdown", -1, "admin loading stale no_multi", complexity="O(1)")
def shutdown(session: Session, args: list[bytes]) -> bytes:
    """Finishes what is under way, writes everything to disk and ends the server."""
    words = {word.upper() for word in args[1:]}
    if (
        not words <= {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"}
        or {b"NOSAVE", b"SAVE"} <= words
    ):
        raise CommandError(SYNTAX)
    if b"ABORT" in words:
        raise CommandError("ERR No shutdown in progress.")
    if session.engine.shutdown_requested is None:
        raise CommandError("ERR Errors trying to SHUTDOWN. Check logs.")
    session.engine.shutdown_requested()
    session.close_after_reply()
    return b""
