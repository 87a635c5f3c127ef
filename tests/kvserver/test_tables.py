"""Tables: what was put into the rows comes out as columns, and anything else is refused."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvserver.errors import RecordError
from kvserver.runs import run_of
from kvserver.tables import MAX_ROWS, Layout, columns_of
from tests.wire import encode

sizes = st.integers(0, 40)
layouts = st.builds(Layout, sizes, sizes, sizes, sizes, sizes).filter(any)
numbers = st.one_of(sizes, st.integers(), st.none(), st.booleans(), st.just(1 << 70))


def of_size(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@given(st.data(), layouts, st.integers(1, 9))
def test_each_row_gives_its_key_and_its_value(
    data: st.DataObject, layout: Layout, count: int
) -> None:
    rows = data.draw(
        st.lists(st.tuples(*map(of_size, layout)), min_size=count, max_size=count), "rows"
    )
    table = (b"".join(map(b"".join, rows)), layout)
    for arguments in (table, msgpack.unpackb(msgpack.packb(table))):
        keys, values = columns_of(*arguments)
        assert keys == tuple(row[1] for row in rows)
        assert values == tuple(row[3] for row in rows)


@example(b"rows of nothing", [0] * 5)
@given(
    st.binary(max_size=50) | st.integers() | st.text(),
    st.lists(numbers, max_size=6) | layouts | st.binary() | st.none(),
)
def test_arguments_of_anybody_are_a_table_or_refused(rows: Any, layout: Any) -> None:
    try:
        keys, values = columns_of(rows, layout)
    except RecordError:
        return
    assert len(keys) == len(values) == len(rows) // sum(layout)


@pytest.mark.parametrize("layout", [[0, 0, 0, 0, 1], [0, 0, 0, 1, 0]])
def test_a_table_has_no_more_rows_than_it_may(layout: list[int]) -> None:
    assert len(columns_of(b"x" * MAX_ROWS, layout)[0]) == MAX_ROWS
    with pytest.raises(RecordError, match="row"):
        columns_of(b"x" * (MAX_ROWS + 1), layout)


@pytest.mark.parametrize("requests", [2, 3, 16])
@pytest.mark.parametrize(("key_bytes", "value_bytes"), [(1, 300), (16, 1024), (300, 1), (16, 3)])
def test_a_run_of_large_sets_is_a_table_of_the_same_columns(
    requests: int, key_bytes: int, value_bytes: int
) -> None:
    keys = [bytes([65 + n]) * key_bytes for n in range(requests)]
    chunk = b"".join(encode("SET", key, b"\n" * value_bytes) for key in keys)
    found = run_of(chunk)
    assert found is not None
    shape, columns = found
    tables = shape.tables((chunk,))
    if key_bytes + value_bytes < 100:
        assert not tables  # a table would be longer than what it says
    else:
        assert [columns_of(rows, layout) for _, rows, layout in tables] == [columns]
