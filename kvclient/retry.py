"""How long to wait before trying again: longer each time, bounded, never all at once.

Pure: it only counts and draws; the caller waits. One Backoff serves one attempt to get something
done and is over when its budget is spent.
"""

from __future__ import annotations

import random
from typing import Final

__all__ = ["Backoff"]

FIRST_S: Final = 0.02
LONGEST_S: Final = 2.0


class Backoff:
    """Delays that double from FIRST_S to LONGEST_S until ``budget_s`` of time has passed."""

    def __init__(
        self, budget_s: float, started_s: float, draw: random.Random | None = None
    ) -> None:
        self._ends_s = started_s + budget_s
        self._next_s = FIRST_S
        self._draw = draw or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self.tries = 0

    def delay_s(self, now_s: float) -> float | None:
        """Return how long to wait before the next try, or None when the budget is spent."""
        left = self._ends_s - now_s
        if left <= 0:
            return None
        self.tries += 1
        delay = self._next_s * self._draw.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, LONGEST_S)
        return min(delay, left)
