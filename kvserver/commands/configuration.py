"""CONFIG GET SET RESETSTAT REWRITE, on the names of ``kvserver.settings``."""

from __future__ import annotations

from typing import Final

from kvserver.commands.arguments import SYNTAX_ERROR, help_reply
from kvserver.commands.table import CommandTable, shown
from kvserver.errors import CommandError
from kvserver.glob import compile_glob, is_literal
from kvserver.resp import OK, bulk, mapping
from kvserver.session import Session
from kvserver.settings import SETTINGS, BadValueError, Setting

TABLE: Final = CommandTable("server")
CONFIG: Final = TABLE.container("config", "Shows and changes settings.", "2.0.0")

_FLAGS: Final = "admin noscript loading stale"


@CONFIG.command("get", -3, _FLAGS, since="2.0.0", complexity="O(N)")
def get(session: Session, args: list[bytes]) -> bytes:
    """Returns the settings that match patterns."""
    found: dict[bytes, bytes] = {}
    for pattern in args[2:]:
        if is_literal(pattern):
            setting = SETTINGS.get(_name(pattern))
            if setting is not None:
                found[pattern] = _value(session, setting)
            continue
        matches = compile_glob(pattern.lower())
        for name, setting in SETTINGS.items():
            if matches(name.encode()):
                found[name.encode()] = _value(session, setting)
    return mapping(session.resp, [(bulk(name), bulk(value)) for name, value in found.items()])


def _name(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape").lower()


def _value(session: Session, setting: Setting) -> bytes:
    return setting.get(session.engine).encode("utf-8", "surrogateescape")


@CONFIG.command("set", -4, _FLAGS, since="2.0.0", complexity="O(N)")
def set_(session: Session, args: list[bytes]) -> bytes:
    """Changes settings, all of them or none."""
    if len(args) % 2:
        raise CommandError(SYNTAX_ERROR)
    chosen: dict[str, str] = {}
    for raw, value in zip(args[2::2], args[3::2], strict=True):
        name = _name(raw)
        setting = SETTINGS.get(name)
        if setting is None:
            raise CommandError(
                f"ERR Unknown option or number of arguments for CONFIG SET - '{shown(raw)}'"
            )
        if setting.set is None:
            raise _failure(name, setting.refusal)
        if name in chosen:
            raise _failure(name, "duplicate parameter")
        chosen[name] = value.decode("utf-8", "surrogateescape")
    engine = session.engine
    before = {name: SETTINGS[name].get(engine) for name in chosen}
    done: list[str] = []
    for name, text in chosen.items():
        put = SETTINGS[name].set
        assert put is not None
        try:
            put(engine, text)
        except BadValueError as error:
            for changed in done:
                restore = SETTINGS[changed].set
                assert restore is not None
                restore(engine, before[changed])
            raise _failure(name, str(error)) from error
        done.append(name)
    return OK


def _failure(name: str, reason: str) -> CommandError:
    return CommandError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")


@CONFIG.command("resetstat", 2, _FLAGS, since="2.0.0", complexity="O(1)")
def resetstat(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Sets the counters of INFO back to zero."""
    session.engine.stats.reset()
    keyspace = session.keyspace
    keyspace.hits = keyspace.misses = keyspace.expired = 0
    return OK


@CONFIG.command("rewrite", 2, _FLAGS, since="2.8.0", complexity="O(1)")
def rewrite(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Is refused: there is no file of settings to rewrite."""
    raise CommandError("ERR The server is running without a config file")


@CONFIG.command("help", 2, "loading stale", since="5.0.0")
def help_(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows the subcommands."""
    return help_reply("CONFIG", CONFIG)
