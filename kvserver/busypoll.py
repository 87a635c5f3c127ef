"""Whether to look for the next request before sleeping, learned from whether that pays.

A client that asks, waits and asks again lets the server sleep between its requests, and to put a
core to sleep and wake it costs more than to serve a request: on a virtual machine 30 µs of
processor time and as much of waiting. So after a turn the server looks again and again for a
moment, as long as most of these looks find something (halt polling in KVM goes by the same rule),
and as long as nobody else wants the core: who looks instead of sleeping loses its place in the
queue to those who work.

Guarantees:

* A wait costs at most ``look_us`` more than sleeping at once would. Looking ends as soon as more
  than one look in five finds nothing, or one was interrupted by somebody else's work; the rest
  until it is tried again grows from `REST_WAITS` to `MOST_REST_WAITS` waits while it fails.
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
MOST_REST_WAITS: Final = 2048
GOOD_HITS: Final = 1024
"""After so many hits, looking has proved itself: the next rest is the shortest again."""
INTERRUPTED_NS: Final = 300_000
"""A look that takes so much longer than it should was not the only work of its core."""


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
        self._good_from = GOOD_HITS
        self._rest = self._next_rest = REST_WAITS
        self.hits = 0
        """Looks that found something, the first one of each wait not counted."""
        self.misses = 0
        """Waits that looked for nothing."""
        self.interrupted = 0
        """Looks during which somebody else had the core."""

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
                    self._credit = 1
                    self._good_from = self.hits + GOOD_HITS
            return poll(timeout_s)
        ready = poll(0)
        if ready:
            return ready
        clock_ns = self._clock_ns
        until = clock_ns() + self._look_ns
        while not ready and clock_ns() < until:
            ready = poll(0)
        if ready:
            self.hits += 1
            if self._credit < MOST_CREDIT:
                self._credit += 1
        else:
            self.misses += 1
            self._credit -= MISS_COSTS
        if clock_ns() > until + INTERRUPTED_NS:
            self.interrupted += 1
            self._credit = 0
        if self._credit <= 0:
            self._begin_rest()
        return ready or poll(timeout_s)

    def _begin_rest(self) -> None:
        if self.hits > self._good_from:
            self._next_rest = REST_WAITS
        self._rest = self._next_rest
        self._next_rest = min(2 * self._next_rest, MOST_REST_WAITS)

    def statistics(self) -> dict[str, int]:
        """What STATS shows."""
        return {
            "busy_poll_hits": self.hits,
            "busy_poll_misses": self.misses,
            "busy_poll_interrupted": self.interrupted,
        }
