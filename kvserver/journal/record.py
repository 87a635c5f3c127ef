"""The record: what the journal's files are made of. Pure functions on bytes.

::

    header   magic+version 4 bytes | body length u32 | sequence number u64 | CRC of the body u32
             | CRC of the 20 bytes before, started from the file's id u32              (big endian)
    body     one msgpack array of effects; an effect is an array that begins with the name of its
             operation (what is large in it may have been written ahead: see `staging`)

A closed file ends with a footer, which is a record with a magic of its own and the body
``[records, last sequence number, chain]`` plus, in a base, where each partition begins. *Chain*
is the CRC over the headers of all records in order: a header holds the CRC of its body, so the
chain covers every byte of the file without reading the bodies twice.

Why so much for a header: a frame of length and body CRC alone takes a damaged length for a torn
tail and silently drops everything behind it. The header has its own CRC, so a length can be
trusted before it is used; the id of the file goes into that CRC, so records of another file never
fit; the sequence number shows what was dropped, repeated or swapped.

`decode_body` bounds what it makes of hostile bytes with a good CRC: no extension types but those
that its caller takes, no container larger than the body could hold, nesting limited by the C
decoder, nothing behind the array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

import msgpack
from zlib_ng.zlib_ng import crc32

from kvserver.errors import RecordError

MAGIC = b"kvj\x01"
FOOTER_MAGIC = b"kvf\x01"
HEADER = Struct(">4sIQII")
HEADER_BYTES = HEADER.size
CHECKED_BYTES = HEADER_BYTES - 4
"""How much of the header its own CRC covers."""
MAX_BODY_BYTES = (1 << 32) - 1
MAX_ELEMENTS = 1 << 22
"""In one array or map of a body: far above what a turn of the server makes, far below what could
hurt."""

DECODER_OPTIONS: Final[dict[str, Any]] = {
    "max_ext_len": 12,  # no more than a name of what was staged
    "strict_map_key": False,
    "unicode_errors": "surrogateescape",
}

_CHECKED = Struct(">4sIQI")
_CRC = Struct(">I")

Effect = Sequence[Any]

BAD_EFFECT = (RecordError, LookupError, TypeError, ValueError, OverflowError, MemoryError)
"""What applying an effect may raise that has a good CRC and makes no sense."""


class Header(NamedTuple):
    """A header whose own CRC was right."""

    magic: bytes
    length: int
    sequence: int
    body_crc: int


class Footer(NamedTuple):
    """What a closed file says about itself."""

    records: int
    last: int
    chain: int
    partitions: list[tuple[int, int]]
    """Of a base: (offset of the partition's first record, number of records), in order."""


def seed_of(file_id: int) -> int:
    """Return what the header CRCs of a file start from."""
    return crc32(file_id.to_bytes(8, "big"))


def encode_header(
    body: bytes | memoryview, sequence: int, seed: int, magic: bytes = MAGIC
) -> bytes:
    """Return the header that goes before ``body``."""
    checked = _CHECKED.pack(magic, len(body), sequence, crc32(body))
    return checked + _CRC.pack(crc32(checked, seed))


def decode_header(data: bytes, offset: int, seed: int) -> Header | None:
    """Return the header at ``offset``, or None when its CRC or magic is wrong."""
    magic, length, sequence, body_crc, own_crc = HEADER.unpack_from(data, offset)
    if crc32(data[offset : offset + CHECKED_BYTES], seed) != own_crc:
        return None
    if magic not in {MAGIC, FOOTER_MAGIC}:
        return None
    return Header(magic, length, sequence, body_crc)


def new_packer(*, autoreset: bool = True) -> Any:
    """Return a packer for bodies; text that came as other than UTF-8 keeps its raw bytes.

    What is no type of msgpack is packed as its bytes: a string that the store has in blocks.
    Without ``autoreset`` it gathers what it packs.
    """
    return msgpack.Packer(unicode_errors="surrogateescape", default=bytes, autoreset=autoreset)


def encode_body(effects: Sequence[Effect]) -> bytes:
    """Pack effects; whoever packs often keeps a packer."""
    body: bytes = new_packer().pack(effects)
    return body


def _no_extension(_kind: int, _data: bytes) -> Any:
    raise RecordError("an extension type where none belongs")


def decode_body(
    body: bytes, extension: Callable[[int, bytes], Any] = _no_extension
) -> list[list[Any]]:
    """Return the effects of a record; ``extension`` makes a value of a type and its data.

    Raises:
        RecordError: the body is not an array of effects, whatever else it is.
    """
    try:
        most = min(len(body), MAX_ELEMENTS)
        effects = msgpack.unpackb(
            body, ext_hook=extension, max_array_len=most, max_map_len=most, **DECODER_OPTIONS
        )
    except (ValueError, TypeError, MemoryError) as error:  # TypeError: a map with an unhashable key
        raise RecordError(
            f"body cannot be decoded ({str(error)[:80] or type(error).__name__})"
        ) from error
    if not isinstance(effects, list):
        raise RecordError("body is not an array of effects")
    return checked_effects(effects)


def checked_effects(effects: list[Any]) -> list[list[Any]]:
    """Return the effects, which must be arrays that are not empty; raises RecordError."""
    if effects and set(map(type, effects)) != {list}:
        raise RecordError("an effect is not an array")
    if not all(effects):
        raise RecordError("an effect is empty")
    return effects


def encode_footer(footer: Footer, sequence: int, seed: int) -> bytes:
    """Return the whole footer record; ``sequence`` follows that of the last record."""
    fields: list[Any] = [footer.records, footer.last, footer.chain]
    if footer.partitions:
        fields.append(footer.partitions)
    body: bytes = msgpack.packb(fields)
    return encode_header(body, sequence, seed, FOOTER_MAGIC) + body


def decode_footer(body: bytes) -> Footer:
    """Return what a footer's body says.

    Raises:
        RecordError: it is not the body of a footer.
    """
    try:
        fields = msgpack.unpackb(body, max_ext_len=0, use_list=False)
        records, last, chain, *rest = fields
        partitions = [(int(offset), int(count)) for offset, count in rest[0]] if rest else []
        if len(rest) > 1 or not all(isinstance(n, int) for n in (records, last, chain)):
            raise RecordError("footer has unknown fields")
        return Footer(records, last, chain, partitions)
    except (ValueError, TypeError) as error:
        raise RecordError("footer cannot be decoded") from error
