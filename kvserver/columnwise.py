"""What a run of equal commands does, column by column: all keys at once, then all values.

A handler here does to its columns what the command's own handler would do to one request after the
other, answers included, at a fraction of the price; or it returns None, and nothing has happened:
then the commands run one by one. That is so where one of them would fail, where somebody listens to
each change, and where keys stand in each other's way. The property tests run everything both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, compress
from operator import add, itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias

from kvserver import resp
from kvserver.commands.strings import LIFETIMES, absolute_deadline
from kvserver.errors import CommandError
from kvserver.lookup import any_overdue, plain_replies, plain_values
from kvserver.numbers import INT64_MAX

if TYPE_CHECKING:
    from kvserver.session import Session
    from kvserver.store import Effect

__all__ = ["RUNS", "Columns", "RunHandler", "set_run"]

Columns: TypeAlias = Sequence[Sequence[bytes]]
"""The first arguments of all commands, then the second ones, and so on; the names left out."""
RunHandler: TypeAlias = "Callable[[Session, Columns, int], bytes | None]"
"""Called with the columns, and the bytes of the chunk that they came in; returns the replies."""

_CRLF: Final = b"\r\n"
_ZERO_OR_ONE: Final = (resp.ZERO, resp.ONE)
_MAX_DIGITS: Final = 18
"""So many make a number of 64 bits in any case."""
_ZERO: Final = ord("0")
_first_byte: Final = itemgetter(0)
_spelled: Final = b"%d".__mod__


def set_run(
    session: Session,
    keys: Sequence[bytes],
    values: Sequence[bytes],
    chunk_bytes: int,
    tables: Sequence[Effect] = (),
) -> bool:
    """SET or MSET: store the values, without deadlines; whether it was done.

    ``tables`` are the effects of it, where there are quicker ones to write than the two columns.
    """
    if not _is_room(session, keys, chunk_bytes):
        return False
    session.keyspace.set_many(keys, values, tables)
    return True


def _is_room(session: Session, keys: Sequence[bytes], chunk_bytes: int) -> bool:
    """Whether keys can be set without each asking for its memory."""
    return type(session.keyspace.data) is dict or session.engine.memory.is_room_for(
        len(keys), chunk_bytes
    )


def _get(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:  # noqa: ARG001 - as every handler
    return plain_replies(session, columns[0])


def _set(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:
    keys, values = columns
    return resp.OK * len(keys) if set_run(session, keys, values, chunk_bytes) else None


def _set_with_option(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:
    keys, values, words, lifetimes = columns
    word = words[0]
    if word not in LIFETIMES or words.count(word) != len(words):
        return None
    deadlines_ms = _deadlines(session, lifetimes, word.upper())
    return _set_until(session, keys, values, deadlines_ms, chunk_bytes)


def _setex(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:
    keys, lifetimes, values = columns
    return _set_until(session, keys, values, _deadlines(session, lifetimes, b"EX"), chunk_bytes)


def _psetex(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:
    keys, lifetimes, values = columns
    return _set_until(session, keys, values, _deadlines(session, lifetimes, b"PX"), chunk_bytes)


def _deadlines(session: Session, lifetimes: Sequence[bytes], unit: bytes) -> list[int]:
    """Return when keys expire that live so long, epoch ms; nothing when one is no lifetime."""
    keyspace = session.keyspace
    try:
        known = {raw: absolute_deadline(keyspace, raw, unit, "set") for raw in set(lifetimes)}
    except CommandError:
        return []
    return [known[raw] for raw in lifetimes]


def _set_until(
    session: Session,
    keys: Sequence[bytes],
    values: Sequence[bytes],
    deadlines_ms: list[int],
    chunk_bytes: int,
) -> bytes | None:
    keyspace = session.keyspace
    if keyspace.listening or not deadlines_ms or not _is_room(session, keys, chunk_bytes):
        return None
    keyspace.set_many_until(keys, values, deadlines_ms)
    return resp.OK * len(keys)


def _incr(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:
    return _add(session, columns[0], [1] * len(columns[0]), chunk_bytes)


def _decr(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:
    return _add(session, columns[0], [-1] * len(columns[0]), chunk_bytes)


def _incrby(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:
    keys, steps = columns
    numbers = _numbers(steps)
    return _add(session, keys, numbers, chunk_bytes) if numbers is not None else None


def _add(
    session: Session, keys: Sequence[bytes], steps: list[int], chunk_bytes: int
) -> bytes | None:
    """Add to counters that have no deadline: each key another one, or all of them the same."""
    keyspace = session.keyspace
    if keyspace.listening or not keyspace.deadlines.keys().isdisjoint(keys):
        return None
    alike = keys[0] == keys[-1]
    if alike:
        if keys.count(keys[0]) != len(keys):
            return None
        keys = keys[:2]
    elif len(set(keys)) != len(keys):
        return None
    values = plain_values(session, tuple(keys))
    numbers = values and _numbers([b"0" if value is None else value for value in values])
    if not numbers:
        return None
    if alike:
        sums = list(accumulate(steps, initial=numbers[0]))[1:]
    else:
        sums = list(map(add, numbers, steps))
    if max(sums) > INT64_MAX or not _is_room(session, keys, chunk_bytes):
        return None
    replies = list(map(_spelled, sums))
    if alike:
        keyspace.set_many(keys[:1], replies[-1:])
    else:
        keyspace.set_many(keys, replies)
    return b":" + b"\r\n:".join(replies) + _CRLF


def _numbers(values: Sequence[bytes]) -> list[int] | None:
    """Return the numbers that values spell; None unless all do, and none is negative or large."""
    if not all(map(bytes.isdigit, values)) or max(map(len, values)) > _MAX_DIGITS:
        return None
    if list(map(_first_byte, values)).count(_ZERO) != values.count(b"0"):
        return None  # a zero stands before other digits
    return list(map(int, values))


def _exists(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:  # noqa: ARG001 - as every handler
    keys, keyspace = columns[0], session.keyspace
    if any_overdue(keyspace, keys):
        return None
    found = list(map(keyspace.data.__contains__, keys))
    hits = found.count(True)
    keyspace.hits += hits
    keyspace.misses += len(keys) - hits
    session.engine.memory.note_use(keys)
    return _zeros_and_ones(found)


def _del(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:  # noqa: ARG001 - as every handler
    keys, keyspace = columns[0], session.keyspace
    if keyspace.listening or len(set(keys)) != len(keys) or any_overdue(keyspace, keys):
        return None
    found = list(map(keyspace.data.__contains__, keys))
    keyspace.delete_many(list(compress(keys, found)))
    return _zeros_and_ones(found)


def _expire(session: Session, columns: Columns, chunk_bytes: int) -> bytes | None:  # noqa: ARG001 - as every handler
    (keys, lifetimes), keyspace = columns, session.keyspace
    deadlines_ms = _deadlines(session, lifetimes, b"EX")
    if keyspace.listening or not deadlines_ms or any_overdue(keyspace, keys):
        return None
    found = list(map(keyspace.data.__contains__, keys))
    keyspace.expire_many(list(compress(keys, found)), list(compress(deadlines_ms, found)))
    session.engine.memory.note_use(keys)
    return _zeros_and_ones(found)


def _zeros_and_ones(found: list[bool]) -> bytes:
    return b"".join(map(_ZERO_OR_ONE.__getitem__, found))


RUNS: Final[dict[tuple[bytes, int], RunHandler]] = {
    (spelling, arguments): handler
    for name, arguments, handler in (
        (b"GET", 2, _get),
        (b"SET", 3, _set),
        (b"SET", 5, _set_with_option),
        (b"SETEX", 4, _setex),
        (b"PSETEX", 4, _psetex),
        (b"INCR", 2, _incr),
        (b"DECR", 2, _decr),
        (b"INCRBY", 3, _incrby),
        (b"EXISTS", 2, _exists),
        (b"DEL", 2, _del),
        (b"UNLINK", 2, _del),
        (b"EXPIRE", 3, _expire),
    )
    for spelling in (name, name.lower())
}
"""Name as sent, and number of arguments with it -> what to do with a run of such commands."""
