"""The header of a record, against a reader that was written from its description."""

from __future__ import annotations

import struct
import zlib

from hypothesis import example, given
from hypothesis import strategies as st

from kvserver.journal.record import HEADER_BYTES, decode_header, encode_header, seed_of


@given(
    body=st.binary(max_size=5000),
    sequence=st.integers(0, (1 << 64) - 1),
    file_id=st.integers(0, (1 << 64) - 1),
)
@example(body=bytes(range(256)) * 300, sequence=1, file_id=1)
def test_the_checksums_of_a_header_are_those_that_anybody_can_compute(
    body: bytes, sequence: int, file_id: int
) -> None:
    header = encode_header(body, sequence, seed_of(file_id))
    checked = struct.pack(">4sIQI", b"kvj\x01", len(body), sequence, zlib.crc32(body))
    own_crc = zlib.crc32(checked, zlib.crc32(struct.pack(">Q", file_id)))
    assert header == checked + struct.pack(">I", own_crc)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_bytes_that_are_no_header_are_taken_for_none(noise: bytes) -> None:
    assert decode_header(noise, 0, seed_of(1)) is None
