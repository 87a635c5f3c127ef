"""Whether to look for the next request before sleeping, learned from whether that pays.

A client that asks, waits and asks again lets the server sleep between its requests, and to put a
core to sleep and wake it costs more than to serve a request: on a virtual machine 30 µs of
processor time and as much of waiting. So after a turn the server looks again and again for a
moment, as long as most of these looks find something; the rule is that of the halt polling of KVM.

Guarantees:

* A wait costs at most ``look_us`` more than sleeping at once would, and as soon as one look in
  five finds nothing, only one wait in ``REST_WAITS`` costs that.
* Other threads run meanwhile: each look gives the interpreter's lock away.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

__all__ = ["BusyPolling"]

Ready = list[tuple[int, int]]

MOST_CREDIT: Final = 16
MISS_COSTS: Final = 4
"""Hits that a miss undoes: below four of five, sleeping at once is cheaper."""
REST_WAITS: Final = 256
"""Waits between two trials while looking does not pay."""


class BusyPolling:
    """Waits for sockets: looks first while that pays, then sleeps."""

    def __init__(
        self,
        poll: Callable[[float], Ready],
        look_us: int,
        clock_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self._poll = poll
        self._look_ns = look_us * 1000
        self._clock_ns = clock_ns
        self._credit = MISS_COSTS if look_us else 0
        self._rest = REST_WAITS
        self.hits = 0
        """Looks that found something, the first one of each wait not counted."""
        self.misses = 0
        """Waits that looked for nothing."""

    @property
    def looking(self) -> bool:
        """Whether the next wait looks before it sleeps."""
        return self._credit > 0

    def wait(self, timeout_s: float) -> Ready:
        """Return what is ready, after a sleep of at most ``timeout_s``; nothing when nothing is."""
        poll = self._poll
        if self._credit <= 0:
            if self._look_ns:
                self._rest -= 1
                if self._rest <= 0:
                    self._credit, self._rest = 1, REST_WAITS
            return poll(timeout_s)
        ready = poll(0)
        if ready:
            return ready
        clock_ns = self._clock_ns
        until = clock_ns() + self._look_ns
        while clock_ns() < until:
            ready = poll(0)
            if ready:
                self.hits += 1
                if self._credit < MOST_CREDIT:
                    self._credit += 1
                return ready
        self.misses += 1
        self._credit -= MISS_COSTS
        return poll(timeout_s)

    def statistics(self) -> dict[str, int]:
        """What STATS shows."""
        return {"busy_poll_hits": self.hits, "busy_poll_misses": self.misses}
