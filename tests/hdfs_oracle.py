"""What an HDFS log says, worked out line by line in plain Python.

Written apart from the parser: its own expressions, its own calendar, its own merging. Only the rule
that makes a pattern of a message is shared, and that has tests of its own.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, field
from typing import Any

from parser.patterns import mask, pattern_id

LINE = re.compile(rb"(\d\d)(\d\d)(\d\d) (\d\d)(\d\d)(\d\d) (\d+) (\w+) ([^:]*): (.*)", re.DOTALL)
BLOCK = re.compile(rb"blk_(-?\d+)")


@dataclass
class Oracle:
    """All summaries as ``GET`` shows them, and the books."""

    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    books: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("lines", "matched", "unparsed", "skipped"), 0)
    )

    def merge(self, other: Oracle) -> None:
        for name, n in other.books.items():
            self.books[name] += n
        for key, theirs in other.summaries.items():
            ours = self.summaries.setdefault(
                key, {"count": 0, "levels": {}, "events": {}, "first": None, "last": None}
            )
            ours["count"] += theirs["count"]
            for part in ("levels", "events"):
                for name, n in theirs[part].items():
                    ours[part][name] = ours[part].get(name, 0) + n
            firsts = [x for x in (ours["first"], theirs["first"]) if x is not None]
            lasts = [x for x in (ours["last"], theirs["last"]) if x is not None]
            ours["first"], ours["last"] = min(firsts), max(lasts)


def read(data: bytes, source: int = 0) -> Oracle:
    """Read a whole log."""
    oracle = Oracle()
    offset = 0
    for line in data.splitlines(keepends=True) if b"\r" not in data else _lines(data):
        _read_line(oracle, line.rstrip(b"\r\n"), source, offset)
        offset += len(line)
    return oracle


def _lines(data: bytes) -> list[bytes]:
    parts = data.split(b"\n")
    lines = [part + b"\n" for part in parts[:-1]]
    return lines + ([parts[-1]] if parts[-1] else [])


def _read_line(oracle: Oracle, line: bytes, source: int, offset: int) -> None:
    oracle.books["lines"] += 1
    found = LINE.fullmatch(line)
    if found is None:
        oracle.books["skipped" if not line.strip() else "unparsed"] += 1
        return
    year, month, day, hour, minute, second = (int(found[n]) for n in range(1, 7))
    moment = calendar.timegm((2000 + year, month, day, hour, minute, second)) * 1000
    level, content = found[8].decode(), found[10]
    blocks = dict.fromkeys(BLOCK.findall(content))
    oracle.books["matched" if blocks else "skipped"] += 1
    event = f"{pattern_id(mask(content)):016x}"
    place = (moment, source, offset)
    for block in blocks:
        key = f"block_{block.decode()}"
        summary = oracle.summaries.setdefault(
            key, {"count": 0, "levels": {}, "events": {}, "first": place, "last": place}
        )
        summary["count"] += 1
        summary["levels"][level] = summary["levels"].get(level, 0) + 1
        summary["events"][event] = summary["events"].get(event, 0) + 1
        summary["first"] = min(summary["first"], place)
        summary["last"] = max(summary["last"], place)


def plain(summary: Any) -> dict[str, Any]:
    """Return a ``parser.summary.Summary`` in the form of the oracle."""
    return {
        "count": summary.count,
        "levels": dict(summary.levels),
        "events": {f"{event:016x}": n for event, n in summary.events.items()},
        "first": summary.first,
        "last": summary.last,
    }
