"""How often and how long: counts and latencies of commands, at a cost that speed allows.

Quick commands are counted by the batch, and one batch a turn is timed; slow ones are timed one by
one. Latencies are kept in buckets of powers of two of nanoseconds, half a step apart.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from kvserver.latency import LatencyLog
from kvserver.monitors import redacted

if TYPE_CHECKING:
    from kvserver.commands.table import Command
    from kvserver.session import Session

__all__ = ["Histogram", "SlowEntry", "Stats"]

_BUCKETS: Final = 128
_MOST_SLOW_ENTRIES: Final = 1_000_000
_SPELLINGS: Final = 1000
_MAX_KIND_CHARS: Final = 32


class Histogram:
    """Durations in buckets that grow by the square root of two."""

    __slots__ = ("buckets", "count", "total_ns")

    def __init__(self) -> None:
        self.buckets = [0] * _BUCKETS
        self.count = 0
        self.total_ns = 0

    def add(self, ns: int, n: int = 1) -> None:
        """Count ``n`` durations of ``ns`` each."""
        bits = ns.bit_length()
        half = (ns >> (bits - 2)) & 1 if bits > 1 else 0
        self.buckets[min(2 * bits + half, _BUCKETS - 1)] += n
        self.count += n
        self.total_ns += ns * n

    def percentile_us(self, percent: float) -> float:
        """Return an upper bound of the given percentile, in microseconds."""
        rank = self.count * percent / 100
        seen = 0
        for index, n in enumerate(self.buckets):
            seen += n
            if n and seen >= rank:
                bits, half = divmod(index, 2)
                return float(1 << bits if half else (1 << bits) * 3 // 4) / 1000
        return 0.0

    @property
    def mean_us(self) -> float:
        """The mean, in microseconds."""
        return self.total_ns / self.count / 1000 if self.count else 0.0


class SlowEntry:
    """One command that took long."""

    __slots__ = ("address", "args", "duration_us", "id", "name", "when")

    def __init__(self, id_: int, session: Session, args: list[bytes], duration_us: int) -> None:
        self.id = id_
        self.when = int(time.time())
        self.duration_us = duration_us
        self.args = _shortened(args)
        self.address = session.address
        self.name = session.name


def _shortened(args: list[bytes]) -> list[bytes]:
    """As Redis: 32 arguments of 128 bytes, then how much more there was."""
    shown = [
        arg if len(arg) <= 128 else arg[:128] + b"... (%d more bytes)" % (len(arg) - 128)
        for arg in (args if len(args) <= 32 else args[:31])
    ]
    if len(args) > 32:
        shown.append(b"... (%d more arguments)" % (len(args) - 31))
    return shown


class Stats:
    """Counters of the whole server."""

    def __init__(self) -> None:
        self.started = time.time()
        self.run_id = secrets.token_hex(20)
        self.commands_per_s = 0
        self._commands_before = (time.monotonic(), 0)
        self.started_monotonic = time.monotonic()
        self.calls: dict[bytes, int] = {}
        """Name as sent -> calls; ``by_command`` adds the spellings up."""
        self.latency: dict[str, Histogram] = {}
        self.slowlog: deque[SlowEntry] = deque(maxlen=128)
        self.slowlog_slower_than_us = 10_000
        self._slow_ids = 0
        self.spikes = LatencyLog()
        self.auth_failures = 0
        self.connections = 0
        self.rejected_connections = 0
        self.net_in_bytes = 0
        self.net_out_bytes = 0
        self.internal_errors = 0
        self.protocol_errors = 0
        self.output_limit_closed = 0
        self.query_limit_closed = 0
        self.evicted = 0
        self.rejected_calls: Counter[str] = Counter()
        """Command -> calls that were not let through to its handler."""
        self.failed_calls: Counter[str] = Counter()
        """Command -> calls that ended in an error."""
        self.errors: Counter[str] = Counter()
        """First word of an error -> how often it was the reply."""
        self.peak_clients = 0
        self.turns = 0

    def count_error(self, text: str) -> None:
        """Note an error that a client is told."""
        kind, space, _ = text[:_MAX_KIND_CHARS].partition(" ")
        self.errors[kind if space else "ERR"] += 1

    @property
    def error_replies(self) -> int:
        """Errors that clients were told."""
        return self.errors.total()

    def sampled(self, name: str, ns: int, n: int) -> None:
        """Note that ``n`` calls of a quick command took ``ns`` each."""
        histogram = self.latency.get(name)
        if histogram is None:
            histogram = self.latency[name] = Histogram()
        histogram.add(ns, n)

    def timed(self, session: Session, command: Command, args: list[bytes], ns: int) -> None:
        """Note how long one call took; what was slow goes to SLOWLOG."""
        self.sampled(command.name, ns, 1)
        if self.spikes.threshold_ms:
            self.spikes.add("command", ns // 1_000_000)
        limit = self.slowlog_slower_than_us
        if ns >= limit * 1000 and limit >= 0 and "skip_slowlog" not in command.flags:
            shown = redacted(command, args)
            self.slowlog.appendleft(SlowEntry(self._slow_ids, session, shown, ns // 1000))
            self._slow_ids += 1

    def keep_slow(self, entries: int) -> None:
        """Remember so many slow commands from now on."""
        self.slowlog = deque(self.slowlog, maxlen=min(entries, _MOST_SLOW_ENTRIES))

    def reset(self) -> None:
        """Set the counters back to zero; what is remembered (SLOWLOG, spikes) stays."""
        self.calls.clear()
        self.latency.clear()
        self.rejected_calls.clear()
        self.failed_calls.clear()
        self.errors.clear()
        for name in (
            "connections",
            "rejected_connections",
            "net_in_bytes",
            "net_out_bytes",
            "internal_errors",
            "protocol_errors",
            "output_limit_closed",
            "query_limit_closed",
            "evicted",
            "auth_failures",
            "turns",
        ):
            setattr(self, name, 0)

    def by_command(self, known: Any) -> dict[str, int]:
        """Return calls by name of a command; ``known`` says which names are commands."""
        summed: dict[str, int] = {}
        for spelling, n in self.calls.items():
            name = spelling.decode("ascii", "replace").lower()
            if name in known:
                summed[name] = summed.get(name, 0) + n
        return summed

    def look_at_rate(self) -> None:
        """Work out commands a second; called ten times a second, looks every second."""
        then_s, before = self._commands_before
        now_s = time.monotonic()
        if now_s - then_s >= 1:
            commands = self.commands
            self.commands_per_s = max(0, int((commands - before) / (now_s - then_s)))
            self._commands_before = (now_s, commands)

    def forget_unknown(self, known: Any) -> None:
        """Count spellings that are no command as one, so that garbage does not pile up."""
        if len(self.calls) > _SPELLINGS:
            for name in [name for name in self.calls if name not in known]:
                self.calls[b""] = self.calls.get(b"", 0) + self.calls.pop(name)

    @property
    def commands(self) -> int:
        """Commands processed so far."""
        return sum(self.calls.values())
