"""The quick way for what clients send most: one request in a chunk, or a run of equal commands.

A chunk is cut at its line ends, and every header compared with the one that the argument behind it
must have. Only when all of them agree is the chunk what it seems to be; anything else (binary
values with line ends, mixed pipelines, half requests) goes the general way with nothing done yet.
So this module changes the speed of things and nothing else: the property tests run every chunk both
ways.

A run is read, looked up, stored and answered column by column: 0.2 to 0.4 µs a command, where the
general way takes 0.9.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kvserver import resp
from kvserver.columnwise import RUNS, set_run
from kvserver.errors import CommandError
from kvserver.lookup import count_found, plain_replies, plain_values
from kvserver.runs import NEXT, run_of, run_of_many

if TYPE_CHECKING:
    from kvserver.session import Session

__all__ = ["can_be_joined", "serve", "serve_alike"]

_CRLF: Final = b"\r\n"
_COUNTS: Final = {b"*%d" % count: count for count in range(1, 64)}
_HEADS: Final = [b"$%d" % size for size in range(4096)]
_head_of: Final = _HEADS.__getitem__
_NO_COUNT: Final = 1 << 30
_GETS: Final = frozenset([b"GET", b"get"])
_SETS: Final = frozenset([b"SET", b"set"])
_MSETS: Final = frozenset([b"MSET", b"mset"])
_PINGS: Final = (b"*1\r\n$4\r\nPING\r\n", b"PING\r\n")
_opening_of_run: Final = re.compile(
    b"|".join(re.escape(b"*%d\r\n$%d\r\n%b\r\n" % (n, len(name), name)) for name, n in RUNS)
).match
_Run = tuple[bytes, list[list[bytes]], list[list[bytes]]]
JOINED_BYTES: Final = 2048
"""Longer chunks of several clients are not copied to be read as one."""
_SHORT_BYTES: Final = 72
"""A shorter chunk is hardly a run."""
_LARGE_BYTES: Final = 4096
_HEAD_BYTES: Final = 256
"""What is looked at of a chunk that may be one large request."""


def serve(session: Session, data: bytes, calls: dict[bytes, int]) -> bytes | None:
    """Run the commands in ``data`` and keep their replies in ``session.out``.

    The session must be in its plain state, with nothing held back from before. Returns the name of
    the command, or None when this is not for here: then nothing has happened.
    """
    if len(data) > _SHORT_BYTES:
        if len(data) > _LARGE_BYTES and (args := _large_request(data)) is not None:
            return _call(session, args, calls)
        found = run_of(data)
        if found is not None:
            shape, columns = found
            reply = shape.reply
            if reply is None:
                reply = plain_replies(session, columns[0])
            elif not set_run(session, *columns, len(data), shape.tables((data,))):
                reply = None
            if reply is None:
                return None
            session.out.append(reply)
            name = shape.name
            calls[name] = calls.get(name, 0) + shape.requests
            return name
        if data.startswith(_PINGS):
            return _serve_pings(session, data, calls)
        following = data.count(NEXT)
        if following:
            opening = _opening_of_run(data)
            if opening is None or data.count(opening[0]) <= following:
                return None  # several requests, and not all of one kind
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
            elif count == 3:
                _, name_head, name, key_head, key, value_head, value, rest = tokens
                if (
                    rest
                    or value_head != _HEADS[len(value)]
                    or key_head != _HEADS[len(key)]
                    or name_head != _HEADS[len(name)]
                ):
                    return None
                args = [name, key, value]
            else:
                args = tokens[2::2]
                if list(map(_head_of, map(len, args))) != tokens[1:-1:2] or tokens[-1]:
                    return None
        except IndexError:  # one of them is large
            return None
        return _call(session, args, calls)
    if pieces < 6:
        return _serve_pings(session, data, calls)
    return _serve_run(session, tokens, count, len(data), calls)


def _call(session: Session, args: list[bytes], calls: dict[bytes, int]) -> bytes:
    """Run one command and keep its reply; return its name as it was sent."""
    name = args[0]
    try:
        session.out.append(session.table[name](session, args))
    except CommandError as error:
        session.out.append(session.failed_call(args, error.text))
    except Exception as error:  # noqa: BLE001 - one client's fault is never another's
        session.out.append(session.engine.internal_error(session, error))
    calls[name] = calls.get(name, 0) + 1
    return name


def _serve_pings(session: Session, data: bytes, calls: dict[bytes, int]) -> bytes | None:
    """Answer one PING or many, written in either way: what everybody tries first."""
    for ping in _PINGS:
        n = len(data) // len(ping)
        if data == ping * n:
            session.out.append(resp.PONG * n)
            calls[b"PING"] = calls.get(b"PING", 0) + n
            return b"PING"
    return None


def _large_request(data: bytes) -> list[bytes] | None:
    """Return the request that a chunk is, if its last argument is the only large one.

    That one is not looked at, and copied once.
    """
    count = _COUNTS.get(data[: data.find(b"\r", 0, 4)], _NO_COUNT)
    tokens = data[:_HEAD_BYTES].split(_CRLF, 2 * count)
    if len(tokens) <= 2 * count:
        return None
    start = _HEAD_BYTES - len(tokens[-1])
    args = tokens[2:-1:2]
    if (
        tokens[-2] != b"$%d" % (len(data) - start - 2)
        or not data.endswith(_CRLF)
        or [b"$%d" % len(arg) for arg in args] != tokens[1:-2:2]
    ):
        return None
    args.append(data[start:-2])
    return args


def _serve_run(
    session: Session, tokens: list[bytes], count: int, chunk_bytes: int, calls: dict[bytes, int]
) -> bytes | None:
    """The same for a run of requests with so many arguments each, cut at the line ends."""
    run = _read_run(tokens, count)
    if run is None:
        return None
    name, heads, columns = run
    reply = RUNS[name, count](session, columns, chunk_bytes)
    if reply is None:
        return None
    session.out.append(reply)
    calls[name] = calls.get(name, 0) + len(heads[0])
    return name


def _read_run(tokens: list[bytes], count: int) -> _Run | None:
    """Return the name in a run of requests, and a column of headers and one of each argument."""
    head, name_head, name = tokens[:3]
    width = 2 * count + 1
    n, rest = divmod(len(tokens) - 1, width)
    if (
        (name, count) not in RUNS
        or rest
        or tokens[-1]
        or name_head != _HEADS[len(name)]
        or tokens[:-1:width].count(head) != n
        or tokens[1::width].count(name_head) != n
        or tokens[2::width].count(name) != n
    ):
        return None
    heads, columns = [], []
    for at in range(3, width, 2):
        heads.append(tokens[at::width])
        columns.append(tokens[at + 1 :: width])
        if not _sizes_agree(heads[-1], columns[-1]):
            return None
    return name, heads, columns


def can_be_joined(name: bytes, data: bytes) -> bool:
    """Whether a chunk that ``serve`` took is of the kind that `serve_alike` takes."""
    if name in _MSETS:
        return True
    if name in _SETS and data.startswith(b"*3"):
        return len(data) <= JOINED_BYTES or NEXT in data
    return NEXT not in data and (name, _COUNTS.get(data[:2])) in RUNS


def serve_alike(
    sessions: Sequence[Session], chunks: list[bytes], calls: dict[bytes, int]
) -> bytes | None:
    """Run what several clients in plain state sent as if it were one run of equal commands.

    The chunks are of one size. Returns the name of the command, or None when they are anything
    else: then nothing has happened.
    """
    large = len(chunks[0]) > JOINED_BYTES
    pieces = chunks if large else [b"".join(chunks)]
    found = run_of_many(pieces)
    if found is None:
        return None if large else _serve_one_each(sessions, pieces[0], calls)
    shape, (keys, values) = found
    requests = len(pieces) * shape.requests
    each, rest = divmod(requests, len(chunks))
    if rest or not each:
        return None
    if shape.reply is not None:
        received = len(chunks) * len(chunks[0])
        if not set_run(sessions[0], keys, values, received, shape.tables(pieces)):
            return None
        reply = resp.OK * each
        for session in sessions:
            session.out.append(reply)
    elif each > 1 or (got := plain_values(sessions[0], keys)) is None:
        return None  # runs of GETs gain nothing by being joined
    else:
        before, reply = None, b""
        for session, value in zip(sessions, got, strict=True):
            if value is None:
                session.out.append(session.null)
                continue
            if value is not before:  # many may ask for the same key
                before, reply = value, b"$%d\r\n%b\r\n" % (len(value), value)
            session.out.append(reply)
        count_found(sessions[0].keyspace, got)
    calls[shape.name] = calls.get(shape.name, 0) + requests
    return shape.name


def _serve_one_each(
    sessions: Sequence[Session], data: bytes, calls: dict[bytes, int]
) -> bytes | None:
    """The same for one command of each client that is answered in one line: all but GET."""
    tokens = data.split(_CRLF)
    count = _COUNTS.get(tokens[0], _NO_COUNT)
    run = _read_run(tokens, count) if len(tokens) > 2 * count else None
    if run is None or run[0] in _GETS:
        return None
    name, heads, columns = run
    n = len(sessions)
    if n < 2 or any(column.count(column[0]) != n or len(column) != n for column in heads):
        return None  # not each request is as long as a chunk, so one may begin in one of another
    reply = RUNS[name, count](sessions[0], columns, len(data))
    if reply is None:
        return None
    for session, line in zip(sessions, reply.split(_CRLF), strict=False):
        session.out.append(line + _CRLF)
    calls[name] = calls.get(name, 0) + n
    return name


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
