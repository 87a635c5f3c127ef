"""Whether to try again, and after how long: delays that grow, bounded, never all clients at once.

Pure: it decides and counts; the caller waits. A Retry serves one exchange with the server.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from kvclient.errors import ConnectionFailed, ConnectionLost, KvError, ServerLoading, TimedOut
from kvclient.protocol import Reply

__all__ = ["Backoff", "Retry"]

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


class Retry:
    """The rules for one exchange; ``repeatable`` says that sending it twice does no harm."""

    def __init__(self, budget_s: float, started_s: float, *, repeatable: bool) -> None:
        self._backoff = Backoff(budget_s, started_s)
        self._repeatable = repeatable
        self._renewed = False

    def delay_s(
        self, now_s: float, failure: KvError | None, replies: Sequence[Reply], *, stale: bool
    ) -> float | None:
        """Return how long to wait before trying again, None to accept what has happened.

        ``stale`` tells that the connection was made before this exchange, so that its loss may
        only mean that the server was restarted since; that costs no budget, once.
        """
        if failure is None:
            loading = [isinstance(reply, ServerLoading) for reply in replies]
            again = any(loading) if self._repeatable else bool(loading) and all(loading)
            return self._backoff.delay_s(now_s) if again else None
        if isinstance(failure, ConnectionLost | TimedOut):
            if not self._repeatable:
                return None
            if stale and not self._renewed and isinstance(failure, ConnectionLost):
                self._renewed = True
                return 0.0
            return self._backoff.delay_s(now_s)
        if isinstance(failure, ConnectionFailed | ServerLoading):
            return self._backoff.delay_s(now_s)
        return None
