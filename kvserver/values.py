"""The value of a key: a string is ``bytes`` or ``LongString``, a summary is ``SummaryValue``.

A summary is kept as the log of its own packed deltas, because appending costs a tenth of merging.
Reading folds it (``folded``), and the keyspace keeps the folded form. A summary that is merged
often and read never folds by itself from time to time, so its size stays bounded by that of its
folded form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgpack

from kvserver.longstring import LongString, String
from kvserver.untracked import untracked_bytes
from parser.summary import fold, pack

__all__ = ["UNLIKE_BYTES", "SummaryValue", "Value", "appended", "folded", "is_folded", "kind_of"]

FOLD_STEP_BYTES: Final = 2048
"""How much a summary may grow beyond twice its folded form before it folds by itself."""


if TYPE_CHECKING:

    class SummaryValue(bytes):
        """One or more packed summaries, one after the other.

        Immutable, so copies, replies and journal records may share it. Measured against a
        bytearray: 56 bytes less for each key, and no alias can change behind anybody's back.
        """

        __slots__ = ()

else:
    SummaryValue = untracked_bytes(
        f"{__name__}.SummaryValue", "One or more packed summaries, one after the other."
    )


Value: TypeAlias = String | SummaryValue

UNLIKE_BYTES: Final[frozenset[type]] = frozenset([SummaryValue, LongString])
"""The types of values that cannot be sent as they are."""


def kind_of(value: Value) -> bytes:
    """Return the name of the type as TYPE says it."""
    return b"summary" if type(value) is SummaryValue else b"string"


def _first_part_bytes(value: bytes) -> int:
    unpacker: Any = msgpack.Unpacker(max_buffer_size=len(value))
    unpacker.feed(value)
    unpacker.skip()
    return int(unpacker.tell())


def is_folded(value: bytes) -> bool:
    """Whether the summary is a single delta. Costs a microsecond; raises nothing."""
    try:
        return _first_part_bytes(value) == len(value)
    except (ValueError, msgpack.UnpackException):
        return False


def folded(value: bytes) -> SummaryValue:
    """Return the summary as one delta. Raises SummaryError when a delta is damaged."""
    return SummaryValue(pack(fold(value)))


def appended(value: bytes, delta: bytes) -> SummaryValue:
    """Return the summary with one more delta, folded when it has grown enough.

    O(size of the value), which is bounded; a fold is paid for by the deltas since the one before.
    A damaged delta is not looked for here: it shows when somebody folds to read.
    """
    joined = value + delta
    size = len(joined)
    if size >= FOLD_STEP_BYTES and size // FOLD_STEP_BYTES != len(value) // FOLD_STEP_BYTES:
        try:
            if size >= 2 * _first_part_bytes(joined) + FOLD_STEP_BYTES:
                return folded(joined)
        except (ValueError, msgpack.UnpackException):
            pass
    return SummaryValue(joined)
