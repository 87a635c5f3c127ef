"""Times of log lines: directives, zones, years that are left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.errors import TimeFormatError
from parser.isotime import format_time_ms, parse_time_ms
from parser.times import Clock, ZoneTable, compile_time, guess_time, zone_named

MARCH = parse_time_ms("2024-03-01T12:00:00Z")


def read(text: str, stamp: bytes, clock: Clock | None = None) -> str | None:
    parts: dict[str, int] = {}
    if not compile_time(text).read(stamp, parts):
        return "no"
    moment, valid = (clock or Clock(UTC, MARCH)).moment(parts)
    if not valid:
        return "never"
    return None if moment is None else format_time_ms(moment)


@pytest.mark.parametrize(
    ("text", "stamp", "expected"),
    [
        ("%y%m%d %H%M%S", b"081109 203518", "2008-11-09T20:35:18Z"),
        ("%y%m%d", b"991231", "1999-12-31T00:00:00Z"),
        ("%Y-%m-%d %H:%M:%S,%f", b"2015-10-18 18:01:47,978", "2015-10-18T18:01:47.978Z"),
        ("%Y-%m-%d-%H.%M.%S.%f", b"2005-06-03-15.42.50.675872", "2005-06-03T15:42:50.675Z"),
        ("%d/%b/%Y:%H:%M:%S %z", b"17/May/2015:10:05:03 +0200", "2015-05-17T08:05:03Z"),
        ("%a %b %d %H:%M:%S %Y", b"Sun Dec 04 04:47:44 2005", "2005-12-04T04:47:44Z"),
        ("%B %e, %Y %I:%M %p", b"september 4, 2005 12:07 AM", "2005-09-04T00:07:00Z"),
        ("%Y/%j", b"2024/366", "2024-12-31T00:00:00Z"),
        ("%F %T %Z", b"2024-05-01 10:00:00 GMT", "2024-05-01T10:00:00Z"),
        ("iso", b"2024-05-01T10:00:00.5-01:30", "2024-05-01T11:30:00.500Z"),
        ("iso", b"2024-05-01 10:00:00,123456789Z", "2024-05-01T10:00:00.123Z"),
        ("epoch", b"1117838570", "2005-06-03T22:42:50Z"),
        ("%s.%f", b"1117838570.25", "2005-06-03T22:42:50.250Z"),
        ("epoch_ms", b"1117838570675", "2005-06-03T22:42:50.675Z"),
        ("%H:%M:%S", b"10:00:00", None),
        ("%H:%M:%S %Y-%m-%d", b"23:59:60 2016-12-31", "2017-01-01T00:00:00Z"),
        ("%Y-%m-%d", b"2023-02-29", "never"),
        ("%Y-%m-%d", b"2023-13-01", "never"),
        ("%Y-%m-%d", b"0000-01-01", "never"),
        ("%Y-%m-%d %H", b"2023-01-01 24", "never"),
        ("%Y-%m-%d", b"2023-01-0x", "no"),
    ],
)
def test_a_time_is_read_by_its_directives(text: str, stamp: bytes, expected: str | None) -> None:
    assert read(text, stamp) == expected


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (b"Feb 29 10:00:00", "2024-02-29T10:00:00Z"),
        (b"Mar  1 11:59:59", "2024-03-01T11:59:59Z"),
        (b"Mar  2 11:00:00", "2024-03-02T11:00:00Z"),  # a day of slack: zones and clocks differ
        (b"Mar  3 00:00:00", "2023-03-03T00:00:00Z"),
        (b"Dec 10 06:55:46", "2023-12-10T06:55:46Z"),
    ],
)
def test_a_year_that_is_left_out_does_not_make_the_time_lie_in_the_files_future(
    stamp: bytes, expected: str
) -> None:
    assert read("%b %d %H:%M:%S", stamp) == expected


def test_the_29th_of_february_takes_the_last_year_that_has_one() -> None:
    clock = Clock(UTC, parse_time_ms("2023-12-01T00:00:00Z"))
    assert read("%b %d", b"Feb 29", clock) == "2020-02-29T00:00:00Z"


@given(st.integers(31_536_000, 2_840_140_800))
def test_unzoned_times_are_of_the_zone_that_was_given(seconds: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    table = ZoneTable(zone)
    local = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=zone)
    offset = local.utcoffset()
    assert table.offset_ms(seconds * 1000) == (offset or timedelta()) // timedelta(milliseconds=1)


def test_zones_have_names_and_offsets() -> None:
    assert zone_named("utc") is UTC
    assert zone_named("-03:30") == timezone(-timedelta(hours=3, minutes=30))
    assert zone_named("Asia/Tokyo") == ZoneInfo("Asia/Tokyo")
    with pytest.raises(TimeFormatError, match="no time zone 'Mars/Olympus'"):
        zone_named("Mars/Olympus")


def test_an_unknown_directive_is_named() -> None:
    with pytest.raises(TimeFormatError, match="%q is not a directive"):
        compile_time("%q")
    with pytest.raises(TimeFormatError, match="no directive"):
        compile_time("today")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z"),
        (b"2024-05-01", "2024-05-01T00:00:00Z"),
        (b"1714564800", "2024-05-01T12:00:00Z"),
        (b"1714564800.5", "2024-05-01T12:00:00.500Z"),
        (b"1714564800500", "2024-05-01T12:00:00.500Z"),
        (b"1714564800500000", "2024-05-01T12:00:00.500Z"),
        (b"1714564800500000000", "2024-05-01T12:00:00.500Z"),
        (b"Wed, 01 May 2024 12:00:00 GMT", "2024-05-01T12:00:00Z"),
        (b"01/May/2024:14:00:00 +0200", "2024-05-01T12:00:00Z"),
        (b"soon", None),
    ],
)
def test_a_time_of_unknown_form_is_recognised(text: bytes, expected: str | None) -> None:
    moment = guess_time(text, Clock(UTC, MARCH))
    assert (None if moment is None else format_time_ms(moment)) == expected
