"""Spikes of latency, drawn as Redis draws them."""

from __future__ import annotations

import pytest

from kvserver.latency import graph

RULE = "-" * 80


def test_bars_stand_on_the_quickest_sample() -> None:
    samples = [(1, 10), (2, 50), (3, 3), (4, 120), (5, 80)]
    assert graph("command", samples, 120, now_s=6).split("\n") == [
        "command - high 120 ms, low 3 ms (all time high 120 ms)",
        RULE,
        "   # ",
        "   |o",
        " o ||",
        "_|_||",
        "     ",
        "54321",
        "sssss",
        "",
    ]


def test_bars_of_one_height_are_flat() -> None:
    assert graph("fork", [(1, 7), (2, 7)], 9, now_s=12).split("\n") == [
        "fork - high 7 ms, low 7 ms (all time high 9 ms)",
        RULE,
        *["  "] * 3,
        "__",
        "  ",
        "11",
        "10",
        "ss",
        "",
    ]


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(-1, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (864_000, "10d")],
)
def test_an_age_is_told_in_the_largest_unit_that_fits(seconds: int, age: str) -> None:
    drawn = graph("command", [(1_000_000, 5)], 5, now_s=1_000_000 + seconds)
    assert "".join(drawn.split("\n")[-len(age) - 1 :]) == age


def test_many_samples_are_drawn_in_several_parts() -> None:
    drawn = graph("command", [(n, n) for n in range(100)], 99, now_s=100).split("\n")
    assert [len(line) for line in drawn[2:]] == [80] * 8 + [0] + [20] * 8 + [0]
