"""How values are kept: OBJECT and MEMORY."""

from __future__ import annotations

from typing import Final

from kvserver.commands.arguments import NOT_AN_INTEGER, SYNTAX_ERROR, help_reply, integer_argument
from kvserver.commands.table import CommandTable
from kvserver.errors import CommandError
from kvserver.longstring import whole
from kvserver.memory import (
    DEADLINE_BYTES,
    TABLE_BYTES,
    entry_bytes,
    give_back_free_memory,
    resident_bytes,
)
from kvserver.numbers import parse_int
from kvserver.resp import OK, bulk, encode, integer, verbatim
from kvserver.session import Session
from kvserver.values import SummaryValue

TABLE: Final = CommandTable("generic")
OBJECT: Final = TABLE.container("object", "Tells how a value is kept.", "2.2.3")
_KEY: Final = (2, 2, 1)
_SHORT_BYTES: Final = 44
"""Up to so many bytes Redis keeps a string inside its object."""


@OBJECT.command("encoding", 3, "readonly", keys=_KEY, since="2.2.3", complexity="O(1)")
def encoding(session: Session, args: list[bytes]) -> bytes:
    """Returns how Redis would keep the value: int, embstr or raw; summary for a summary."""
    value = session.keyspace.peek(args[2])
    if value is None:
        return session.null
    if type(value) is SummaryValue:
        return bulk(b"summary")
    if len(value) > _SHORT_BYTES:
        return bulk(b"raw")
    return bulk(b"embstr" if parse_int(whole(value)) is None else b"int")


@OBJECT.command("refcount", 3, "readonly", keys=_KEY, since="2.2.3", complexity="O(1)")
def refcount(session: Session, args: list[bytes]) -> bytes:
    """Returns 1: values are not shared between keys."""
    return session.null if session.keyspace.peek(args[2]) is None else integer(1)


@OBJECT.command("idletime", 3, "readonly", keys=_KEY, since="2.2.3", complexity="O(1)")
def idletime(session: Session, args: list[bytes]) -> bytes:
    """Returns the seconds since a key was used; 0 unless an LRU policy keeps track of that."""
    if session.keyspace.peek(args[2]) is None:
        return session.null
    return integer(session.engine.memory.idle_s(args[2]))


@OBJECT.command("freq", 3, "readonly", keys=_KEY, since="4.0.0", complexity="O(1)")
def freq(session: Session, args: list[bytes]) -> bytes:
    """Is refused: there is no LFU policy here."""
    if session.keyspace.peek(args[2]) is None:
        return session.null
    raise CommandError(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
        "that when switching between policies at runtime LRU and LFU data will take some time to "
        "adjust."
    )


@OBJECT.command("help", 2, "loading stale", since="6.2.0")
def object_help(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows the subcommands."""
    return help_reply("OBJECT", OBJECT)


MEMORY: Final = TABLE.container("memory", "Tells what takes memory.", "4.0.0")


@MEMORY.command("usage", -3, "readonly", keys=_KEY, since="4.0.0", complexity="O(1)")
def usage(session: Session, args: list[bytes]) -> bytes:
    """Estimates the bytes that a key takes, its value and its share of the tables included."""
    rest = args[3:]
    while rest:
        if rest[0].upper() != b"SAMPLES" or len(rest) < 2:
            raise CommandError(SYNTAX_ERROR)
        if integer_argument(rest[1], NOT_AN_INTEGER) < 0:
            raise CommandError(SYNTAX_ERROR)
        rest = rest[2:]
    keyspace = session.keyspace
    value = keyspace.peek(args[2])
    if value is None:
        return session.null
    deadline = DEADLINE_BYTES if keyspace.deadline(args[2]) is not None else 0
    return integer(entry_bytes(args[2], value) + TABLE_BYTES + deadline)


@MEMORY.command("stats", 2, "readonly", since="4.0.0", complexity="O(1)")
def stats(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns what takes memory in the process."""
    keyspace = session.keyspace
    keys = len(keyspace)
    used = session.engine.memory.used_bytes()
    tables = TABLE_BYTES * keys + DEADLINE_BYTES * len(keyspace.deadlines)
    output = sum(sum(map(len, s.out)) for s in session.engine.sessions.values())
    resident = resident_bytes()
    return encode(
        session.resp,
        {
            "peak.allocated": max(used, resident),
            "total.allocated": used,
            "startup.allocated": session.engine.memory.base_bytes,
            "clients.normal": output,
            "db.0": {
                "overhead.hashtable.main": TABLE_BYTES * keys,
                "overhead.hashtable.expires": DEADLINE_BYTES * len(keyspace.deadlines),
            },
            "overhead.total": tables + output,
            "keys.count": keys,
            "keys.bytes-per-key": used // keys if keys else 0,
            "dataset.bytes": max(0, used - tables - output),
            "fragmentation": resident / used if used else 1.0,
        },
    )


@MEMORY.command("doctor", 2, "readonly", since="4.0.0", complexity="O(1)")
def doctor(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Says in words how memory is used."""
    engine = session.engine
    limit = engine.config.maxmemory_bytes
    used = engine.memory.used_bytes()
    text = f"{len(engine.keyspace)} keys, {used // 1024} KiB used"
    if limit:
        text += f", {100 * used / limit:.0f} % of maxmemory ({engine.config.maxmemory_policy})"
        text += f", {engine.stats.evicted} keys evicted so far"
    return verbatim(session.resp, f"{text}.\n".encode())


@MEMORY.command("purge", 2, "admin", since="4.0.0")
def purge(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Gives memory that was freed back to the system."""
    give_back_free_memory()
    return OK


@MEMORY.command("malloc-stats", 2, "", since="4.0.0")
def malloc_stats(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Says that the allocator tells nothing about itself."""
    return bulk(b"Stats not supported for the current allocator")


@MEMORY.command("help", 2, "loading stale", since="4.0.0")
def memory_help(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows the subcommands."""
    return help_reply("MEMORY", MEMORY)
