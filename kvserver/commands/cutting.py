"""A very long string is cut into blocks, in slices, before a part of it is written the first time.

Afterwards such a write costs a block (see ``longstring``). The cut itself copies the whole string,
which takes 30 ms for 64 MB. It changes nothing that a client or the journal could see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeGuard

from kvserver.commands.table import Reply, Work, completed
from kvserver.longstring import BLOCK_BYTES, LongString, String
from kvserver.session import Session

__all__ = ["cut_first", "is_uncut"]

_UNCUT_BYTES: Final = 1 << 21
"""What is shorter is cut in a millisecond, by whoever writes to it."""
_BLOCKS_AT_ONCE: Final = 16


def is_uncut(string: String | None, session: Session) -> TypeGuard[bytes]:
    """Whether to cut a string first; not in a transaction, which has to end at once."""
    return (
        type(string) is bytes
        and len(string) > _UNCUT_BYTES
        and not session.engine.isolation.in_transaction(session)
    )


def cut_first(session: Session, key: bytes, string: bytes, then: Callable[[], Reply]) -> Work:
    """Cut the value of a key into blocks, unless it is another one by then; return ``then()``."""
    blocks: list[bytes] = []
    for start in range(0, len(string), BLOCK_BYTES):
        blocks.append(string[start : start + BLOCK_BYTES])
        if len(blocks) % _BLOCKS_AT_ONCE == 0:
            yield None
    session.keyspace.replace_by_equal(key, string, LongString(tuple(blocks)))
    return (yield from completed(then()))
