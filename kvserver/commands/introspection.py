"""The commands about the commands: COMMAND COUNT LIST INFO DOCS GETKEYS."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kvserver.commands.arguments import SYNTAX_ERROR, help_reply
from kvserver.commands.table import Command, CommandTable
from kvserver.errors import CommandError
from kvserver.glob import compile_glob
from kvserver.resp import array, bulk, bulks, integer, mapping, set_of, simple
from kvserver.session import Session

TABLE: Final = CommandTable("server")
_FLAGS: Final = "loading stale"

_SHOWN_FLAGS: Final = (
    "write", "readonly", "denyoom", "admin", "pubsub", "noscript", "blocking", "loading", "stale",
    "skip_monitor", "skip_slowlog", "fast", "no_auth", "no_multi",
)  # fmt: skip
_CATEGORIES: Final = {
    "string": ("string",),
    "bitmap": ("bitmap",),
    "generic": ("keyspace",),
    "transactions": ("transaction",),
    "pubsub": ("pubsub",),
    "connection": ("connection",),
}


def categories(command: Command) -> list[str]:
    """Return the ACL categories that follow from the flags and the group."""
    found = []
    for flag, category in (("readonly", "read"), ("write", "write")):
        if flag in command.flags:
            found.append(category)
    found += _CATEGORIES.get(command.group, ())
    if "admin" in command.flags:
        found += ["admin", "dangerous"]
    found.append("fast" if "fast" in command.flags else "slow")
    return found


def _info(session: Session, command: Command) -> bytes:
    flags = [simple(flag) for flag in _SHOWN_FLAGS if flag in command.flags]
    return array(
        [
            bulk(command.name.encode()),
            integer(command.arity),
            set_of(session.resp, flags),
            integer(command.first_key),
            integer(command.last_key),
            integer(command.step),
            set_of(session.resp, [simple(f"@{category}") for category in categories(command)]),
            set_of(session.resp, []),
            set_of(session.resp, _key_specs(session, command)),
            set_of(session.resp, [_info(session, sub) for sub in command.subcommands.values()]),
        ]
    )


def _key_specs(session: Session, command: Command) -> list[bytes]:
    if not command.first_key:
        return []
    resp = session.resp
    last = command.last_key if command.last_key < 0 else command.last_key - command.first_key
    words = ["RW", "access", "update"] if "write" in command.flags else ["RO", "access"]
    index = mapping(resp, [(bulk(b"index"), integer(command.first_key))])
    span = mapping(
        resp,
        [
            (bulk(b"lastkey"), integer(last)),
            (bulk(b"keystep"), integer(command.step)),
            (bulk(b"limit"), integer(0)),
        ],
    )
    return [
        mapping(
            resp,
            [
                (bulk(b"flags"), set_of(session.resp, [simple(word) for word in words])),
                (
                    bulk(b"begin_search"),
                    mapping(resp, [(bulk(b"type"), bulk(b"index")), (bulk(b"spec"), index)]),
                ),
                (
                    bulk(b"find_keys"),
                    mapping(resp, [(bulk(b"type"), bulk(b"range")), (bulk(b"spec"), span)]),
                ),
            ],
        )
    ]


def _docs(session: Session, command: Command) -> bytes:
    pairs = [
        (bulk(b"summary"), bulk(command.summary.encode())),
        (bulk(b"since"), bulk(command.since.encode())),
        (bulk(b"group"), bulk(command.group.encode())),
    ]
    if command.complexity:
        pairs.append((bulk(b"complexity"), bulk(command.complexity.encode())))
    if command.subcommands:
        subs = [(bulk(s.name.encode()), _docs(session, s)) for s in command.subcommands.values()]
        pairs.append((bulk(b"subcommands"), mapping(session.resp, subs)))
    return mapping(session.resp, pairs)


def _find(session: Session, name: bytes) -> Command | None:
    """Return a command by its name, ``container|sub`` included."""
    container, _, sub = name.partition(b"|")
    command = session.engine.registry.find(container)
    if command is not None and sub:
        return command.subcommands.get(sub.decode("latin-1").lower())
    return command


def _everything(session: Session) -> Iterable[Command]:
    return session.engine.registry.commands.values()


def command_command(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Describes all commands."""
    return array([_info(session, command) for command in _everything(session)])


