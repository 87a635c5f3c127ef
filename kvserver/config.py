"""Every option of the server with its default, its unit and its limits. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["FSYNC_POLICIES", "LOG_RECOVERY_MODES", "MAXMEMORY_POLICIES", "Config"]

FSYNC_POLICIES: Final = ("always", "everysec", "no")
LOG_RECOVERY_MODES: Final = ("tail", "strict", "salvage")
MAXMEMORY_POLICIES: Final = ("noeviction", "allkeys-lru", "volatile-lru", "volatile-ttl")

_KIB: Final = 1024
_MIB: Final = 1024 * 1024


@dataclass(slots=True)
class Config:
    """What a server is told when it starts; CONFIG SET changes some of it later."""

    host: str = "127.0.0.1 -::1"
    """Addresses, one or several; one with a ``-`` before it may be missing."""
    port: int = 7379
    unix_socket: str = ""
    data_dir: Path = Path("kvdata")
    fsync: str = "everysec"
    log_recovery: str = "tail"
    """Strict refuses a journal that ends in a tear; salvage takes what can be read of damage."""
    password: str = ""
    unprotected: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    tls_port: int = 0
    tls_ca_cert: str = ""

    max_clients: int = 10_000
    max_args: int = _MIB
    max_bulk_bytes: int = 512 * _MIB
    max_inline_bytes: int = 64 * _KIB
    max_query_bytes: int = 1024 * _MIB
    """Bytes of one request that is still coming."""
    max_unauthenticated_args: int = 10
    max_unauthenticated_bulk_bytes: int = 16 * _KIB
    max_unauthenticated_output_bytes: int = _KIB
    login_timeout_s: int = 10
    """A client that has not authenticated is disconnected after so long."""
    output_stall_s: int = 10
    """A client that is owed too much, and reads nothing for so long, is disconnected."""
    max_watched_keys: int = 10_000
    max_subscriptions: int = 10_000
    max_queued_commands: int = 1_000_000
    """Limits of one client: keys after WATCH, channels and patterns (and prefixes that it tracks),
    commands after MULTI."""
    max_tracked_keys: int = 1_000_000
    """Keys that are remembered for all clients that track what they read; 0 for no limit."""
    max_output_bytes: int = 64 * _MIB
    """Replies that a client has not read; over it the client is disconnected."""
    max_pubsub_output_bytes: int = 32 * _MIB
    soft_pubsub_output_bytes: int = 8 * _MIB
    soft_pubsub_output_s: int = 60
    client_timeout_s: int = 0
    """Idle clients are disconnected after so long; 0 for never."""
    request_timeout_s: int = 60
    """A request that has begun must be complete after so long; 0 for no limit."""
    tcp_keepalive_s: int = 300
    busy_poll_us: int = 50
    """How long to look for the next request before sleeping, while that pays; 0 for never."""

    debug_commands: bool = False
    """DEBUG SLEEP for clients on this machine; for tests."""
    slowlog_slower_than_us: int = 10_000
    slowlog_max_len: int = 128
    latency_threshold_ms: int = 0
    maxmemory_bytes: int = 0
    maxmemory_policy: str = "noeviction"
    maxmemory_samples: int = 5
    notify_keyspace_events: str = ""
    max_patterns: int = 10_000
    log_level: str = "info"

    compaction_min_bytes: int = 64 * _MIB
    compaction_ratio: float = 1.0
    """Compact when what was written since exceeds so many times the size of the base."""
    segment_bytes: int = 64 * _MIB
