"""Filters: what each condition means, and that a filtered run keeps its books balanced."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.errors import FilterError
from parser.extract import Event
from parser.filters import (
    ERROR_CODES,
    FilteredInterpreter,
    Filters,
    level_names,
    parse_codes,
    parse_where,
)
from parser.formats import BUILTIN
from parser.interpreter import Interpreter
from parser.summary import fold
from parser.synthetic import generate


def event(
    time_ms: int | None = None, level: bytes | None = None, content: bytes = b"", **fields: bytes
) -> Event:
    return Event(time_ms, level, [b"key_1"], content, dict(fields))


@pytest.mark.parametrize(
    ("filters", "matching", "other"),
    [
        ({"since_ms": 10}, event(10), event(9)),
        ({"since_ms": 10}, event(11), event(None)),
        ({"until_ms": 10}, event(10), event(11)),
        ({"until_ms": 10}, event(-5), event(None)),
        ({"levels": level_names("warn")}, event(level=b"WARNING"), event(level=b"ERROR")),
        ({"levels": level_names("WARN,error")}, event(level=b"Error"), event(level=None)),
        ({"where": [("status", "404")]}, event(status=b"404"), event(status=b"4040")),
        ({"where": [("status", "404"), ("status", "500")]}, event(status=b"500"), event()),
        (
            {"where": [("status", "404"), ("method", "GET")]},
            event(status=b"404", method=b"GET"),
            event(status=b"404", method=b"PUT"),
        ),
        ({"where": [("level", "INFO")]}, event(level=b"INFO"), event(level=b"WARN")),
        ({"where": [("key", "key_1")]}, event(), Event(None, None, [], b"", {})),
        ({"codes": [404]}, event(status=b"404"), event(content=b"404", status=b"200")),
        ({"codes": [500]}, event(content=b"failed: 500."), event(content=b"took 5000 ms")),
    ],
)
def test_a_condition_means_what_it_says(
    filters: dict[str, Any], matching: Event, other: Event
) -> None:
    made = Filters.of(**filters)
    assert made
    assert made.matches(matching)
    assert not made.matches(other)


def test_no_condition_is_no_filter() -> None:
    assert not Filters()
    assert Filters().matches(event())
    assert Filters().message() == {}


@given(
    st.builds(
        Filters.of,
        where=st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=3),
        since_ms=st.none() | st.integers(-(2**62), 2**62),
        until_ms=st.none() | st.integers(-(2**62), 2**62),
        levels=st.lists(st.text(), max_size=2),
        codes=st.lists(st.integers(0, 999), max_size=2),
    )
)
def test_filters_survive_the_way_to_another_process(filters: Filters) -> None:
    packed = msgpack.packb(filters.message(), unicode_errors="surrogateescape")
    sent = msgpack.unpackb(packed, unicode_errors="surrogateescape")
    assert Filters.read(sent) == filters


def test_the_usual_error_codes_are_meant_when_none_are_named() -> None:
    assert parse_codes("") == ERROR_CODES
    assert parse_codes("400, 418") == (400, 418)


@pytest.mark.parametrize("text", ["x", "400,", "4_0", "٤"])
def test_a_code_is_a_number(text: str) -> None:
    with pytest.raises(FilterError):
        parse_codes(text)


@pytest.mark.parametrize("text", ["status", "=404", ""])
def test_where_needs_a_field_and_a_value(text: str) -> None:
    with pytest.raises(FilterError):
        parse_where(text)


def test_a_level_between_commas_is_not_forgotten() -> None:
    with pytest.raises(FilterError):
        level_names("WARN,,ERROR")


def test_filtered_out_lines_count_as_skipped_and_nothing_else_changes() -> None:
    log = b"".join(generate("hdfs", 3000, 4)) + b"no such line\n"
    filters = Filters.of(levels=level_names("WARN,ERROR"))
    plain = Interpreter(BUILTIN["hdfs"])
    kept = b"".join(
        line + b"\n"
        for line in log.splitlines()
        if (read := plain.parse_line(line)) is not None and filters.matches(read)
    )
    filtered = FilteredInterpreter(filters, BUILTIN["hdfs"]).summarize(log, source=1, offset=0)
    assert filtered.lines == 3001
    assert filtered.unparsed == 1
    assert filtered.matched == kept.count(b"\n")
    assert filtered.lines == filtered.matched + filtered.unparsed + filtered.skipped
    alone = plain.summarize(kept, source=1, offset=0)
    assert counts(filtered.packed) == counts(alone.packed)


def counts(packed: bytes) -> dict[bytes, tuple[int, Any, Any]]:
    flat = msgpack.unpackb(packed)
    told = {}
    for key, delta in zip(flat[::2], flat[1::2], strict=True):
        summary = fold(delta)
        told[key] = (summary.count, summary.levels, summary.events)
    return told


def test_a_stack_trace_under_a_filtered_out_event_brings_no_keys() -> None:
    log = (
        b"2024-05-01 12:00:00,1 INFO a.B: fine\n\tat blk_1\n2024-05-01 12:00:01,1 ERROR a.B: bad\n"
    )
    reader = FilteredInterpreter(
        Filters.of(levels=level_names("ERROR")), BUILTIN["log4j"], multiline=True
    )
    found = reader.summarize(log, source=1, offset=0)
    assert (found.matched, found.skipped, found.continued, found.keys) == (1, 1, 1, 1)
