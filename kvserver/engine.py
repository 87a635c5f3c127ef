"""Everything of a server but sockets and files: the keyspace, the sessions, the commands.

Its owner drives it in turns: ``begin_turn``, any number of commands on sessions, then the effects
of ``keyspace.effects`` go to the journal, and only then what sessions have in ``out`` is sent. In
tests, ``Engine().session().run([b"PING"])`` is a whole server.

Gates: something that must see every command before it runs (MONITOR, a memory limit, a journal
that takes no writes, a SLOWLOG of everything) closes a gate: ``engine.gate(name, check)``.
``check(session, command, args)`` may raise CommandError to refuse it. While any gate is closed all
commands take the long way, while none is they pay nothing. (Behind the gate of a memory limit
alone, runs of GETs and SETs still go quickly: they see to the limit themselves.) All take the
long way, too, while a long write is isolated (see ``isolation``); a gate that changes ends that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kvserver.commands import load_registry
from kvserver.config import Config
from kvserver.hub import Hub
from kvserver.isolation import Isolation
from kvserver.keyspace import Keyspace
from kvserver.memory import MemoryLimit
from kvserver.monitors import Monitors
from kvserver.session import Session
from kvserver.stats import Stats
from kvserver.tracking import Tracking
from kvserver.watches import Watches
from kvserver.ways import MEASURED

if TYPE_CHECKING:
    from kvserver.commands.table import Caller, Command
    from kvserver.index import SummaryIndex

__all__ = ["Engine", "Gate"]

Gate: TypeAlias = "Callable[[Session, Command, list[bytes]], None]"
StatsProvider: TypeAlias = Callable[[], dict[str, Any]]

log = logging.getLogger("kvserver")

_TIME_EACH_BELOW_US: Final = 1000


class Engine:
    """One server without its sockets."""

    def __init__(self, config: Config | None = None, keyspace: Keyspace | None = None) -> None:
        self.config = config or Config()
        if keyspace is None:  # an empty one is false
            keyspace = Keyspace(max_patterns=self.config.max_patterns)
        self.keyspace = keyspace
        self.registry = load_registry()
        self.stats = Stats()
        self.stats.spikes.threshold_ms = self.config.latency_threshold_ms
        self.sessions: dict[int, Session] = {}
        self.gates: dict[str, Gate] = {}
        self.quick_table: dict[bytes, Caller] | None = self.registry
        """The table of a session about which nothing is special, if it may go the quick way."""
        self.cron: list[Callable[[], None]] = []
        """Called about ten times a second, for small things."""
        self.suspended: dict[Session, None] = {}
        """Sessions with a command that runs in slices, in the order they take turns."""
        self.sleeping: dict[Session, float] = {}
        """Sessions whose command goes on at a moment of the monotonic clock."""
        self.cron.append(self.wake_sleepers)
        self.dirty: dict[Session, None] = {}
        """Sessions that got output, or are to be closed, outside a command of their own."""
        self.on_close: list[Callable[[Session], None]] = []
        """Called for each session that ends: subscriptions, watches."""
        self.stats_providers: dict[str, StatsProvider] = {}
        """Section -> figures that STATS and INFO show too."""
        self.isolation = Isolation(self)
        self.log_slow_commands()
        self.summary_index: SummaryIndex | None = None
        """The index of FIND; None until the first FIND asks for it."""
        self.publish: Callable[[bytes, bytes], int] = lambda _channel, _message: 0
        """Send a message to subscribers; how many got it. Publish/subscribe sets it."""
        self.hub = Hub(self)
        self.watches = Watches(self)
        self.tracking = Tracking(self)
        self.monitors = Monitors(self)
        self.memory = MemoryLimit(self)
        self._pause: tuple[float, bool] | None = None
        self.journal: Any = None
        """The open journal; None in tests, and while loading."""
        self.loading: str = ""
        """What to tell clients that come before everything is replayed; empty when it is."""
        self.nudge: Callable[[], None] = lambda: None
        """Let whoever advances suspended commands know that there is one; safe to call often."""
        self.shutdown_requested: Callable[[], None] | None = None
        """Ends the server; set by whoever can."""
        self.last_save_s = 0.0
        """When the last compaction or SAVE ended, epoch seconds; 0 for never."""
        self.start_compaction: Callable[[], str] | None = None
        """Starts a compaction and says so; set by whoever can."""

    def session(self, address: str = "", local_address: str = "") -> Session:
        """Open a session."""
        session = Session(self, address, local_address)
        self.sessions[session.id] = session
        self.stats.connections += 1
        self.stats.peak_clients = max(self.stats.peak_clients, len(self.sessions))
        return session

    def close(self, session: Session) -> None:
        """Forget a session whose client is gone; safe to call twice."""
        if self.sessions.pop(session.id, None) is None:
            return
        session.abandon()
        self.dirty.pop(session, None)
        for callback in self.on_close:
            callback(session)

    def gate(self, name: str, check: Gate | None) -> None:
        """Close the gate of that name (one check each), or open it with None."""
        self.isolation.finish()
        if check is None:
            self.gates.pop(name, None)
        else:
            self.gates[name] = check
        self.choose_table()

    def choose_table(self) -> None:
        """Choose the way commands take, after a gate or the isolation changed."""
        was = self.quick_table
        if self.isolation.active:
            self.quick_table = None
        elif not self.gates:
            self.quick_table = self.registry
        else:
            self.quick_table = MEASURED if self.gates.keys() == {"maxmemory"} else None
        if self.quick_table is not was:
            for session in self.sessions.values():
                session.retable()

    def log_slow_commands(self) -> None:
        """Follow the settings of SLOWLOG.

        What goes quickly takes less than a millisecond, and is timed by sample. A lower limit asks
        for the time of each command, so then nothing goes the quick way.
        """
        limit_us = self.config.slowlog_slower_than_us
        self.stats.slowlog_slower_than_us = limit_us
        self.stats.keep_slow(self.config.slowlog_max_len)
        each = 0 <= limit_us < _TIME_EACH_BELOW_US
        if each != ("slowlog" in self.gates):
            self.registry.time_each(each)
            self.gate("slowlog", (lambda _session, _command, _args: None) if each else None)

    def pause(self, seconds: float, *, writes_only: bool) -> None:
        """Hold commands back for so long (CLIENT PAUSE); a longer pause is never shortened."""
        until_s = time.monotonic() + seconds
        if self._pause is not None:
            until_s = max(until_s, self._pause[0])
            writes_only = writes_only and self._pause[1]
        self._pause = (until_s, writes_only)
        self.gate("pause", lambda _session, _command, _args: None)

    def unpause(self) -> None:
        """Hold nothing back any more."""
        self._pause = None
        self.gate("pause", None)

    def holds_back(self, command: Command) -> bool:
        """Whether this command has to wait; CLIENT itself never has to."""
        if self._pause is None:
            return False
        until_s, writes_only = self._pause
        if time.monotonic() >= until_s:
            self.unpause()
            return False
        if command.name.startswith("client|"):
            return False
        return not writes_only or "write" in command.flags or command.name in {"exec", "publish"}

    def sleep(self, session: Session, wake_at_s: float) -> None:
        """Let the suspended command of a session rest until then."""
        self.suspended.pop(session, None)
        self.sleeping[session] = wake_at_s

    def wake_sleepers(self) -> None:
        """Go on with the commands whose time has come."""
        now_s = time.monotonic()
        for session in [s for s, wake_at_s in self.sleeping.items() if wake_at_s <= now_s]:
            self.wake(session)

    def wake(self, session: Session) -> None:
        """Go on with the command of a session, if it rests."""
        if self.sleeping.pop(session, None) is not None:
            self.suspended[session] = None
            self.nudge()

    def internal_error(self, session: Session, error: BaseException) -> bytes:
        """Log and count what must not happen; return the reply for whoever met it."""
        self.stats.internal_errors += 1
        log.error("internal error, client %d", session.id, exc_info=error)
        return session.error("ERR internal error")
