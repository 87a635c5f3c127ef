"""Peers that group a log by block, and what that took: starting mawk counts, imports do not.

DuckDB, Polars and mawk do count, first, last and levels of each HDFS block, with all processors
where they can. Drain3 matches templates.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DUCKDB = """
SELECT block, count(*) AS n, min(line[1:13]) AS first, max(line[1:13]) AS last,
       count(*) FILTER (split_part(line, ' ', 4) = 'INFO') AS info,
       count(*) FILTER (split_part(line, ' ', 4) = 'WARN') AS warn,
       count(*) FILTER (split_part(line, ' ', 4) = 'ERROR') AS error
FROM (SELECT line, {block} AS block
      FROM read_csv('{log}', header = false, delim = '\x01', quote = '', escape = '',
                    columns = {{'line': 'VARCHAR'}}, auto_detect = false)
      WHERE line LIKE '%blk_%')
GROUP BY ALL
"""

_MAWK = r"""
match($0, /blk_-?[0-9]+/) {
    b = substr($0, RSTART, RLENGTH); t = $1 " " $2
    n[b]++; if (!(b in f) || t < f[b]) f[b] = t; if (t > l[b]) l[b] = t; v[b, $4]++
}
END { c = 0; for (b in n) c++; print c }
"""
"""Count, first, last and levels of each HDFS block; prints how many blocks there are."""


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and of processors."""

    seconds: float
    cpu_s: float


@contextmanager
def timing() -> Iterator[list[Took]]:
    taken: list[Took] = []
    before, began = os.times(), time.perf_counter()
    yield taken
    after = os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    taken.append(Took(time.perf_counter() - began, cpu))


def duckdb_rows(log: Path, *, exact: bool) -> tuple[Took, list[Any]]:
    """Group by block; ``exact`` takes every block of a line, else the first, which is faster."""
    import duckdb

    block = "regexp_extract(line, 'blk_-?[0-9]+')"
    if exact:
        block = "unnest(list_distinct(regexp_extract_all(line, 'blk_-?[0-9]+')))"
    connection = duckdb.connect()
    connection.execute(f"SET threads = {len(os.sched_getaffinity(0))}")
    with timing() as taken:
        rows = connection.execute(_DUCKDB.format(block=block, log=log)).fetchall()
    return taken[0], rows


def polars_took(log: Path) -> Took:
    import polars as pl

    line = pl.col("line")
    level = line.str.extract(r"^\S+ \S+ \S+ (\S+) ", 1)
    with timing() as taken:
        (
            pl.scan_csv(
                log, has_header=False, separator="\x01", quote_char=None, new_columns=["line"]
            )
            .with_columns(line.str.extract(r"(blk_-?[0-9]+)", 1).alias("block"))
            .filter(pl.col("block").is_not_null())
            .group_by("block")
            .agg(
                pl.len(),
                line.str.slice(0, 13).min().alias("first"),
                line.str.slice(0, 13).max().alias("last"),
                (level == "INFO").sum().alias("info"),
                (level == "WARN").sum().alias("warn"),
                (level == "ERROR").sum().alias("error"),
            )
            .collect()
        )
    return taken[0]


def mawk_took(log: Path) -> Took:
    with timing() as taken:
        subprocess.run(["mawk", _MAWK, str(log)], check=True, capture_output=True)
    return taken[0]


def drain3_took(log: Path, count: int) -> Took:
    """Match the messages of the first lines, as its README shows."""
    from drain3 import TemplateMiner
    from drain3.template_miner_config import TemplateMinerConfig

    miner = TemplateMiner(config=TemplateMinerConfig())
    with log.open(encoding="utf-8") as file:
        lines = [next(file).rstrip("\n").split(": ", 1)[1] for _ in range(count)]
    with timing() as taken:
        for line in lines:
            miner.add_log_message(line)
    return taken[0]


def median(runs: list[Took]) -> Took:
    return sorted(runs, key=lambda took: took.seconds)[len(runs) // 2]
