"""What every synthetic log has: seconds that are more or less busy, and picking by weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Final, TypeAlias

__all__ = ["MONTHS", "START", "Seconds", "batches", "busyness", "weighted"]

START: Final = datetime(2008, 11, 9, 20, 35, 18, tzinfo=UTC)

MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
"""Said here because what strftime calls a month depends on the locale."""

Seconds: TypeAlias = Iterator[list[bytes]]
"""The lines of one second after the other, without their newlines, for ever."""


def busyness(random: Random) -> Iterator[float]:
    """How busy each second is, around 1: slow waves, and now and then a burst."""
    level, aim = 1.0, 1.0
    while True:
        if random.random() < 1 / 120:
            aim = 0.35 + 1.3 * random.random()
            if random.random() < 0.15:
                aim *= 2.5
        level += (aim - level) / 25
        yield level


def batches(random: Random, per_s: float) -> Iterator[tuple[datetime, int]]:
    """Yield one second after the other, and how many lines it has: ``per_s`` where it is calm."""
    ready = 0.0
    for second, load in enumerate(busyness(random)):
        ready += per_s * load
        batch = int(ready)
        ready -= batch
        yield START + timedelta(seconds=second), batch


def weighted(random: Random, weights: list[float]) -> Callable[[], int]:
    """Return a function that picks an index by weight, by one look into a table."""
    total = sum(weights)
    ends = [round(4096 * end / total) for end in accumulate(weights)]
    table: list[int] = []
    for index, end in enumerate(ends):
        table.extend([index] * (end - len(table)))
    draw = random.random

    def pick() -> int:
        return table[int(draw() * 4096)]

    return pick
