"""BACKUP: a consistent copy of the journal, read in pieces; see `kvserver.journal.backup`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kvserver import resp
from kvserver.commands.arguments import integer_argument
from kvserver.commands.table import CommandTable
from kvserver.errors import CommandError, JournalError

if TYPE_CHECKING:
    from kvserver.journal.backup import Backups
    from kvserver.session import Session

TABLE: Final = CommandTable("server")
SUBCOMMANDS: Final = "Try BACKUP BEGIN, BACKUP READ name offset count, BACKUP END."


def _backups(session: Session) -> Backups:
    engine = session.engine
    if engine.journal is None:
        raise CommandError("ERR there is no journal to back up")
    backups: Backups = engine.journal.backups
    if _forget not in engine.on_close:
        engine.on_close.append(_forget)
    return backups


def _forget(session: Session) -> None:
    if session.engine.journal is not None:
        session.engine.journal.backups.end(session.id)


@TABLE.command("backup", -2, "admin noscript no_multi", complexity="O(size of the piece)")
def backup(session: Session, args: list[bytes]) -> bytes:
    """Reads a consistent copy of the journal, piece by piece, while the server goes on."""
    what = args[1].upper()
    backups = _backups(session)
    try:
        if what == b"BEGIN" and len(args) == 2:
            sizes = backups.begin(session.id).sizes
            pairs: list[Any] = [[name.encode(), size] for name, size in sizes.items()]
            return resp.encode(session.resp, pairs)
        if what == b"READ" and len(args) == 5:
            name = args[2].decode("ascii", "replace")
            offset, count = integer_argument(args[3]), integer_argument(args[4])
            return resp.bulk(backups.of(session.id).read(name, offset, count))
        if what == b"END" and len(args) == 2:
            return resp.integer(int(backups.end(session.id)))
    except JournalError as error:
        raise CommandError(f"ERR {error}") from error
    except OSError as error:
        raise CommandError(f"ERR the journal cannot be read: {error.strerror}") from error
    raise CommandError(f"ERR unknown subcommand or wrong number of arguments. {SUBCOMMANDS}")
