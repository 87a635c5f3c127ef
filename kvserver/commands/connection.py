"""The connection itself: PING ECHO HELLO QUIT SELECT, and CLIENT SETINFO for modern clients."""

from __future__ import annotations

from typing import Final

from kvserver import resp
from kvserver.commands.arguments import NOT_AN_INTEGER
from kvserver.commands.auth import accept, password_matches, refuse
from kvserver.commands.clients import printable
from kvserver.commands.table import CommandTable, Reply, shown
from kvserver.errors import CommandError
from kvserver.numbers import parse_int
from kvserver.session import Session

TABLE: Final = CommandTable("connection")

REDIS_VERSION: Final = "7.0.15"
"""The version whose commands and replies we keep to; clients look at it."""


@TABLE.command("ping", -1, "fast", complexity="O(1)")
def ping(session: Session, args: list[bytes]) -> bytes:
    """Returns PONG, or what it was given; says that the server lives."""
    if len(args) > 2:
        raise CommandError("ERR wrong number of arguments for 'ping' command")
    if session.subscribed and session.resp == 2:
        return resp.bulks([b"pong", args[1] if len(args) == 2 else b""])
    return resp.PONG if len(args) == 1 else resp.bulk(args[1])


@TABLE.command("echo", 2, "fast", complexity="O(1)")
def echo(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - is called like any handler
    """Returns what it was given."""
    return resp.bulk(args[1])


@TABLE.command("quit", -1, "fast loading stale no_auth", complexity="O(1)")
def quit_(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - is called like any handler
    """Closes the connection."""
    session.close_after_reply()
    return resp.OK


@TABLE.command("select", 2, "loading stale fast", complexity="O(1)")
def select(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - is called like any handler
    """Chooses the database; there is one, number 0."""
    number = parse_int(args[1])
    if number is None:
        raise CommandError(NOT_AN_INTEGER)
    if number != 0:
        raise CommandError("ERR DB index is out of range")
    return resp.OK


@TABLE.command("hello", -1, "fast loading stale no_auth", since="6.0.0", complexity="O(1)")
def hello(session: Session, args: list[bytes]) -> Reply:
    """Agrees on the protocol version, and may authenticate and name the connection."""
    version: int | None = session.resp
    if len(args) > 1:
        version = parse_int(args[1])
        if version is None:
            raise CommandError("ERR Protocol version is not an integer or out of range")
        if version not in {2, 3}:
            raise CommandError("NOPROTO unsupported protocol version")
    index = 2
    name: bytes | None = None
    while index < len(args):
        word = args[index].upper()
        if word == b"AUTH" and index + 2 < len(args):
            if not password_matches(session, args[index + 1], args[index + 2]):
                return refuse(session)
            accept(session)
            index += 3
        elif word == b"SETNAME" and index + 1 < len(args):
            name = args[index + 1]
            if not printable(name):
                raise CommandError(
                    "ERR Client names cannot contain spaces, newlines or special characters."
                )
            index += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{shown(args[index])}'")
    if not session.authenticated:
        raise CommandError(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
            "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
            "select the RESP protocol version at the same time"
        )
    if name is not None:
        session.name = name
    session.use_protocol(version or 2)
    session.retable()
    return resp.encode(
        session.resp,
        {
            "server": "redis",
            "version": REDIS_VERSION,
            "proto": session.resp,
            "id": session.id,
            "mode": "standalone",
            "role": "master",
            "modules": [],
        },
    )
