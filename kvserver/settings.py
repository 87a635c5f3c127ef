"""What CONFIG GET shows and CONFIG SET changes: Redis's names for our options.

Only what exists here has a name. Passwords have none, so no reply can hold one. What decides where
files lie (``dir``) or what is fixed when the server starts cannot be set.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kvserver.config import MAXMEMORY_POLICIES
from kvserver.hub import format_event_flags, parse_event_flags
from kvserver.numbers import INT64_MAX, parse_int

if TYPE_CHECKING:
    from kvserver.engine import Engine

__all__ = ["SETTINGS", "BadValueError", "Setting", "parse_memory"]

_UNITS: Final = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1024,
    "m": 1000**2,
    "mb": 1024**2,
    "g": 1000**3,
    "gb": 1024**3,
}
_MEMORY: Final = re.compile(r"([0-9]{1,18})([a-z]{0,2})", re.IGNORECASE)
_INT_MAX: Final = 2**31 - 1
_LOG_LEVELS: Final = {
    "debug": logging.DEBUG,
    "verbose": logging.INFO,
    "notice": logging.INFO,
    "warning": logging.WARNING,
}
_MIB: Final = 1024 * 1024
NO_LIMIT: Final = 2**62
"""What 0 means in client-output-buffer-limit."""

Getter = Callable[["Engine"], str]
Setter = Callable[["Engine", str], None]


class BadValueError(Exception):
    """A value makes no sense for a setting; the text says why in Redis's words."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One name of CONFIG."""

    name: str
    get: Getter
    set: Setter | None = None
    refusal: str = "can't set immutable config"
    """What CONFIG SET says when there is no setter."""


def parse_memory(text: str) -> int | None:
    """Read a size such as ``100mb`` (nothing is 0); None when it is none."""
    found = _MEMORY.fullmatch(text or "0")
    if found is None or found[2].lower() not in _UNITS:
        return None
    return int(found[1]) * _UNITS[found[2].lower()]


