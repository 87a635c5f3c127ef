"""Strings as bitmaps: SETBIT GETBIT BITCOUNT BITPOS BITOP BITFIELD BITFIELD_RO."""

from __future__ import annotations

from dataclasses import dataclass
from operator import is_
from typing import Final

from kvserver import bitops
from kvserver.ahead import ahead
from kvserver.bitops import Field, Overflow
from kvserver.commands.arguments import SYNTAX_ERROR, integer_argument
from kvserver.commands.cutting import cut_first, is_uncut
from kvserver.commands.table import CommandTable, Reply, Work, completed
from kvserver.errors import CommandError
from kvserver.longstring import BLOCK_BYTES, LongString, String, whole
from kvserver.numbers import parse_int
from kvserver.resp import NULL, ONE, ZERO, array, integer
from kvserver.session import Session

TABLE = CommandTable("bitmap")

_BAD_OFFSET: Final = "ERR bit offset is not an integer or out of range"
_BAD_BIT: Final = "ERR bit is not an integer or out of range"
_BAD_FIELD: Final = (
    "ERR Invalid bitfield type. Use something like i16 u8. "
    "Note that u64 is not supported but i64 is."
)
_OVERFLOWS: Final[dict[bytes, Overflow]] = {b"WRAP": "WRAP", b"SAT": "SAT", b"FAIL": "FAIL"}
_SLICE_BYTES: Final = 1 << 20
_COMBINED_BYTES: Final = 1 << 14
"""What is combined in one step; more would not stay in the processor's nearest cache."""
_COMBINE_TRIES: Final = 3
_MINUS_ONE: Final = b":-1\r\n"


def _bit_offset(session: Session, raw: bytes, field: Field | None = None) -> int:
    """Read a bit offset; ``#n`` counts in fields of this width."""
    scale = 1
    if field is not None and raw[:1] == b"#":
        raw, scale = raw[1:], field.bits
    offset = parse_int(raw)
    if offset is None or offset < 0 or offset * scale >> 3 >= session.engine.config.max_bulk_bytes:
        raise CommandError(_BAD_OFFSET)
    return offset * scale


@TABLE.command("setbit", 4, "write denyoom", keys=(1, 1, 1), since="2.2.0")
def setbit(session: Session, args: list[bytes]) -> Reply:
    """Sets or clears one bit of a string; returns what it was."""
    offset = _bit_offset(session, args[2])
    if args[3] not in {b"0", b"1"}:
        raise CommandError(_BAD_BIT)
    bit = args[3] == b"1"
    keyspace = session.keyspace
    old_value = keyspace.string_or_none(args[1])
    if is_uncut(old_value, session):
        return cut_first(session, args[1], old_value, lambda: setbit(session, args))
    value = old_value or b""
    old = bitops.get_bit(value, offset)
    if old_value is None or offset >> 3 >= len(value) or old != bit:
        byte = bitops.byte_with_bit(value, offset, bit)
        keyspace.overwrite(args[1], offset >> 3, bytes((byte,)), "setbit")
    return ONE if old else ZERO


@TABLE.command("getbit", 3, "readonly fast", keys=(1, 1, 1), since="2.2.0")
def getbit(session: Session, args: list[bytes]) -> bytes:
    """Returns one bit of a string."""
    offset = _bit_offset(session, args[2])
    value = session.keyspace.string(args[1])
    return ONE if value is not None and bitops.get_bit(value, offset) else ZERO


