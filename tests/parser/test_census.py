"""Figures of a log: right while they can be exact, bounded always."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser import counting
from parser.census import Bounded, Census, Timeline, nice_step_ms
from parser.counting import count_logs
from parser.extract import Event
from parser.run import Reading
from parser.synthetic import generate


def event(time_ms: int | None, level: bytes | None = b"INFO", *keys: bytes) -> Event:
    return Event(time_ms, level, list(keys), b"message 1", {})


@given(
    st.lists(st.tuples(st.integers(-(10**12), 10**13), st.sampled_from("AB")), max_size=60),
    st.integers(1, 50),
    st.integers(2, 20),
)
def test_a_timeline_loses_no_event_and_keeps_few_buckets(
    events: list[tuple[int, str]], rows: int, most: int
) -> None:
    timeline = Timeline(max_buckets=most)
    for time_ms, level in events:
        timeline.add(time_ms, level)
    assert len(timeline.buckets) <= most
    width, drawn = timeline.rows(rows)
    total: Counter[str] = Counter()
    for _, counts in drawn:
        total.update(counts)
    assert total == Counter(level for _, level in events)
    assert len(drawn) <= rows + 2
    for at, counts in drawn:
        # A bucket as wide as a coarse timeline's may reach over the border of a row.
        inside = [
            ms for ms, _ in events if at - timeline.width_ms < ms < at + width + timeline.width_ms
        ]
        assert counts.total() <= len(inside)


def test_a_short_timeline_is_exact() -> None:
    timeline = Timeline()
    for ms in (0, 999, 1000, 5000):
        timeline.add(ms, "INFO")
    width, drawn = timeline.rows(10)
    assert width == 1000
    assert [at for at, _ in drawn] == [0, 1000, 2000, 3000, 4000, 5000]
    assert [counts.total() for _, counts in drawn] == [2, 1, 0, 0, 0, 1]


def test_steps_are_round() -> None:
    assert [nice_step_ms(ms) // 1000 for ms in (1, 1001, 59_000, 61_000, 4_000_000)] == [
        1, 2, 60, 120, 7200,
    ]  # fmt: skip
    assert nice_step_ms(10**15) >= 10**15


def test_bounded_counts_keep_what_is_frequent_and_say_that_they_are_not_exact() -> None:
    counts: Bounded[int] = Bounded(100)
    for n in range(1000):
        counts.add(n)
        counts.add(-1)
    assert len(counts.counts) <= 101
    assert counts.top(1) == [(-1, 1000)]
    assert not counts.exact


def test_the_census_of_a_few_events() -> None:
    census = Census()
    for each in (
        event(10_000, b"INFO", b"a"),
        event(10_999, b"INFO", b"a", b"b"),
        event(12_000, None),
        event(None, b"WARN", b"b"),
    ):
        census.add(each)
    assert (census.events, census.timed, census.keyless) == (4, 3, 1)
    assert census.peak() == (10, 2)
    assert census.span_s == 2.0
    assert census.mean_per_second == 1.0
    assert census.keys.top(2) == [(b"a", 2), (b"b", 2)]
    assert list(census.level_shares()) == [("INFO", 2, 50.0), ("-", 1, 25.0), ("WARN", 1, 25.0)]
    assert sum(row[1] for row in census.patterns.values()) == 4


def test_the_census_of_nothing() -> None:
    census = Census()
    assert census.peak() is None
    assert census.span_s == census.mean_per_second == 0


def test_pieces_counted_in_several_processes_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "app.log"
    trace = b"2024-05-01 12:00:%02d,0 ERROR a.B: bad %d\n\tat blk_%d\nCaused by: x\n\nodd\n"
    log.write_bytes(b"".join(trace % (n % 60, n, n % 7) for n in range(300)))
    packed = tmp_path / "more.log.gz"
    packed.write_bytes(gzip.compress(b"".join(generate("hdfs", 300, 1))))
    paths = [str(log), str(packed), str(tmp_path / "nope.log")]
    monkeypatch.setattr(counting, "PARALLEL_BYTES", 1)
    monkeypatch.setattr(counting, "processors", lambda: 2)
    whole_said: list[str] = []
    whole = count_logs(paths, Reading(), whole_said.append, 1)
    for size in (700, 4096):
        monkeypatch.setattr(counting, "PIECE_BYTES", size)
        said: list[str] = []
        shared = count_logs(paths, Reading(), said.append, 2)
        assert shared == whole
        assert said == whole_said
    assert whole.lines == 300 * 5 + 300
    assert whole.unparsed == 300
    assert whole.census.events == 600
    assert len(whole_said) == 1
