"""How well a grouping of lines agrees with the true one. Used by the benchmark and by a test."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple


class Scores(NamedTuple):
    """All from 0 to 1, more is better."""

    grouping_accuracy: float
    """Share of lines whose group equals, as a set of lines, a true group."""
    pair_f1: float
    """F1 over all pairs of lines that are in one group."""
    group_f1: float
    """F1 over groups: those that equal a true one, of those found and of those true."""


def score(found: Sequence[Hashable], true: Sequence[Hashable]) -> Scores:
    """Compare two groupings of the same lines; each gives a group's name for each line."""
    both = Counter(zip(found, true, strict=True))
    in_found, in_true = Counter(found), Counter(true)
    right = [n for (a, b), n in both.items() if n == in_found[a] == in_true[b]]
    pairs = _pairs(in_found) + _pairs(in_true)
    return Scores(
        sum(right) / len(found),
        2 * _pairs(both) / pairs if pairs else 1.0,
        2 * len(right) / (len(in_found) + len(in_true)),
    )


def _pairs(counts: Counter[Hashable] | Counter[tuple[Hashable, Hashable]]) -> int:
    return sum(n * (n - 1) // 2 for n in counts.values())


def labelled(directory: Path) -> dict[str, tuple[list[bytes], list[str]]]:
    """Read Loghub's 2k sets below a directory: name -> messages, true event of each."""
    found = {}
    for path in sorted(directory.glob("*/*_2k.log_structured.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found[path.parent.name] = (
            [row["Content"].encode() for row in rows],
            [row["EventId"] for row in rows],
        )
    return found
