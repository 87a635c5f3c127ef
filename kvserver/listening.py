"""Where the server listens: from its options to bound sockets, and whom these let in.

Guarantees:

* Without a password nothing but loopback is bound, unless somebody insists.
* All addresses get the same port. One that the system does not have is an error, except where the
  option says with a ``-`` that it may be missing, in Redis's notation.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from pathlib import Path
from typing import Any, Final

from kvserver.config import Config
from kvserver.errors import ConfigError

__all__ = [
    "bind_port",
    "bind_unix",
    "check_exposure",
    "endpoint",
    "hosts_of",
    "remove_unix",
    "unix_identity",
]

BACKLOG: Final = 1024
_MISSING: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})


def hosts_of(option: str) -> list[tuple[str, bool]]:
    """Return the addresses in an option, and whether each may be missing."""
    return [(host.removeprefix("-"), host.startswith("-")) for host in option.split()]


def check_exposure(config: Config) -> None:
    """Refuse to listen where everybody can come, without a password. Raises ConfigError."""
    if config.password or config.unprotected:
        return
    for host, _ in hosts_of(config.host):
        if not _is_loopback(host):
            raise ConfigError(
                f"refusing to listen on {host} without a password: set KVSERVER_PASSWORD, "
                "or say --unprotected if everybody on that network may read and write"
            )


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind_port(hosts: str, port: int) -> list[socket.socket]:
    """Listen on a port of every address; port 0 takes one that is free. Raises ConfigError."""
    bound: list[socket.socket] = []
    chosen = port
    try:
        for host, may_be_missing in hosts_of(hosts):
            try:
                bound.append(_bind(host, chosen))
            except OSError as error:
                # A free port of one address need not be free on the next.
                taken_by_chance = error.errno == errno.EADDRINUSE and port == 0
                if may_be_missing and (error.errno in _MISSING or taken_by_chance):
                    continue
                raise ConfigError(
                    f"cannot listen on {endpoint((host, chosen))}: {error.strerror or error}"
                ) from error
            chosen = bound[0].getsockname()[1]
        if not bound:
            raise ConfigError(f"there is no address to listen on in {hosts!r}")
    except ConfigError:
        for sock in bound:
            sock.close()
        raise
    return bound


def _bind(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:  # so that "0.0.0.0 ::" are two, as in Redis
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def bind_unix(path: str) -> socket.socket:
    """Listen on a Unix socket, replacing one that a crash left behind. Raises ConfigError.

    Nothing else at that path is touched: no file, and no socket that somebody listens on.
    """
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and _nobody_listens(path):
            Path(path).unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        Path(path).chmod(0o600)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from error
    return sock


def _nobody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED


def unix_identity(path: str) -> tuple[int, int]:
    """Return what tells the file at a path from one that took its place."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def remove_unix(path: str, identity: tuple[int, int]) -> None:
    """Remove a socket of ours, unless something else has its name by now."""
    with contextlib.suppress(OSError):
        if unix_identity(path) == identity:
            Path(path).unlink()


def endpoint(name: Any) -> str:
    """Return a socket's name, as Python gives it, the way Redis writes it: ``[::1]:6379``."""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
