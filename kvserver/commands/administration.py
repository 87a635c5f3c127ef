"""For those who run the server: TIME SAVE BGSAVE LASTSAVE BGREWRITEAOF ROLE WAIT SWAPDB MODULE."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from kvserver.commands.arguments import SYNTAX_ERROR, help_reply, integer_argument
from kvserver.commands.table import NEXT_TURN, CommandTable, Reply, Work
from kvserver.errors import CommandError
from kvserver.resp import EMPTY_ARRAY, OK, ZERO, array, bulk, bulks, integer, simple
from kvserver.session import Session

if TYPE_CHECKING:
    from kvserver.engine import Engine
    from kvserver.journal.writer import Journal

TABLE: Final = CommandTable("server")
_SYNC_LOOK_S: Final = 0.01
"""How long SAVE waits before it looks again whether the sync has ended."""


@TABLE.command("time", 1, "loading stale fast", since="2.6.0", complexity="O(1)")
def time_(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns the time of the server: seconds since 1970, and microseconds."""
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return bulks([b"%d" % seconds, b"%d" % microseconds])


@TABLE.command("lastsave", 1, "loading stale fast", since="1.0.0", complexity="O(1)")
def lastsave(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns when the last SAVE or compaction ended, or else when the server started."""
    return integer(int(session.engine.last_save_s or session.engine.stats.started))


@TABLE.command("save", 1, "admin noscript no_multi", since="1.0.0", complexity="That of a sync")
def save(session: Session, args: list[bytes]) -> Reply:  # noqa: ARG001 - as every handler
    """Returns when all that was written before is on disk, whatever the fsync policy is."""
    if session.engine.journal is None:
        raise CommandError("ERR there is no journal")
    return _saved(session.engine, session.engine.journal)


def _saved(engine: Engine, journal: Journal) -> Work:
    yield NEXT_TURN  # what was written in this turn goes to the journal at its end
    mark = journal.appended_bytes
    while journal.synced_bytes < mark or journal.pending:
        if journal.readonly_reason is not None:
            raise CommandError(f"MISCONF {journal.readonly_reason}")
        journal.sync_wanted = True
        yield time.monotonic() + _SYNC_LOOK_S
    engine.last_save_s = time.time()
    return OK


@TABLE.command("bgsave", -1, "admin noscript", since="1.0.0", complexity="O(1)")
def bgsave(session: Session, args: list[bytes]) -> bytes:
    """Starts a compaction of the journal, which is what there is of snapshots here."""
    if len(args) > 2 or (len(args) == 2 and args[1].upper() != b"SCHEDULE"):
        raise CommandError(SYNTAX_ERROR)
    if session.engine.start_compaction is None:
        raise CommandError("ERR there is no journal")
    try:
        session.engine.start_compaction()
    except CommandError:
        raise CommandError("ERR Background save already in progress") from None
    return simple("Background saving started")


@TABLE.command("bgrewriteaof", 1, "admin noscript no_multi", since="1.0.0", complexity="O(1)")
def bgrewriteaof(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Starts a compaction of the journal."""
    if session.engine.start_compaction is None:
        raise CommandError("ERR Can't execute an AOF background rewriting: there is no journal")
    said = session.engine.start_compaction()
    return simple(said or "Background append only file rewriting started")


@TABLE.command("role", 1, "noscript loading stale fast", since="2.8.12", complexity="O(1)")
def role(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Says that this server has no replicas."""
    return array([bulk(b"master"), ZERO, EMPTY_ARRAY])


@TABLE.command("wait", 3, "noscript", since="3.0.0", complexity="O(1)")
def wait(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns at once how many replicas have everything: none."""
    integer_argument(args[1])
    if integer_argument(args[2], "ERR timeout is not an integer or out of range") < 0:
        raise CommandError("ERR timeout is negative")
    return ZERO


@TABLE.command("swapdb", 3, "write fast", since="4.0.0", complexity="O(1)")
def swapdb(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Swaps database 0 with itself; there is no other."""
    first = integer_argument(args[1], "ERR invalid first DB index")
    second = integer_argument(args[2], "ERR invalid second DB index")
    if first != 0 or second != 0:
        raise CommandError("ERR DB index is out of range")
    return OK


MODULE: Final = TABLE.container("module", "Tells which modules are loaded.", "4.0.0")


@MODULE.command("list", 2, "admin noscript", since="4.0.0", complexity="O(1)")
def module_list(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns an empty list: there are no modules to load here."""
    return EMPTY_ARRAY


@MODULE.command("help", 2, "loading stale", since="5.0.0")
def module_help(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows the subcommands."""
    return help_reply("MODULE", MODULE)
