"""Spikes of latency worth remembering: the last ones of each kind of event (LATENCY).

Off while the threshold is 0. At most one sample a second and kind is kept, the worst.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

__all__ = ["LatencyLog", "graph"]

KEPT_SAMPLES: Final = 160
_COLUMNS: Final = 80
_ROWS: Final = 4
_TOPS: Final = "_o#"
"""How full the highest row of a bar is; the rows below it are bars."""
_AGES: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class LatencyLog:
    """Event -> when it took how many milliseconds."""

    def __init__(self) -> None:
        self.threshold_ms = 0
        self.samples: dict[str, deque[tuple[int, int]]] = {}
        self.worst_ms: dict[str, int] = {}

    def add(self, event: str, ms: int) -> None:
        """Note an event that took so long, if that is long."""
        if not self.threshold_ms or ms < self.threshold_ms:
            return
        now_s = int(time.time())
        kept = self.samples.setdefault(event, deque(maxlen=KEPT_SAMPLES))
        if kept and kept[-1][0] == now_s:
            kept[-1] = (now_s, max(ms, kept[-1][1]))
        else:
            kept.append((now_s, ms))
        self.worst_ms[event] = max(ms, self.worst_ms.get(event, 0))

    def forget(self, events: list[str] | None = None) -> int:
        """Drop the samples of some events, or of all; return how many events had any."""
        gone = [name for name in (events or list(self.samples)) if name in self.samples]
        for name in gone:
            del self.samples[name]
            del self.worst_ms[name]
        return len(gone)


def graph(event: str, samples: Sequence[tuple[int, int]], worst_ms: int, now_s: int) -> str:
    """Draw samples, (epoch seconds, milliseconds) each, as bars with their ages, as Redis does.

    The lowest bar is that of the quickest sample, not of zero.
    """
    took = [ms for _, ms in samples]
    low_ms, high_ms = min(took), max(took)
    lines = [
        f"{event} - high {high_ms} ms, low {low_ms} ms (all time high {worst_ms} ms)",
        "-" * _COLUMNS,
    ]
    bars = [
        _bar(ms - low_ms, high_ms - low_ms) + " " + _age(max(0, now_s - when))
        for when, ms in samples
    ]
    for start in range(0, len(bars), _COLUMNS):
        if start:
            lines.append("")
        rows = zip_longest(*bars[start : start + _COLUMNS], fillvalue=" ")
        lines += map("".join, rows)
    return "\n".join(lines) + "\n"


def _bar(height: int, highest: int) -> str:
    """Return the rows of one bar, the upper one first."""
    steps = _ROWS * len(_TOPS)
    step = min(steps * height // highest, steps - 1) if highest else 0
    rows = ""
    for row in reversed(range(_ROWS)):
        above = step - row * len(_TOPS)
        rows += " " if above < 0 else _TOPS[above] if above < len(_TOPS) else "|"
    return rows


def _age(seconds: int) -> str:
    size, unit = next((each for each in _AGES if seconds >= each[0]), _AGES[-1])
    return f"{seconds // size}{unit}"
