"""What Redis does not have: MERGE, INGEST, and SOURCES and PATTERNS of what was counted."""

from __future__ import annotations

from typing import Any, Final

from kvserver import resp
from kvserver.commands.table import CommandTable, wrong_arity
from kvserver.errors import CommandError
from kvserver.ledger import SourceState
from kvserver.longstring import STRINGS
from kvserver.session import Session
from parser.summary import Position, SummaryError, pack, unpack
from parser.summaryjson import from_json

TABLE: Final = CommandTable("summary")

NEW_PATTERN_CHANNEL: Final = b"kv:new-pattern"
_HEX_DIGITS: Final = 16


def _delta(raw: bytes) -> bytes:
    """Return a delta, packed or as JSON text, in its packed form. Raises CommandError."""
    try:
        if raw[:1] == b"{":
            return pack(from_json(raw))
        unpack(raw)
    except SummaryError as error:
        raise CommandError(f"ERR {error}") from error
    return raw


@TABLE.command("merge", -3, "write denyoom", keys=(1, -1, 2), complexity="O(N)")
def merge(session: Session, args: list[bytes]) -> bytes:
    """Adds deltas (msgpack or JSON) to the summaries of keys; all or nothing."""
    if len(args) % 2 == 0:
        raise CommandError(wrong_arity("merge"))
    keyspace = session.keyspace
    keys = args[1::2]
    deltas = [_delta(raw) for raw in args[2::2]]
    for key in keys:
        if type(keyspace.peek(key)) in STRINGS:
            raise CommandError("WRONGTYPE Operation against a key holding the wrong kind of value")
    for key, delta in zip(keys, deltas, strict=True):
        keyspace.merge(key, delta)
    return resp.integer(len(keys))


@TABLE.command("ingest", -3, "write denyoom", complexity="O(N)")
def ingest(session: Session, args: list[bytes]) -> bytes:
    """Counts a piece of a log, exactly once: its deltas, byte ranges, books and patterns."""
    keyspace = session.keyspace
    if len(args) == 3:
        new = keyspace.ingest(args[1], args[2])
    elif len(args) % 2:
        raise CommandError(wrong_arity("ingest"))
    else:
        new = keyspace.ingest(args[1], args[2:])
    announce_patterns(session)
    return session.null if new is None else resp.integer(new)


def announce_patterns(session: Session) -> None:
    """Publish the patterns that were seen for the first time: id, a space, the text."""
    keyspace = session.keyspace
    if keyspace.new_patterns:
        new, keyspace.new_patterns = keyspace.new_patterns, []
        for id_, entry in keyspace.catalogue.entries(new):
            session.engine.publish(NEW_PATTERN_CHANNEL, b"%016x %b" % (id_, entry.text))


@TABLE.command("sources", -1, "readonly", complexity="O(N)")
def sources(session: Session, args: list[bytes]) -> bytes:
    """Returns what is known of the logs counted: id, ranges, books, what their readers said."""
    ledger = session.keyspace.ledger
    if len(args) == 1:
        states = list(ledger.sources())
    else:
        found = [ledger.get(_id(raw)) for raw in args[1:]]
        states = [state for state in found if state is not None]
    return resp.array([resp.encode(session.resp, _source(state)) for state in states])


def _source(state: SourceState) -> dict[str, Any]:
    return {
        "id": f"{state.id:016x}",
        "ranges": [list(pair) for pair in state.ranges],
        "bytes": state.counted_bytes,
        "books": state.books,
        "about": state.about,
    }


@TABLE.command("patterns", -1, "readonly", complexity="O(N)")
def patterns(session: Session, args: list[bytes]) -> bytes:
    """Returns the patterns of log lines: id, text, count, first and last position, an example."""
    ids = [_id(raw) for raw in args[1:]] if len(args) > 1 else None
    return resp.array(
        [
            resp.encode(
                session.resp,
                [
                    f"{id_:016x}",
                    entry.text,
                    entry.count,
                    _shown_position(entry.first),
                    _shown_position(entry.last),
                    entry.example,
                ],
            )
            for id_, entry in session.keyspace.catalogue.entries(ids)
        ]
    )


def _shown_position(position: Position | None) -> list[Any] | None:
    """A position for the wire: a source id does not fit into RESP's signed 64-bit integer."""
    if position is None:
        return None
    ms, source, offset = position
    return [ms, f"{source:016x}", offset]


def _id(raw: bytes) -> int:
    """Read an id: 16 hexadecimal digits."""
    try:
        if len(raw) != _HEX_DIGITS:
            raise ValueError
        return int.from_bytes(bytes.fromhex(raw.decode("ascii")), "big")
    except (ValueError, UnicodeDecodeError):
        raise CommandError("ERR an id is 16 hexadecimal digits") from None
