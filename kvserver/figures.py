"""What the server knows about itself, as numbers: for STATS as a map, for INFO as Redis writes it.

INFO keeps to the sections and the names of Redis 7, so that exporters made for Redis work; what
Redis does not have comes behind it, in sections of our own. Nothing here is called in the way of a
command; it costs what it costs when somebody asks.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kvserver.commands.connection import REDIS_VERSION
from kvserver.memory import resident_bytes

if TYPE_CHECKING:
    from kvserver.engine import Engine
    from kvserver.stats import Histogram

__all__ = ["SECTIONS", "info", "stats"]

_MOST_SOURCES: Final = 100
_PERCENTILES: Final = (50, 99, 99.9)
Figures = dict[str, Any]


def stats(engine: Engine) -> Figures:
    """Return everything STATS shows: plain names on top, maps below."""
    keyspace, counted = engine.keyspace, engine.stats
    figures: Figures = {
        "keys": len(keyspace),
        "keys_with_ttl": len(keyspace.deadlines),
        "hits": keyspace.hits,
        "misses": keyspace.misses,
        "expired": keyspace.expired,
        "expiry_lag_ms": keyspace.expiry_lag_ms,
        "expiry_lag_max_ms": keyspace.expiry_lag_max_ms,
        "evicted": counted.evicted,
        "commands": counted.commands,
        "clients": len(engine.sessions),
        "uptime_s": int(time.monotonic() - counted.started_monotonic),
        "memory_bytes": resident_bytes(),
        "ingests": keyspace.ingests,
        "merged": keyspace.merged,
        "damaged_summaries": keyspace.bad_summaries,
        "internal_errors": counted.internal_errors,
        "protocol_errors": counted.protocol_errors,
        "sources": len(keyspace.ledger),
        **keyspace.ledger.statistics(),
        **keyspace.catalogue.statistics(),
        **_of_modules(engine),
        "books": _books(engine),
        "source_books": _books_of_each(engine),
        "latency_us": {name: _percentiles(engine.stats.latency[name]) for name in _busy(engine)},
    }
    return figures


def _of_modules(engine: Engine) -> Figures:
    figures: Figures = {}
    for provider in engine.stats_providers.values():
        figures.update(provider())
    return figures


def _books(engine: Engine) -> dict[str, int]:
    """Books of all sources together."""
    total: dict[str, int] = {}
    for state in engine.keyspace.ledger.sources():
        for name, n in state.books.items():
            total[name] = total.get(name, 0) + n
    return total


def _books_of_each(engine: Engine) -> dict[str, dict[str, int]]:
    """Books of each source under its id, of the latest ones; SOURCES tells all."""
    states = list(engine.keyspace.ledger.sources())[-_MOST_SOURCES:]
    return {f"{state.id:016x}": dict(state.books) for state in states}


def _busy(engine: Engine) -> list[str]:
    calls = engine.stats.by_command(engine.registry.commands)
    return sorted(engine.stats.latency, key=lambda name: -calls.get(name, 0))[:50]


def _percentiles(histogram: Histogram) -> dict[str, float]:
    return {f"p{percent:g}": histogram.percentile_us(percent) for percent in _PERCENTILES}


# ----------------------------------------------------------------------------------------- INFO


def info(engine: Engine, wanted: list[str]) -> str:
    """Return the text of INFO for these sections, in small letters; none means the usual ones."""
    names = set(wanted) or {"default"}
    if names & {"all", "everything"}:
        names |= set(SECTIONS)
    if "default" in names:
        names |= set(SECTIONS) - _NOT_BY_DEFAULT
    parts = []
    for name, section in SECTIONS.items():
        if name in names:
            lines = "".join(f"{field}:{value}\r\n" for field, value in section(engine).items())
            parts.append(f"# {_TITLES.get(name, name.capitalize())}\r\n{lines}")
    return "\r\n".join(parts)


def _server(engine: Engine) -> Figures:
    uptime_s = int(time.monotonic() - engine.stats.started_monotonic)
    system = os.uname()
    return {
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": "0",
        "redis_mode": "standalone",
        "os": f"{system.sysname} {system.release} {system.machine}",
        "arch_bits": 64 if sys.maxsize > 2**32 else 32,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "epoll" if sys.platform == "linux" else "kqueue",
        "python_version": sys.version.split()[0],
        "process_id": os.getpid(),
        "process_supervised": "no",
        "run_id": engine.stats.run_id,
        "tcp_port": engine.config.port,
        "server_time_usec": time.time_ns() // 1000,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86400,
        "hz": 10,
        "configured_hz": 10,
        "executable": sys.executable,
        "config_file": "",
        "io_threads_active": 0,
    }


def _clients(engine: Engine) -> Figures:
    sessions = engine.sessions.values()
    return {
        "connected_clients": len(engine.sessions),
        "cluster_connections": 0,
        "maxclients": engine.config.max_clients,
        "client_recent_max_input_buffer": 0,
        "client_recent_max_output_buffer": 0,
        "blocked_clients": len(engine.suspended) + len(engine.sleeping),
        "tracking_clients": engine.tracking.clients,
        "pubsub_clients": sum(bool(session.subscribed) for session in sessions),
        "clients_in_timeout_table": 0,
    }


def _memory(engine: Engine) -> Figures:
    resident = resident_bytes()
    used = engine.memory.used_bytes()  # what maxmemory is about; without it, the same
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    limit = engine.config.maxmemory_bytes
    return {
        "used_memory": used,
        "used_memory_human": _human(used),
        "used_memory_rss": resident,
        "used_memory_rss_human": _human(resident),
        "used_memory_peak": max(peak, resident),
        "used_memory_peak_human": _human(max(peak, resident)),
        "total_system_memory": _system_memory(),
        "maxmemory": limit,
        "maxmemory_human": _human(limit),
        "maxmemory_policy": engine.config.maxmemory_policy,
        "mem_fragmentation_ratio": f"{resident / used:.2f}" if used else "1.00",
        "mem_allocator": "pymalloc",
        "active_defrag_running": 0,
        "lazyfree_pending_objects": engine.keyspace.garbage_entries,
    }


def _system_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _human(size: float) -> str:
    for unit in "BKMG":
        if size < 1024 or unit == "G":
            break
        size /= 1024
    return f"{size:.2f}{unit}" if unit != "B" else f"{int(size)}B"


def _persistence(engine: Engine) -> Figures:
    figures = _of_modules(engine)
    bad = figures.get("journal_status", "ok") != "ok"
    compacting = figures.get("compaction_running", 0)
    failed = bool(figures.get("compaction_last_error"))
    return {
        "loading": int(bool(engine.loading)),
        "async_loading": 0,
        "rdb_changes_since_last_save": 0,
        "rdb_bgsave_in_progress": 0,
        "rdb_last_save_time": int(engine.last_save_s or engine.stats.started),
        "rdb_last_bgsave_status": "ok",
        "aof_enabled": int(engine.journal is not None),
        "aof_rewrite_in_progress": compacting,
        "aof_rewrite_scheduled": 0,
        "aof_last_rewrite_time_sec": int(figures.get("compaction_last_duration_s", -1)),
        "aof_last_bgrewrite_status": "err" if failed else "ok",
        "aof_last_write_status": "err" if bad else "ok",
        "aof_current_size": figures.get("journal_bytes", 0),
        "aof_pending_bio_fsync": 0,
        "aof_delayed_fsync": figures.get("journal_held_replies", 0),
    }


def _stats(engine: Engine) -> Figures:
    counted, keyspace = engine.stats, engine.keyspace
    hub = engine.hub.statistics()
    return {
        "total_connections_received": counted.connections,
        "total_commands_processed": counted.commands,
        "instantaneous_ops_per_sec": counted.commands_per_s,
        "total_net_input_bytes": counted.net_in_bytes,
        "total_net_output_bytes": counted.net_out_bytes,
        "rejected_connections": counted.rejected_connections,
        "expired_keys": keyspace.expired,
        "expired_stale_perc": "0.00",
        "expired_time_cap_reached_count": 0,
        "evicted_keys": counted.evicted,
        "evicted_clients": 0,
        "keyspace_hits": keyspace.hits,
        "keyspace_misses": keyspace.misses,
        **hub,
        **engine.tracking.statistics(),
        "latest_fork_usec": 0,
        "total_forks": 0,
        "unexpected_error_replies": counted.internal_errors,
        "total_error_replies": counted.error_replies,
        "acl_access_denied_auth": counted.auth_failures,
        "client_query_buffer_limit_disconnections": counted.query_limit_closed,
        "client_output_buffer_limit_disconnections": counted.output_limit_closed,
        "expiry_lag_ms": keyspace.expiry_lag_ms,
        "expiry_lag_max_ms": keyspace.expiry_lag_max_ms,
    }


def _replication(engine: Engine) -> Figures:
    return {
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": engine.stats.run_id,
        "master_replid2": "0" * 40,
        "master_repl_offset": 0,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
    }


def _cpu(engine: Engine) -> Figures:  # noqa: ARG001 - as every section
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "used_cpu_sys": f"{own.ru_stime:.6f}",
        "used_cpu_user": f"{own.ru_utime:.6f}",
        "used_cpu_sys_children": f"{children.ru_stime:.6f}",
        "used_cpu_user_children": f"{children.ru_utime:.6f}",
    }


def _commandstats(engine: Engine) -> Figures:
    counted, commands = engine.stats, engine.registry.commands
    rejected = counted.rejected_calls
    calls = {
        name: count - rejected.get(name, 0)
        for name, count in counted.by_command(commands).items()
        if not commands[name].subcommands
    }
    for name, histogram in counted.latency.items():
        if name not in calls:  # a subcommand: each call of one is timed
            calls[name] = histogram.count
    shown = {}
    for name in sorted(calls.keys() | rejected.keys()):
        known = counted.latency.get(name)
        mean_us = known.mean_us if known is not None else 0.0
        n = calls.get(name, 0)
        shown[f"cmdstat_{name}"] = (
            f"calls={n},usec={int(n * mean_us)},usec_per_call={mean_us:.2f},"
            f"rejected_calls={rejected.get(name, 0)},"
            f"failed_calls={counted.failed_calls.get(name, 0)}"
        )
    return shown


def _errorstats(engine: Engine) -> Figures:
    return {
        f"errorstat_{kind}": f"count={count}" for kind, count in sorted(engine.stats.errors.items())
    }


def _latencystats(engine: Engine) -> Figures:
    return {
        f"latency_percentiles_usec_{name}": ",".join(
            f"p{percent:g}={histogram.percentile_us(percent):.3f}" for percent in _PERCENTILES
        )
        for name, histogram in sorted(engine.stats.latency.items())
    }


def _keyspace(engine: Engine) -> Figures:
    keyspace = engine.keyspace
    if not len(keyspace):
        return {}
    return {"db0": f"keys={len(keyspace)},expires={len(keyspace.deadlines)},avg_ttl=0"}


def _store(engine: Engine) -> Figures:
    """Our own: what STATS shows and Redis has no name for."""
    return {
        name: value
        for name, value in stats(engine).items()
        if not isinstance(value, dict) and value != ""
    }


SECTIONS: Final[dict[str, Callable[[Engine], Figures]]] = {
    "server": _server,
    "clients": _clients,
    "memory": _memory,
    "persistence": _persistence,
    "stats": _stats,
    "replication": _replication,
    "cpu": _cpu,
    "modules": lambda _engine: {},
    "commandstats": _commandstats,
    "errorstats": _errorstats,
    "latencystats": _latencystats,
    "cluster": lambda _engine: {"cluster_enabled": 0},
    "keyspace": _keyspace,
    "store": _store,
}
_NOT_BY_DEFAULT: Final = frozenset(["commandstats", "latencystats"])
_TITLES: Final = {"cpu": "CPU"}
