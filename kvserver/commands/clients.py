"""Clients about themselves and each other: CLIENT and RESET."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from kvserver.commands.arguments import SYNTAX_ERROR, help_reply, integer_argument
from kvserver.commands.table import CommandTable, Reply, Work, shown
from kvserver.errors import CommandError
from kvserver.numbers import parse_int
from kvserver.resp import OK, ZERO, bulk, integer, simple, verbatim
from kvserver.session import Session

TABLE: Final = CommandTable("connection")
CLIENT: Final = TABLE.container("client", "Tells about clients, and steers them.", "2.4.0")

_QUIET: Final = "noscript loading stale"
_ADMIN: Final = "admin noscript loading stale"
_WRONG_FORM: Final = (
    "ERR unknown subcommand or wrong number of arguments for '{}'. Try CLIENT HELP."
)
_TYPES: Final = {
    b"NORMAL": "normal",
    b"MASTER": "master",
    b"REPLICA": "replica",
    b"SLAVE": "replica",
    b"PUBSUB": "pubsub",
}


def printable(word: bytes) -> bool:
    """Whether a name may be shown in a list of clients: no spaces, no control characters."""
    return all(33 <= byte <= 126 for byte in word)


def _kind(session: Session) -> str:
    return "pubsub" if session.subscribed else "normal"


def _last_command(session: Session) -> str:
    command = session.engine.registry.find(session.last_called)
    if command is None:
        return ""
    subcommand = session.last_subcommand
    return subcommand if subcommand.startswith(f"{command.name}|") else command.name


def describe(session: Session) -> str:
    """Return one client as a line of CLIENT LIST."""
    engine = session.engine
    channels, patterns, of_shards = engine.hub.counts(session)
    mode = session.tracking
    flags = "".join(
        letter
        for letter, there in (
            ("P", session.subscribed),
            ("O", "monitor" in session.about),
            ("x", session.queue is not None),
            ("t", mode is not None),
            ("R", mode is not None and mode.broken),
            ("B", mode is not None and mode.broadcast),
            ("c", session.closing),
            ("U", session.about.get("unix_socket")),
            ("e", session.about.get("no_evict")),
            ("T", session.about.get("no_touch")),
        )
        if there
    )
    out_bytes = sum(map(len, session.out))
    fields = {
        "id": session.id,
        "addr": session.address,
        "laddr": session.local_address,
        "fd": getattr(session.transport, "fd", -1),
        "name": session.name.decode(),
        "age": int(time.time() - session.created),
        "idle": int(time.monotonic() - session.last_active),
        "flags": flags or "N",
        "db": 0,
        "sub": channels,
        "psub": patterns,
        "ssub": of_shards,
        "multi": -1 if session.queue is None else len(session.queue),
        "qbuf": 0,
        "qbuf-free": 0,
        "argv-mem": 0,
        "multi-mem": session.queued_bytes if session.queue else 0,
        "rbs": 0,
        "rbp": 0,
        "obl": 0,
        "oll": len(session.out),
        "omem": out_bytes,
        "tot-mem": out_bytes + (session.queued_bytes if session.queue else 0),
        "events": "r",
        "cmd": _last_command(session) or "NULL",
        "user": session.user,
        "redir": mode.redirect if mode is not None else -1,
        "resp": session.resp,
        "lib-name": session.lib_name.decode(),
        "lib-ver": session.lib_version.decode(),
    }
    return " ".join(f"{name}={value}" for name, value in fields.items())


def _listed(session: Session, chosen: list[Session]) -> Work:
    """Return lines of CLIENT LIST, a few at a time: ten thousand take a tenth of a second."""
    lines = []
    for number, each in enumerate(chosen):
        if each.id in session.engine.sessions:  # not gone meanwhile
            lines.append(describe(each) + "\n")
        if number % 50 == 49:
            yield None
    return verbatim(session.resp, "".join(lines).encode())


@CLIENT.command("id", 2, f"{_QUIET} fast", since="5.0.0", complexity="O(1)")
def id_(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns the number of this connection."""
    return integer(session.id)


