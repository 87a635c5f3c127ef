"""A key in Redis's own format, to be taken from one server to another: DUMP RESTORE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvserver.ahead import ahead
from kvserver.commands.arguments import SYNTAX_ERROR, integer_argument
from kvserver.commands.strings import MAX_DEADLINE_MS
from kvserver.commands.table import CommandTable, Reply, Work, completed
from kvserver.dumped import around, unpacked
from kvserver.errors import CommandError
from kvserver.longstring import whole
from kvserver.resp import OK
from kvserver.session import Session
from kvserver.values import SummaryValue

TABLE: Final = CommandTable("generic")

_NOT_A_STRING: Final = "ERR DUMP is for strings; `kvcli export` writes summaries, too"
_MAX_FREQUENCY: Final = 255


def _begun(work: Work) -> Reply:
    """Take the first step of a command, which for most is the last one."""
    try:
        next(work)
    except StopIteration as done:
        reply: bytes | list[bytes] = done.value
        return reply if isinstance(reply, bytes) else b"".join(reply)
    return work


@TABLE.command("dump", 2, "readonly", keys=(1, 1, 1), since="2.6.0", complexity="O(N)")
def dump(session: Session, args: list[bytes]) -> Reply:
    """Returns a string as RESTORE takes it, here and in Redis."""
    value = session.keyspace.lookup(args[1])
    if value is None:
        return session.null
    if type(value) is SummaryValue:
        raise CommandError(_NOT_A_STRING)
    return _begun(_dumped(whole(value)))


def _dumped(value: bytes) -> Work:
    head, value, footer = yield from around(value)
    size = len(head) + len(value) + len(footer)
    return [b"$%d\r\n" % size, head, value, footer, b"\r\n"]


@dataclass(slots=True)
class _Options:
    """What stands behind the payload of a RESTORE."""

    replace: bool = False
    absolute: bool = False
    idle_s: int = -1
    frequency: int = -1
    """Only looked at: it is for a policy that is not offered here."""


def _options(words: list[bytes]) -> _Options:
    options = _Options()
    at = 0
    while at < len(words):
        word, is_last = words[at].upper(), at + 1 == len(words)
        if word == b"REPLACE":
            options.replace = True
        elif word == b"ABSTTL":
            options.absolute = True
        elif word == b"IDLETIME" and not is_last and options.frequency == -1:
            at += 1
            options.idle_s = integer_argument(words[at])
            if options.idle_s < 0:
                raise CommandError("ERR Invalid IDLETIME value, must be >= 0")
        elif word == b"FREQ" and not is_last and options.idle_s == -1:
            at += 1
            options.frequency = integer_argument(words[at])
            if not 0 <= options.frequency <= _MAX_FREQUENCY:
                raise CommandError("ERR Invalid FREQ value, must be >= 0 and <= 255")
        else:
            raise CommandError(SYNTAX_ERROR)
        at += 1
    return options


@TABLE.command("restore", -4, "write denyoom", keys=(1, 1, 1), since="2.6.0", complexity="O(N)")
def restore(session: Session, args: list[bytes]) -> Reply:
    """Makes a string of what DUMP returned, here or in Redis."""
    options = _options(args[4:])
    _check_free(session, args[1], options)
    ttl_ms = integer_argument(args[2])
    if ttl_ms < 0:
        raise CommandError("ERR Invalid TTL value, must be >= 0")
    _deadline_ms(session, ttl_ms, options)
    return _begun(_restored(session, args, ttl_ms, options))


def _restored(session: Session, args: list[bytes], ttl_ms: int, options: _Options) -> Work:
    value = yield from unpacked(args[3], session.engine.config.max_bulk_bytes)
    reply = ahead(session, [value], lambda: _stored(session, args, ttl_ms, options, value))
    return (yield from completed(reply))


def _stored(
    session: Session, args: list[bytes], ttl_ms: int, options: _Options, value: bytes
) -> bytes:
    # Meanwhile others may have made the key, and time went on. From here on nobody comes between.
    key, keyspace = args[1], session.keyspace
    _check_free(session, key, options)
    deadline_ms = _deadline_ms(session, ttl_ms, options)
    if deadline_ms is not None and deadline_ms <= keyspace.now:
        keyspace.delete(key)
        return OK
    keyspace.set(key, value, deadline_ms, "restore")
    if options.idle_s >= 0:
        session.engine.memory.note_idle(key, options.idle_s)
    return OK


def _check_free(session: Session, key: bytes, options: _Options) -> None:
    if not options.replace and session.keyspace.exists(key):
        raise CommandError("BUSYKEY Target key name already exists.")


def _deadline_ms(session: Session, ttl_ms: int, options: _Options) -> int | None:
    if ttl_ms == 0:
        return None
    deadline_ms = ttl_ms if options.absolute else session.keyspace.now + ttl_ms
    if deadline_ms > MAX_DEADLINE_MS:  # where Redis's sum becomes negative, and the key is lost
        raise CommandError("ERR invalid expire time in 'restore' command")
    return deadline_ms
