"""What runs of GETs find, and what they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kvserver import together
from kvserver.resp import BULK_HEADS, bulk
from kvserver.values import UNLIKE_BYTES

if TYPE_CHECKING:
    from kvserver.keyspace import Keyspace
    from kvserver.session import Session

__all__ = ["Found", "any_overdue", "count_found", "plain_replies", "plain_values"]

_NEVER: Final = float("inf")
_CRLF: Final = b"\r\n"
_COPIED_BYTES: Final = 512
"""Of larger values it costs less to copy one by itself than all of them once more."""
_BORDERS: Final = [b"\r\n$%d\r\n" % size for size in range(_COPIED_BYTES)]
"""What stands between two replies."""
_MANY_BYTES: Final = 1 << 20
"""More than a client should be owed at once."""

Found: TypeAlias = tuple[bytes, ...] | list[bytes | None]
"""Values in the order of their keys, None where there is none; a tuple has one of each key."""


def any_overdue(keyspace: Keyspace, keys: Sequence[bytes]) -> bool:
    """Whether a key's deadline has passed; whoever looks at it next must delete it."""
    deadlines = keyspace.deadlines
    return bool(deadlines) and min(map(deadlines.get, keys, repeat(_NEVER))) <= keyspace.now


def plain_values(session: Session, keys: tuple[bytes, ...]) -> Found | None:
    """Return the values of two keys or more; None when one of them needs a closer look.

    That is one past its deadline, or one that holds a summary or a string in blocks. Counts
    neither hits nor misses, but notes the use where there is a limit on memory.
    """
    keyspace = session.keyspace
    data: dict[bytes, Any] = keyspace.data
    if any_overdue(keyspace, keys):
        return None
    values: Found = together.look_up(data, keys, expect_gaps=keyspace.any_gaps)
    keyspace.any_gaps = type(values) is list
    if (keyspace.merged or keyspace.any_long) and not UNLIKE_BYTES.isdisjoint(map(type, values)):
        return None
    if type(data) is not dict:
        session.engine.memory.note_use(keys)
    return values


def count_found(keyspace: Keyspace, values: Found) -> None:
    """Count the hits and misses among what `plain_values` returned."""
    misses = 0 if type(values) is tuple else values.count(None)
    keyspace.misses += misses
    keyspace.hits += len(values) - misses


def plain_replies(session: Session, keys: Sequence[bytes]) -> bytes | None:
    """Return what GET answers for each of two keys or more, joined, and count hits and misses.

    None when one needs a closer look, or when that is more than a client should be owed at once.
    """
    values = plain_values(session, tuple(keys))
    if values is None:
        return None
    if type(values) is tuple:
        size, count = len(values[0]), len(values)
        one_value = values[0] is values[-1] and values.count(values[0]) == count  # as of one key
        if one_value or list(map(len, values)).count(size) == count:
            if size * count > _MANY_BYTES:
                return None
            session.keyspace.hits += count
            if one_value:
                return bulk(values[0]) * count
            if size < _COPIED_BYTES:
                return BULK_HEADS[size] + _BORDERS[size].join(values) + _CRLF
            head = b"$%d\r\n" % size
            parts = [head + values[0], *values[1:]]
            parts[-1] += _CRLF
            return (_CRLF + head).join(parts)
    return _mixed_replies(session, values)


def _mixed_replies(session: Session, values: Found) -> bytes | None:
    """Answer GETs whose values have several sizes, or some of which found nothing."""
    null = session.null
    parts: list[bytes] = []
    any_large = False
    for value in values:
        if value is None:
            parts.append(null)
        elif (size := len(value)) < 4096:
            parts += (BULK_HEADS[size], value, _CRLF)
        else:
            parts += (b"$%d\r\n" % size, value, _CRLF)
            any_large = True
    may_be_many = any_large or len(values) > _MANY_BYTES // 4096
    if may_be_many and sum(map(len, parts)) > _MANY_BYTES:
        return None
    hits = (len(parts) - len(values)) // 2  # three parts where something was found, else one
    session.keyspace.hits += hits
    session.keyspace.misses += len(values) - hits
    return b"".join(parts)