COMMAND: Final = TABLE.container(
    "command", "Describes the commands.", "2.8.13", alone=command_command
)


@COMMAND.command("count", 2, _FLAGS, since="2.8.13", complexity="O(1)")
def count(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns how many commands there are."""
    return integer(len(session.engine.registry.commands))


@COMMAND.command("info", -2, _FLAGS, since="2.8.13", complexity="O(N)")
def info(session: Session, args: list[bytes]) -> bytes:
    """Describes some commands, or all, for programs."""
    if len(args) == 2:
        return command_command(session, args)
    found = [_find(session, name) for name in args[2:]]
    return array(
        [session.null if command is None else _info(session, command) for command in found]
    )


@COMMAND.command("docs", -2, _FLAGS, since="7.0.0", complexity="O(N)")
def docs(session: Session, args: list[bytes]) -> bytes:
    """Describes some commands, or all, for people."""
    found = (
        [command for name in args[2:] if (command := _find(session, name)) is not None]
        if len(args) > 2
        else list(_everything(session))
    )
    return mapping(
        session.resp, [(bulk(command.name.encode()), _docs(session, command)) for command in found]
    )


@COMMAND.command("list", -2, _FLAGS, since="7.0.0", complexity="O(N)")
def list_(session: Session, args: list[bytes]) -> bytes:
    """Returns the names of the commands, all or some."""
    commands = [
        command
        for parent in _everything(session)
        for command in (parent, *parent.subcommands.values())
    ]
    if len(args) == 2:
        return bulks([command.name.encode() for command in commands])
    if len(args) != 5 or args[2].upper() != b"FILTERBY":
        raise CommandError(SYNTAX_ERROR)
    match args[3].upper():
        case b"MODULE":
            commands = []
        case b"PATTERN":
            matches = compile_glob(args[4].lower())
            commands = [command for command in commands if matches(command.name.encode())]
        case b"ACLCAT":
            wanted = args[4].decode("latin-1").lower()
            commands = [command for command in commands if wanted in categories(command)]
        case _:
            raise CommandError(SYNTAX_ERROR)
    return bulks([command.name.encode() for command in commands])


def _call_of(session: Session, args: list[bytes]) -> tuple[Command, list[bytes]]:
    call = args[2:]
    command = session.engine.registry.find(call[0])
    if command is None:
        raise CommandError("ERR Invalid command specified")
    try:
        command = command.resolve(call)
    except CommandError:
        raise CommandError("ERR Invalid command specified") from None
    if not command.first_key:
        raise CommandError("ERR The command has no key arguments")
    if command.wrong_arity(len(call)):
        raise CommandError("ERR Invalid number of arguments specified for command")
    return command, call


@COMMAND.command("getkeys", -4, _FLAGS, since="2.8.13", complexity="O(N)")
def getkeys(session: Session, args: list[bytes]) -> bytes:
    """Returns the keys in a call of a command."""
    command, call = _call_of(session, args)
    return bulks(command.keys(call))


@COMMAND.command("getkeysandflags", -4, _FLAGS, since="7.0.0", complexity="O(N)")
def getkeysandflags(session: Session, args: list[bytes]) -> bytes:
    """Returns the keys in a call of a command, and what it does with them."""
    command, call = _call_of(session, args)
    words = ["RW", "access", "update"] if "write" in command.flags else ["RO", "access"]
    flags = set_of(session.resp, [simple(word) for word in words])
    return array([array([bulk(key), flags]) for key in command.keys(call)])


@COMMAND.command("help", 2, _FLAGS, since="5.0.0")
def help_(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows the subcommands."""
    return help_reply("COMMAND", COMMAND)