@TABLE.command("bitcount", -2, "readonly", keys=(1, 1, 1), since="2.6.0")
def bitcount(session: Session, args: list[bytes]) -> Reply:
    """Counts the bits that are set."""
    value = session.keyspace.string(args[1])
    if value is None:
        return ZERO
    if len(args) == 2:
        return _count(value, 0, len(value) * 8 - 1)
    if len(args) not in {4, 5}:
        raise CommandError(SYNTAX_ERROR)
    start, end = integer_argument(args[2]), integer_argument(args[3])
    if start < 0 and end < 0 and start > end:
        return ZERO
    unit = _unit(args[4]) if len(args) == 5 else 8
    found = bitops.clip_range(start, end, len(value) * 8 // unit)
    if found is None:
        return ZERO
    return _count(value, found[0] * unit, found[1] * unit + unit - 1)


def _count(value: String, first_bit: int, last_bit: int) -> Reply:
    if last_bit - first_bit > 8 * _SLICE_BYTES:
        return _count_in_slices(value, first_bit, last_bit)
    return integer(bitops.count_bits(value, first_bit, last_bit)) if value else ZERO


def _count_in_slices(value: String, first_bit: int, last_bit: int) -> Work:
    total = 0
    for start in range(first_bit, last_bit + 1, 8 * _SLICE_BYTES):
        total += bitops.count_bits(value, start, min(start + 8 * _SLICE_BYTES - 1, last_bit))
        yield None
    return integer(total)


@TABLE.command("bitpos", -3, "readonly", keys=(1, 1, 1), since="2.8.7")
def bitpos(session: Session, args: list[bytes]) -> Reply:
    """Finds the first bit that is set, or clear."""
    bit = integer_argument(args[2])
    if bit not in {0, 1}:
        raise CommandError("ERR The bit argument must be 1 or 0.")
    value = session.keyspace.string(args[1])
    if value is None:
        return _MINUS_ONE if bit else ZERO
    if len(args) > 6:
        raise CommandError(SYNTAX_ERROR)
    start = integer_argument(args[3]) if len(args) > 3 else 0
    unit = _unit(args[5]) if len(args) > 5 else 8
    end = integer_argument(args[4]) if len(args) > 4 else -1
    found = bitops.clip_range(start, end, len(value) * 8 // unit)
    if found is None:
        return _MINUS_ONE
    first, last = found[0] * unit, found[1] * unit + unit - 1
    # Without an end, zeros follow the value.
    otherwise = len(value) * 8 if bit == 0 and len(args) < 5 else -1
    if last - first > 8 * _SLICE_BYTES:
        return _find_in_slices(value, bit, (first, last), otherwise)
    place = bitops.find_bit(value, bit, first, last)
    return integer(otherwise if place < 0 else place)


def _find_in_slices(value: String, bit: int, bits: tuple[int, int], otherwise: int) -> Work:
    first, last = bits
    for start in range(first, last + 1, 8 * _SLICE_BYTES):
        place = bitops.find_bit(value, bit, start, min(start + 8 * _SLICE_BYTES - 1, last))
        if place >= 0:
            return integer(place)
        yield None
    return integer(otherwise)


def _unit(raw: bytes) -> int:
    word = raw.upper()
    if word == b"BIT":
        return 1
    if word == b"BYTE":
        return 8
    raise CommandError(SYNTAX_ERROR)


@TABLE.command("bitop", -4, "write denyoom", keys=(2, -1, 1), since="2.6.0")
def bitop(session: Session, args: list[bytes]) -> Reply:
    """Combines strings bit by bit into a destination; returns its length."""
    operation = args[1].upper()
    if operation not in {b"AND", b"OR", b"XOR", b"NOT"}:
        raise CommandError(SYNTAX_ERROR)
    if operation == b"NOT" and len(args) != 4:
        raise CommandError("ERR BITOP NOT must be called with a single source key.")
    values = [session.keyspace.string(key) for key in args[3:]]
    if sum(len(value) for value in values if value is not None) > _SLICE_BYTES:
        return _combine_in_slices(session, operation, args[2], args[3:])
    pieces = [b"" if value is None else whole(value) for value in values]
    result = bitops.combine(operation, pieces, max(map(len, pieces)))
    return _store_combined(session, args[2], result)


def _combine_in_slices(
    session: Session, operation: bytes, target: bytes, keys: list[bytes]
) -> Work:
    """Combine long strings; again, and in the end without a pause, if one is changed meanwhile."""
    find = session.keyspace.string_or_none
    for tries_left in reversed(range(_COMBINE_TRIES)):
        found = list(map(find, keys))
        strings = [value or b"" for value in found]
        length = max(map(len, strings))
        blocks = []
        for start in range(0, length, BLOCK_BYTES):
            end = min(length, start + BLOCK_BYTES)
            blocks.append(_combined(operation, strings, start, end))
            if tries_left:
                yield None
        result = LongString(tuple(blocks))

        def store(found: list[String | None] = found, result: LongString = result) -> bytes:
            if not all(map(is_, map(find, keys), found)):
                return b""
            return _store_combined(session, target, result)

        stored = ahead(session, [result], store) if tries_left else store()
        reply = yield from completed(stored)
        if reply:
            return reply
    raise AssertionError("nobody comes between when there is no pause")


def _combined(operation: bytes, strings: list[String], start: int, end: int) -> bytes:
    """Combine a part of long strings, in steps that stay in the processor's nearest cache."""
    parts = []
    for at in range(start, end, _COMBINED_BYTES):
        stop = min(end, at + _COMBINED_BYTES)
        pieces = [string[at:stop] for string in strings]
        parts.append(bitops.combine(operation, pieces, stop - at))
    return b"".join(parts)


def _store_combined(session: Session, target: bytes, result: String) -> bytes:
    if result:
        session.keyspace.put(target, result, None, "set")
    else:
        session.keyspace.delete(target)
    return integer(len(result))


@dataclass(slots=True)
class _Step:
    """One operation of a BITFIELD."""

    name: bytes
    field: Field
    offset: int
    number: int
    overflow: Overflow


@TABLE.command("bitfield", -2, "write denyoom", keys=(1, 1, 1), since="3.2.0")
def bitfield(session: Session, args: list[bytes]) -> Reply:
    """Reads and changes integers of any width inside a string."""
    steps = _steps(session, args)
    writes = [step for step in steps if step.name != b"GET"]
    if not writes:
        return _read_fields(session, args[1], steps)
    keyspace = session.keyspace
    old_value = keyspace.string_or_none(args[1])
    if is_uncut(old_value, session):
        return cut_first(session, args[1], old_value, lambda: bitfield(session, args))
    first = min(step.offset for step in steps) // 8
    window = bytearray((old_value or b"")[first : max(map(_end, steps))])
    needed = max(map(_end, writes))
    changed = len(old_value or b"") < needed
    window.extend(bytes(max(0, needed - first - len(window))))
    low, high = (0, needed - first) if changed else (len(window), 0)
    replies = []
    for step in steps:
        offset = step.offset - 8 * first
        old = step.field.read(window, offset)
        if step.name == b"GET":
            replies.append(integer(old))
            continue
        wanted = old + step.number if step.name == b"INCRBY" else step.number
        if step.name == b"SET" and not step.field.signed:
            wanted &= (1 << 64) - 1
        new = step.field.fit(wanted, step.overflow)
        if new is None:
            replies.append(NULL[session.resp])
            continue
        replies.append(integer(new if step.name == b"INCRBY" else old))
        if new != old:
            at, piece = step.field.written(window, offset, new)
            window[at : at + len(piece)] = piece
            low, high = min(low, at), max(high, at + len(piece))
            changed = True
    if changed:
        keyspace.overwrite(args[1], first + low, bytes(window[low:high]), "setbit")
    return array(replies)


def _end(step: _Step) -> int:
    """Return the byte behind the last one that a field has a bit in."""
    return (step.offset + step.field.bits - 1) // 8 + 1


@TABLE.command("bitfield_ro", -2, "readonly fast", keys=(1, 1, 1), since="6.0.0")
def bitfield_ro(session: Session, args: list[bytes]) -> bytes:
    """Reads integers of any width inside a string."""
    steps = _steps(session, args)
    if any(step.name != b"GET" for step in steps):
        raise CommandError("ERR BITFIELD_RO only supports the GET subcommand")
    return _read_fields(session, args[1], steps)


def _read_fields(session: Session, key: bytes, steps: list[_Step]) -> bytes:
    value = session.keyspace.string(key) or b""
    return array([integer(step.field.read(value, step.offset)) for step in steps])


def _steps(session: Session, args: list[bytes]) -> list[_Step]:
    steps = []
    overflow: Overflow = "WRAP"
    at = 2
    while at < len(args):
        name, left = args[at].upper(), len(args) - at - 1
        if name == b"OVERFLOW" and left >= 1:
            rule = _OVERFLOWS.get(args[at + 1].upper())
            if rule is None:
                raise CommandError("ERR Invalid OVERFLOW type specified")
            overflow = rule
            at += 2
            continue
        if not ((name == b"GET" and left >= 2) or (name in {b"SET", b"INCRBY"} and left >= 3)):
            raise CommandError(SYNTAX_ERROR)
        field = bitops.parse_field(args[at + 1])
        if field is None:
            raise CommandError(_BAD_FIELD)
        offset = _bit_offset(session, args[at + 2], field)
        number = 0 if name == b"GET" else integer_argument(args[at + 3])
        steps.append(_Step(name, field, offset, number, overflow))
        at += 3 if name == b"GET" else 4
    return steps
