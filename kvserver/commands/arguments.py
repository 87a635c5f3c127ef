"""Arguments that many commands share, with the error texts that Redis gives for wrong ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kvserver.commands.table import Command
from kvserver.errors import CommandError
from kvserver.numbers import parse_int
from kvserver.resp import array, simple

NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_A_FLOAT: Final = "ERR value is not a valid float"
SYNTAX_ERROR: Final = "ERR syntax error"
TOO_LONG: Final = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
NO_SUCH_KEY: Final = "ERR no such key"


def integer_argument(raw: bytes, error: str = NOT_AN_INTEGER) -> int:
    """Return the 64-bit integer that ``raw`` spells; raises CommandError with ``error``."""
    value = parse_int(raw)
    if value is None:
        raise CommandError(error)
    return value


def help_reply(name: str, table: Iterable[Command]) -> bytes:
    """Return what ``NAME HELP`` shows: each subcommand and what it does."""
    lines = [f"{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for command in table:
        lines += [command.name.partition("|")[2].upper(), f"    {command.summary}"]
    return array([simple(line) for line in lines])
