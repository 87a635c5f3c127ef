"""The quick way for what clients send most: one request in a chunk, or a run of equal GETs or SETs.

A chunk is cut at its line ends, and every header compared with the one that the argument behind it
must have. Only when all of them agree is the chunk what it seems to be; anything else (binary
values with line ends, mixed pipelines, half requests) goes the general way with nothing done yet.
So this module changes the speed of things and nothing else: the property tests run every chunk both
ways.

A run is read, looked up, stored and answered column by column: 0.2 to 0.4 µs a command, where the
general way takes 0.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvserver import resp
from kvserver.errors import CommandError

if TYPE_CHECKING:
    from kvserver.session import Session

__all__ = ["serve"]

_CRLF: Final = b"\r\n"
_COUNTS: Final = {b"*%d" % count: count for count in range(1, 64)}
_HEADS: Final = [b"$%d" % size for size in range(4096)]
_REPLY_HEADS: Final = [b"$%d\r\n" % size for size in range(4096)]
_head_of: Final = _HEADS.__getitem__
_MANY_BYTES: Final = 1 << 20
_NO_COUNT: Final = 1 << 30
_GETS: Final = frozenset([b"GET", b"get"])
_SETS: Final = frozenset([b"SET", b"set"])
_SHORT_BYTES: Final = 72
"""A shorter chunk is hardly a run."""
_SIZES: Final = {b"$%d" % size: size for size in range(4096)}
_RUNS: Final = {b"*2\r\n$3\r\n%b\r\n" % name: name for name in (b"GET", b"get")}
_ONLY_BYTES: Final = {bytes}


def serve(session: Session, data: bytes, calls: dict[bytes, int]) -> bytes | None:
    """Run the commands in ``data`` and keep their replies in ``session.out``.

    The session must be in its plain state, with nothing held back from before. Returns the name of
    the command, or None when this is not for here: then nothing has happened.
    """
    if len(data) > _SHORT_BYTES:
        name = _RUNS.get(data[:13])
        if name is not None and (n := _serve_even_run(session, data)):
            calls[name] = calls.get(name, 0) + n
            return name
    tokens = data.split(_CRLF)
    head = tokens[0]
    count = _COUNTS.get(head, _NO_COUNT)
    pieces = len(tokens)
    if pieces == count + count + 2:
        try:
            if count == 2:
                _, name_head, name, key_head, key, rest = tokens
                if rest or name_head != _HEADS[len(name)] or key_head != _HEADS[len(key)]:
                    return None
                args = [name, key]
            else:
                args = tokens[2::2]
                if list(map(_head_of, map(len, args))) != tokens[1:-1:2] or tokens[-1]:
                    return None
                name = args[0]
        except IndexError:
            return None
        try:
            session.out.append(session.table[name](session, args))
        except CommandError as error:
            session.engine.stats.error_replies += 1
            session.out.append(resp.error(error.text))
        except Exception as error:  # noqa: BLE001 - one client's fault is never another's
            session.out.append(session.engine.internal_error(session, error))
        calls[name] = calls.get(name, 0) + 1
        return name
    if pieces < 6:
        return None
    if count == 2:
        name, run, width = tokens[2], _GETS, 5
    elif count == 3:
        name, run, width = tokens[2], _SETS, 7
    else:
        return None
    n = pieces // width
    if name not in run or n == 0 or pieces != n * width + 1 or tokens[-1]:
        return None
    if (
        tokens[:-1:width].count(head) != n
        or tokens[1::width].count(b"$3") != n
        or tokens[2::width].count(name) != n
        or not _sizes_agree(tokens[3::width], keys := tokens[4::width])
    ):
        return None
    if width == 5:
        reply = _get_run(session, keys)
    elif _sizes_agree(tokens[5::width], values := tokens[6::width]):
        session.keyspace.set_many(keys, values)
        reply = resp.OK * n
    else:
        reply = None
    if reply is None:
        return None
    session.out.append(reply)
    calls[name] = calls.get(name, 0) + n
    return name


def _serve_even_run(session: Session, data: bytes) -> int:
    """Run GETs whose keys are all of one size; return how many, 0 when it is something else.

    Then everything between two keys is the same bytes, and one split gives them all. (For SETs,
    with a second header to compare, this was slower than the general run.)
    """
    end = data.find(_CRLF, 13)
    size = _SIZES.get(data[13:end])
    if size is None or not data.endswith(_CRLF):
        return 0
    start = end + 2
    n, rest = divmod(len(data), start + size + 2)
    if rest or n < 2:
        return 0
    keys = data[start:-2].split(_CRLF + data[:start])
    if len(keys) != n or list(map(len, keys)).count(size) != n:
        return 0
    reply = _get_run(session, keys)
    if reply is None:
        return 0
    session.out.append(reply)
    return n


def _sizes_agree(heads: list[bytes], args: list[bytes]) -> bool:
    """Whether each header is the one of its argument."""
    size = len(args[0])
    if size >= 4096:
        return False
    if heads.count(_HEADS[size]) == len(heads):
        return list(map(len, args)).count(size) == len(args)
    try:
        return list(map(_head_of, map(len, args))) == heads
    except IndexError:
        return False


def _get_run(session: Session, keys: list[bytes]) -> bytes | None:
    """Answer a run of GETs; None when a key needs a closer look (a summary, a deadline)."""
    keyspace = session.keyspace
    deadlines = keyspace.deadlines
    if deadlines and any(map(deadlines.__contains__, keys)):
        return None
    values = list(map(keyspace.data.get, keys))
    if set(map(type, values)) == _ONLY_BYTES:
        sizes = list(map(len, values))  # type: ignore[arg-type]  # all of them are bytes
        if sum(sizes) > _MANY_BYTES:
            return None  # more than a client should be owed at once
        keyspace.hits += len(values)
        size = sizes[0]
        if size < 4096 and sizes.count(size) == len(sizes):
            head = _REPLY_HEADS[size]
            return head + (_CRLF + head).join(values) + _CRLF  # type: ignore[arg-type]  # the same
        return b"".join([b"$%d\r\n%b\r\n" % (len(value), value) for value in values])  # type: ignore[str-format,arg-type]  # the same
    parts = []
    missing = size = 0
    for value in values:
        if value is None:
            parts.append(session.null)
            missing += 1
        elif type(value) is bytes and size < _MANY_BYTES:
            size += len(value)
            parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
        else:
            return None
    keyspace.hits += len(values) - missing
    keyspace.misses += missing
    return b"".join(parts)
