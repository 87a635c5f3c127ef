"""The commands: one small module a family, merged here into one registry.

How a family is added: write ``kvserver/commands/<family>.py`` like this and add its name to
``FAMILIES``::

    from kvserver.commands.table import CommandTable
    from kvserver import resp
    from kvserver.session import Session

    TABLE = CommandTable("string")              # the group that COMMAND DOCS shows

    @TABLE.command("strlen", 2, "readonly fast", keys=(1, 1, 1), since="2.2.0")
    def strlen(session: Session, args: list[bytes]) -> bytes:
        \"\"\"Return the length of a string.\"\"\"      # the first line is the command's summary
        value = session.keyspace.string(args[1])    # counts hit or miss; raises WRONGTYPE
        return resp.integer(len(value or b""))

* ``args[0]`` is the name as the client wrote it. The arity is checked before (negative: at least).
* A handler returns one encoded reply, or raises ``CommandError("ERR …")``.
* Data changes only through methods of ``session.keyspace``.
* A command that may take longer than a millisecond returns a generator instead: it yields now and
  then (``None``) and *returns* the reply. The server advances it in slices; later commands of that
  client wait, other clients do not. Between two slices other clients may change the data. Inside
  MULTI it runs at once to its end.
* ``fast`` (Redis's flag: O(1) or O(log n)) also means: not timed one by one for SLOWLOG.
* What must happen before every command (queueing, authentication, memory limits, MONITOR) does not
  live in handlers: see ``Engine.gate`` and ``Session.execute``.
"""

from __future__ import annotations

import importlib
from typing import Final

from kvserver.commands.table import Command, CommandTable, Registry

__all__ = ["FAMILIES", "Command", "CommandTable", "Registry", "load_registry"]

FAMILIES: Final = (
    "strings",
    "exchange",
    "counters",
    "substrings",
    "bits",
    "keys",
    "moves",
    "dumps",
    "expiry",
    "moments",
    "transactions",
    "pubsub",
    "connection",
    "auth",
    "clients",
    "tracking",
    "server",
    "administration",
    "configuration",
    "introspection",
    "objects",
    "diagnosis",
    "summaries",
    "info",
    "find",
    "backup",
)


def load_registry() -> Registry:
    """Import every family and return all commands."""
    registry = Registry()
    for family in FAMILIES:
        module = importlib.import_module(f"kvserver.commands.{family}")
        for command in module.TABLE:
            registry.add(command)
    return registry
