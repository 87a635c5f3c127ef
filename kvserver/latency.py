"""Spikes of latency worth remembering: the last ones of each kind of event (LATENCY).

Off while the threshold is 0. At most one sample a second and kind is kept, the worst.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

__all__ = ["LatencyLog"]

KEPT_SAMPLES: Final = 160


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