def _in_range(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise BadValueError(f"argument must be between {low} and {high} inclusive")
    return value


def _read_integer(text: str, low: int, high: int) -> int:
    value = parse_int(text.encode("utf-8", "surrogateescape"))
    if value is None:
        raise BadValueError("argument couldn't be parsed into an integer")
    return _in_range(value, low, high)


def _read_memory(text: str, low: int, high: int) -> int:
    value = parse_memory(text)
    if value is None:
        raise BadValueError("argument must be a memory value")
    return _in_range(value, low, high)


def _number(
    name: str,
    attribute: str,
    low: int = 0,
    high: int = _INT_MAX,
    *,
    read: Callable[[str, int, int], int] = _read_integer,
    then: Callable[[Engine], None] = lambda _engine: None,
) -> Setting:
    """A number that is an attribute of Config."""

    def put(engine: Engine, text: str) -> None:
        setattr(engine.config, attribute, read(text, low, high))
        then(engine)

    return Setting(name, lambda engine: str(getattr(engine.config, attribute)), put)


def _shown(name: str, text: str | Getter, refusal: str = "can't set immutable config") -> Setting:
    """What can be looked at only."""
    return Setting(name, text if callable(text) else lambda _engine: text, None, refusal)


def _one_of(text: str, allowed: tuple[str, ...]) -> str:
    if text.lower() not in allowed:
        raise BadValueError(f"argument(s) must be one of the following: {', '.join(allowed)}")
    return text.lower()


def _put_policy(engine: Engine, text: str) -> None:
    engine.config.maxmemory_policy = _one_of(text, MAXMEMORY_POLICIES)
    engine.memory.apply()


def _put_log_level(engine: Engine, text: str) -> None:
    engine.config.log_level = _one_of(text, tuple(_LOG_LEVELS))
    logging.getLogger("kvserver").setLevel(_LOG_LEVELS[engine.config.log_level])


def _put_events(engine: Engine, text: str) -> None:
    flags = parse_event_flags(text)
    if flags is None:
        raise BadValueError("Invalid event class character. Use 'Ag$lshzxeKEtd'.")
    engine.hub.notify(flags)


def _output_limits(engine: Engine) -> str:
    config = engine.config
    normal, pubsub, soft = (
        0 if limit == NO_LIMIT else limit
        for limit in (
            config.max_output_bytes,
            config.max_pubsub_output_bytes,
            config.soft_pubsub_output_bytes,
        )
    )
    return f"normal {normal} 0 0 slave 0 0 0 pubsub {pubsub} {soft} {config.soft_pubsub_output_s}"


def _put_output_limits(engine: Engine, text: str) -> None:
    words = text.split()
    if not words or len(words) % 4:
        raise BadValueError("Wrong number of arguments in buffer limit configuration.")
    for at in range(0, len(words), 4):
        kind = words[at].lower()
        if kind not in {"normal", "slave", "replica", "pubsub"}:
            raise BadValueError("Invalid client class specified in buffer limit configuration.")
        hard, soft = parse_memory(words[at + 1]), parse_memory(words[at + 2])
        seconds = parse_int(words[at + 3].encode("utf-8", "surrogateescape"))
        if hard is None or soft is None or seconds is None or seconds < 0:
            raise BadValueError(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration."
            )
        if kind == "normal":
            engine.config.max_output_bytes = hard or NO_LIMIT
        elif kind == "pubsub":
            engine.config.max_pubsub_output_bytes = hard or NO_LIMIT
            engine.config.soft_pubsub_output_bytes = soft or NO_LIMIT
            engine.config.soft_pubsub_output_s = seconds


def _apply_slowlog(engine: Engine) -> None:
    engine.log_slow_commands()


def _apply_latency(engine: Engine) -> None:
    engine.stats.spikes.threshold_ms = engine.config.latency_threshold_ms


_PROTECTED: Final = "can't set protected config"

_ALL: Final = [
    _number(
        "maxmemory",
        "maxmemory_bytes",
        0,
        2**63 - 1,
        read=_read_memory,
        then=lambda engine: engine.memory.apply(),
    ),
    Setting("maxmemory-policy", lambda engine: engine.config.maxmemory_policy, _put_policy),
    _number("maxmemory-samples", "maxmemory_samples", 1),
    _number("maxclients", "max_clients", 1, 2**32 - 1),
    _number("tracking-table-max-keys", "max_tracked_keys", 0, INT64_MAX),
    _number("timeout", "client_timeout_s"),
    _number("tcp-keepalive", "tcp_keepalive_s"),
    _number("proto-max-bulk-len", "max_bulk_bytes", _MIB, INT64_MAX, read=_read_memory),
    _number("client-query-buffer-limit", "max_query_bytes", _MIB, INT64_MAX, read=_read_memory),
    Setting("client-output-buffer-limit", _output_limits, _put_output_limits),
    _number(
        "slowlog-log-slower-than", "slowlog_slower_than_us", -1, INT64_MAX, then=_apply_slowlog
    ),
    _number("slowlog-max-len", "slowlog_max_len", 0, INT64_MAX, then=_apply_slowlog),
    _number("latency-monitor-threshold", "latency_threshold_ms", 0, INT64_MAX, then=_apply_latency),
    Setting(
        "notify-keyspace-events",
        lambda engine: format_event_flags(engine.hub.event_flags),
        _put_events,
    ),
    Setting("loglevel", lambda engine: engine.config.log_level, _put_log_level),
    _shown("appendfsync", lambda engine: engine.config.fsync),
    _shown("appendonly", "yes"),
    _shown("save", ""),
    _shown("databases", "1"),
    _shown("hz", "10"),
    _shown("cluster-enabled", "no"),
    _shown("bind", lambda engine: engine.config.host),
    _shown("port", lambda engine: str(engine.config.port)),
    _shown("tls-port", lambda engine: str(engine.config.tls_port)),
    _shown("unixsocket", lambda engine: engine.config.unix_socket),
    _shown("protected-mode", lambda engine: "no" if engine.config.unprotected else "yes"),
    _shown("dir", lambda engine: str(engine.config.data_dir), _PROTECTED),
    _shown("logfile", ""),
    _shown("dbfilename", "", _PROTECTED),
]
SETTINGS: Final[dict[str, Setting]] = {setting.name: setting for setting in _ALL}
