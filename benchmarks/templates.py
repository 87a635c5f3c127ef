"""Accuracy of templates on labelled logs, against Drain3 with its defaults in the same run.

    python benchmarks/templates.py [--write]

Reads Loghub's 2k sets from ``$KVSTORE_TEST_DATA/loghub``. One setting for all sets. The sets listed
are those the rules were developed on, so the figures say how well the rules fit, not how well they
do on a log nobody has seen; two stress variants tell more of that: windows of 500 lines, and the
same logs with every digit turned into a letter, so that no value can be told by its digits.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs as a file, too

from benchmarks.scores import Scores, labelled, score
from parser.patterns import mask, pattern_id
from parser.templates import templates

ROOT = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("KVSTORE_TEST_DATA", ROOT.parent / "shared" / "data"))
NO_DIGITS = bytes.maketrans(b"0123456789", b"kqzjxvwypu")


def ours(messages: Sequence[bytes]) -> list[str]:
    catalogue: dict[int, tuple[bytes, int, None, None, bytes]] = {}
    ids = []
    for message in messages:
        masked = mask(message)
        ids.append(pattern_id(masked))
        catalogue.setdefault(ids[-1], (masked, 1, None, None, message))
    found = templates(catalogue)
    named = {key: one.id for one in found for key in one.patterns}
    return [named[key] for key in ids]


def drain3(messages: Sequence[bytes]) -> list[int]:
    from drain3 import TemplateMiner
    from drain3.template_miner_config import TemplateMinerConfig

    logging.disable(logging.WARNING)
    miner = TemplateMiner(config=TemplateMinerConfig())
    return [
        miner.add_log_message(message.decode("utf-8", "replace"))["cluster_id"]
        for message in messages
    ]


def mean(scores: Sequence[Scores]) -> Scores:
    return Scores(*(statistics.fmean(column) for column in zip(*scores, strict=True)))


def row(name: str, a: Scores, b: Scores | None) -> str:
    cells = [*a, *(b or ())]
    return f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |"


def variant(
    sets: dict[str, tuple[list[bytes], list[str]]],
    change: Callable[[bytes], bytes],
    window: int,
) -> Scores:
    scores = []
    for messages, true in sets.values():
        for start in range(0, len(messages), window):
            lines = [change(message) for message in messages[start : start + window]]
            scores.append(score(ours(lines), true[start : start + window]))
    return mean(scores)


def seconds_for(n: int, sets: dict[str, tuple[list[bytes], list[str]]]) -> tuple[int, float]:
    """Time templates of up to n patterns: the logs as they are, and twice without digits."""
    catalogue: dict[int, tuple[bytes, int, None, None, bytes]] = {}
    tables = (None, NO_DIGITS, bytes.maketrans(b"01234567", b"ABCDEFGH"))
    for table in tables:
        for messages, _ in sets.values():
            for message in messages:
                masked = mask(message if table is None else message.translate(table))
                if len(catalogue) < n:
                    catalogue.setdefault(pattern_id(masked), (masked, 1, None, None, message))
    took = []
    for _ in range(3):
        start = time.perf_counter()
        templates(catalogue)
        took.append(time.perf_counter() - start)
    return len(catalogue), statistics.median(took)


def report() -> str | None:
    sets = labelled(DATA_DIR / "loghub")
    if not sets:
        return None
    lines = [
        "# Templates",
        "",
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}.",
        "GA: grouping accuracy; F1: over pairs of lines; FGA: F1 over groups.",
        "One setting for all sets. The rules were developed on these sets.",
        "",
        "| set | GA | F1 | FGA | Drain3 GA | F1 | FGA |",
        "|---|---|---|---|---|---|---|",
    ]
    mine, theirs = [], []
    for name, (messages, true) in sets.items():
        mine.append(score(ours(messages), true))
        theirs.append(score(drain3(messages), true))
        lines.append(row(name, mine[-1], theirs[-1]))
    lines.append(row("**mean**", mean(mine), mean(theirs)))
    lines += ["", "| variant | GA | F1 | FGA |", "|---|---|---|---|"]
    lines.append(row("windows of 500 lines", variant(sets, lambda line: line, 500), None))
    lines.append(
        row("digits turned to letters", variant(sets, lambda x: x.translate(NO_DIGITS), 2000), None)
    )
    n, took = seconds_for(10_000, sets)
    lines += ["", f"Templates of {n:,} patterns: {took:.2f} s (median of 3).", ""]
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="also write results/templates.md")
    chosen = options.parse_args()
    text = report()
    if text is None:
        print(f"SKIPPED: no labelled logs in {DATA_DIR / 'loghub'} (set KVSTORE_TEST_DATA)")
        return 0
    print(text)
    if chosen.write:
        (ROOT / "benchmarks" / "results" / "templates.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
