"""The typed calls, each as a command and a way to read its reply; no I/O.

``Client`` and ``AsyncClient`` are two thin shells around these, so that a call exists once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from kvclient.errors import ProtocolError
from kvclient.protocol import Arg, Reply, as_map

__all__ = ["REPEATABLE", "Call", "are_repeatable"]

T = TypeVar("T")

REPEATABLE: Final = frozenset(
    b"""GET MGET EXISTS TTL PTTL TYPE KEYS SCAN DBSIZE PING ECHO STATS INFO FIND SOURCES PATTERNS
    STRLEN GETRANGE EXPIRETIME PEXPIRETIME TIME COMMAND INGEST MEMORY HELLO AUTH""".split()
)
"""Commands that may be sent again when it is not known whether they ran: they change nothing, or,
as INGEST, change nothing the second time."""


def are_repeatable(commands: Iterable[Sequence[Arg]]) -> bool:
    """Tell whether all of these commands may be sent twice."""
    names = {name if isinstance(name, str | bytes) else None for name, *_ in commands}
    return all(name is not None and _bytes(name).upper() in REPEATABLE for name in names)


def _bytes(name: str | bytes) -> bytes:
    return name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One command and how its reply reads."""

    args: tuple[Arg, ...]
    read: Callable[[Reply], T]


def _same(reply: Reply) -> Any:
    return reply


def _ok(reply: Reply) -> bool:
    return reply is not None


def ping() -> Call[str]:
    """Ask for a sign of life."""
    return Call(("PING",), str)


def get(key: Arg) -> Call[bytes | None]:
    """Read a value; a summary comes as its JSON text."""
    return Call(("GET", key), _same)


def set_(
    key: Arg,
    value: Arg,
    *,
    ttl_s: float | None = None,
    deadline_ms: int | None = None,
    only_if_new: bool = False,
    only_if_there: bool = False,
) -> Call[bool]:
    """Write a value; the reply says whether it was written."""
    args: list[Arg] = ["SET", key, value]
    if ttl_s is not None:
        args += ["PX", max(1, round(ttl_s * 1000))]
    elif deadline_ms is not None:
        args += ["PXAT", deadline_ms]
    if only_if_new:
        args.append("NX")
    if only_if_there:
        args.append("XX")
    return Call(tuple(args), _ok)


def delete(*keys: Arg) -> Call[int]:
    """Remove keys; the reply says how many were there."""
    return Call(("DEL", *keys), int)


def exists(*keys: Arg) -> Call[int]:
    """Count the keys that are there."""
    return Call(("EXISTS", *keys), int)


def expire(key: Arg, ttl_s: float) -> Call[bool]:
    """Give a key a time to live; the reply says whether the key is there."""
    return Call(("PEXPIRE", key, round(ttl_s * 1000)), bool)


def persist(key: Arg) -> Call[bool]:
    """Take a key's time to live away; the reply says whether it had one."""
    return Call(("PERSIST", key), bool)


def ttl_ms(key: Arg) -> Call[int]:
    """Ask for the time to live in ms; -1 without one, -2 without the key."""
    return Call(("PTTL", key), int)


def type_(key: Arg) -> Call[str]:
    """Ask what a value is: ``string``, ``summary`` or ``none``."""
    return Call(("TYPE", key), str)


def keys(pattern: Arg = "*") -> Call[list[bytes]]:
    """Read the names of all keys that match; for large stores there is ``scan``."""
    return Call(("KEYS", pattern), list)


def scan(cursor: bytes, match: Arg | None, count: int) -> Call[tuple[bytes, list[bytes]]]:
    """Read one page of keys and the cursor of the next; the cursor ``0`` ends it."""
    args: list[Arg] = ["SCAN", cursor, "COUNT", count]
    if match is not None:
        args += ["MATCH", match]
    return Call(tuple(args), _page)


def _page(reply: Reply) -> tuple[bytes, list[bytes]]:
    if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[1], list):
        raise ProtocolError("expected a cursor and a list of keys")
    return reply[0], reply[1]


def size() -> Call[int]:
    """Count the keys."""
    return Call(("DBSIZE",), int)


def clear() -> Call[None]:
    """Remove everything."""
    return Call(("FLUSHALL",), lambda _: None)


def stats() -> Call[dict[str, Any]]:
    """Read the server's figures."""
    return Call(("STATS",), lambda reply: _named(as_map(reply)))


def merge(deltas: Mapping[bytes, bytes]) -> Call[int]:
    """Add summaries to keys; the reply says to how many."""
    args: list[Arg] = ["MERGE"]
    for key, delta in deltas.items():
        args += (key, delta)
    return Call(tuple(args), int)


def ingest(header: bytes, packed: bytes) -> Call[int | None]:
    """Commit the summaries of ranges; how many keys are new, None when all was counted before."""
    return Call(("INGEST", header, packed), _same)


def summary(key: Arg) -> Call[dict[str, Any] | None]:
    """Read a summary as the JSON object it is shown as."""
    return Call(("GET", key), _json_object)


def _json_object(reply: Reply) -> dict[str, Any] | None:
    if reply is None:
        return None
    try:
        value = json.loads(reply)
    except ValueError as error:
        raise ProtocolError("the value is not a summary") from error
    if not isinstance(value, dict):
        raise ProtocolError("the value is not a summary")
    return value


def _named(reply: Any) -> Any:
    """Turn the names in a reply into text, and only text values that are text."""
    if isinstance(reply, dict):
        return {_named(name): _named(value) for name, value in reply.items()}
    if isinstance(reply, list):
        return [_named(value) for value in reply]
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "backslashreplace")
    return reply
