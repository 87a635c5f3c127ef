"""A run of SETs as it came, for the journal: rows of one layout. Pure functions on bytes.

What clients send in a run repeats itself every so many bytes: a key stands here and a value there,
and what is around them says nothing new. Where values are large, that is little, and the bytes as
they came are the shortest way into the journal: nothing is taken apart and packed again. A table is
such bytes with their `Layout`; which protocol they were is no part of the format.

Guarantee: `columns_of` takes the bytes of anybody. It returns as many keys as values, or raises.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, NamedTuple

from kvserver.errors import RecordError

__all__ = ["MAX_ROWS", "Layout", "Table", "columns_of"]

MAX_ROWS = 1 << 16
"""Far above what a run has."""

Columns = tuple[tuple[bytes, ...], tuple[bytes, ...]]


class Layout(NamedTuple):
    """The sizes in bytes of what a row consists of, one behind the other."""

    before: int
    key: int
    between: int
    value: int
    behind: int


Table = tuple[str, bytes, Layout]
"""The effect: ``tab``, the rows, how each is laid out."""


def columns_of(rows: Any, layout: Any) -> Columns:
    """Return the keys and the values of a table, in the order of its rows.

    Raises:
        RecordError: the arguments, which may come from a file, are no table.
    """
    if type(rows) is not bytes or not isinstance(layout, list | tuple):
        raise RecordError("a table is not bytes and a layout")
    if len(layout) != len(Layout._fields) or set(map(type, layout)) != {int} or min(layout) < 0:
        raise RecordError("a table's layout is not five sizes")
    before, key, between, value, behind = layout
    row_bytes = sum(layout)
    if not row_bytes or len(rows) % row_bytes or not 0 < len(rows) // row_bytes <= MAX_ROWS:
        raise RecordError("a table is no whole number of rows, or of too many")
    row = Struct(f"{before}x{key}s{between}x{value}s{behind}x")
    keys, values = zip(*row.iter_unpack(rows), strict=True)
    return keys, values