@CLIENT.command("info", 2, _QUIET, since="6.2.0", complexity="O(1)")
def info(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Describes this connection."""
    return verbatim(session.resp, describe(session).encode() + b"\n")


@CLIENT.command("list", -2, _ADMIN, since="2.4.0", complexity="O(N)")
def list_(session: Session, args: list[bytes]) -> Reply:
    """Describes all connections, or some, one a line."""
    sessions = session.engine.sessions
    if len(args) == 2:
        return _listed(session, list(sessions.values()))
    word = args[2].upper()
    if word == b"TYPE" and len(args) == 4:
        kind = _type(args[3])
        return _listed(session, [s for s in sessions.values() if _kind(s) == kind])
    if word == b"ID" and len(args) > 3:
        wanted = [parse_int(raw) for raw in args[3:]]
        if None in wanted:
            raise CommandError("ERR Invalid client ID")
        return _listed(session, [sessions[n] for n in wanted if n is not None and n in sessions])
    raise CommandError(SYNTAX_ERROR)


def _type(raw: bytes) -> str:
    kind = _TYPES.get(raw.upper())
    if kind is None:
        raise CommandError(f"ERR Unknown client type '{shown(raw)}'")
    return kind


@CLIENT.command("getname", 2, f"{_QUIET} fast", since="2.6.9", complexity="O(1)")
def getname(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns the name of this connection."""
    return bulk(session.name) if session.name else session.null


@CLIENT.command("setname", 3, f"{_QUIET} fast", since="2.6.9", complexity="O(1)")
def setname(session: Session, args: list[bytes]) -> bytes:
    """Names this connection."""
    if not printable(args[2]):
        raise CommandError(
            "ERR Client names cannot contain spaces, newlines or special characters."
        )
    session.name = args[2]
    return OK


@CLIENT.command("setinfo", 4, f"{_QUIET} fast", since="7.2.0", complexity="O(1)")
def setinfo(session: Session, args: list[bytes]) -> bytes:
    """Notes the client library and its version."""
    word = args[2].lower()
    if word not in {b"lib-name", b"lib-ver"}:
        raise CommandError(f"ERR Unrecognized option '{shown(args[2])}'")
    if not printable(args[3]):
        raise CommandError(
            f"ERR {word.decode()} cannot contain spaces, newlines or special characters."
        )
    if word == b"lib-name":
        session.lib_name = args[3]
    else:
        session.lib_version = args[3]
    return OK


def drop(session: Session) -> None:
    """End a connection at once, without what it has not read."""
    if session.transport is not None:
        session.transport.close()
    else:
        session.out.clear()
        session.close_after_reply()


@CLIENT.command("kill", -3, _ADMIN, since="2.4.0", complexity="O(N)")
def kill(session: Session, args: list[bytes]) -> bytes:
    """Ends connections, chosen by address, number, type or user."""
    sessions = session.engine.sessions
    if len(args) == 3:
        found = [s for s in sessions.values() if s.address.encode() == args[2]]
        if not found:
            raise CommandError("ERR No such client")
        _kill(session, found)
        return OK
    tests, skip_me = _filters(args[2:])
    found = [
        s
        for s in list(sessions.values())
        if not (skip_me and s is session) and all(test(s) for test in tests)
    ]
    _kill(session, found)
    return integer(len(found))


def _kill(session: Session, found: Iterable[Session]) -> None:
    for victim in found:
        if victim is session:
            victim.close_after_reply()
        else:
            drop(victim)


def _attribute_is(get: Callable[[Session], object], wanted: object) -> Callable[[Session], bool]:
    return lambda session: get(session) == wanted


def _filters(words: list[bytes]) -> tuple[list[Callable[[Session], bool]], bool]:
    tests: list[Callable[[Session], bool]] = []
    skip_me = True
    for at in range(0, len(words), 2):
        if at + 1 == len(words):
            raise CommandError(SYNTAX_ERROR)
        word, value = words[at], words[at + 1]
        match word.upper():
            case b"ID":
                number = parse_int(value)
                if number is None or number <= 0:
                    raise CommandError("ERR client-id should be greater than 0")
                tests.append(_attribute_is(lambda s: s.id, number))
            case b"TYPE":
                kind = _type(value)
                tests.append(_attribute_is(_kind, kind))
            case b"ADDR":
                tests.append(_attribute_is(lambda s: s.address.encode(), value))
            case b"LADDR":
                tests.append(_attribute_is(lambda s: s.local_address.encode(), value))
            case b"USER":
                if value != b"default":
                    raise CommandError(f"ERR No such user '{shown(value)}'")
            case b"SKIPME" if value.lower() in {b"yes", b"no"}:
                skip_me = value.lower() == b"yes"
            case _:
                raise CommandError(SYNTAX_ERROR)
    return tests, skip_me


@CLIENT.command("reply", 3, f"{_QUIET} fast", since="3.2.0", complexity="O(1)")
def reply(session: Session, args: list[bytes]) -> bytes:
    """Turns replies on, off, or off for one command."""
    word = args[2].upper()
    if word == b"ON":
        session.silent = 0
        session.retable()
        return OK
    if word == b"OFF":
        session.silent = 2
    elif word == b"SKIP":
        session.silent = session.silent or 1
    else:
        raise CommandError(SYNTAX_ERROR)
    session.retable()
    return b""


def _switch(session: Session, args: list[bytes], name: str) -> bytes:
    word = args[2].upper()
    if word not in {b"ON", b"OFF"}:
        raise CommandError(SYNTAX_ERROR)
    session.about[name] = word == b"ON"
    session.retable()
    return OK


@CLIENT.command("no-evict", 3, f"{_ADMIN} fast", since="7.0.0", complexity="O(1)")
def no_evict(session: Session, args: list[bytes]) -> bytes:
    """Accepted for the sake of clients; connections are not evicted for memory here."""
    return _switch(session, args, "no_evict")


@CLIENT.command("no-touch", 3, f"{_QUIET} fast", since="7.2.0", complexity="O(1)")
def no_touch(session: Session, args: list[bytes]) -> bytes:
    """Lets the commands of this connection leave the time of last use of keys alone."""
    return _switch(session, args, "no_touch")


@CLIENT.command("pause", -3, _ADMIN, since="3.0.0", complexity="O(1)")
def pause(session: Session, args: list[bytes]) -> bytes:
    """Holds back commands of all clients, or those that write, for some milliseconds."""
    if len(args) > 4:
        raise CommandError(_WRONG_FORM.format(args[1].decode("ascii")))
    writes_only = False
    if len(args) == 4:
        word = args[3].upper()
        if word not in {b"ALL", b"WRITE"}:
            raise CommandError("ERR CLIENT PAUSE mode must be WRITE or ALL")
        writes_only = word == b"WRITE"
    wait_ms = integer_argument(args[2], "ERR timeout is not an integer or out of range")
    if wait_ms < 0:
        raise CommandError("ERR timeout is negative")
    session.engine.pause(wait_ms / 1000, writes_only=writes_only)
    return OK


@CLIENT.command("unpause", 2, _ADMIN, since="6.2.0", complexity="O(N)")
def unpause(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Lets held back commands go on."""
    session.engine.unpause()
    return OK


@CLIENT.command("unblock", -3, _ADMIN, since="5.0.0", complexity="O(1)")
def unblock(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Does nothing: no command here waits for others."""
    if len(args) > 4:
        raise CommandError(_WRONG_FORM.format(args[1].decode("ascii")))
    if len(args) == 4 and args[3].upper() not in {b"TIMEOUT", b"ERROR"}:
        raise CommandError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    integer_argument(args[2])
    return ZERO


@CLIENT.command("help", 2, "loading stale", since="5.0.0")
def help_(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows the subcommands."""
    return help_reply("CLIENT", CLIENT)


@TABLE.command("reset", 1, "noscript loading stale fast no_auth", since="6.2.0", complexity="O(1)")
def reset(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Makes the connection as good as new."""
    engine = session.engine
    session.end_transaction()
    engine.hub.forget(session)
    engine.monitors.forget(session)
    engine.tracking.stop(session)
    session.use_protocol(2)
    session.name = b""
    session.silent = 0
    session.about.pop("no_evict", None)
    session.about.pop("no_touch", None)
    session.authenticated = not engine.config.password
    session.retable()
    return simple("RESET")
