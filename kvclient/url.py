"""Addresses of servers, as text and taken apart.

``redis://[user:password@]host[:port]``, ``rediss://…`` for TLS, ``unix://[:password@]/path``.
A password may hold anything when percent-encoded. What is shown to people never holds the password.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote, urlsplit

from kvclient.errors import UrlError

if TYPE_CHECKING:
    import ssl

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "Address", "parse_url", "tls_context"]

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 7379


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and how to be let in."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    path: str | None = None
    """A Unix socket; then host and port say nothing."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: str | None = None
    """Certificates to trust instead of the system's."""

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def moved(self, host: str | None = None, port: int | None = None) -> Address:
        """Return the address with another host or port; what is None stays."""
        if host is None and port is None:
            return self
        return replace(
            self,
            path=None,
            host=self.host if host is None else host,
            port=self.port if port is None else port,
        )


def parse_url(text: str) -> Address:
    """Read an address. Raises UrlError, which names the part that is wrong but no password."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UrlError(f"not a server address: {error}") from error
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if parts.scheme == "unix":
        if not parts.path:
            raise UrlError("unix:// needs the path of a socket, as in unix:///run/kvserver.sock")
        return Address(path=unquote(parts.path), username=username, password=password)
    if parts.scheme not in {"redis", "rediss"}:
        raise UrlError("an address begins with redis://, rediss:// or unix://")
    if parts.path.strip("/") not in {"", "0"}:
        raise UrlError(f"there is one database only, number 0, not {parts.path.strip('/')!r}")
    return Address(
        host=parts.hostname or DEFAULT_HOST,
        port=DEFAULT_PORT if port is None else port,
        username=username,
        password=password,
        tls=parts.scheme == "rediss",
        ca_file=next(iter(parse_qs(parts.query).get("ca", [])), None),
    )


def tls_context(address: Address) -> ssl.SSLContext:
    """Return what checks the certificate of a server. Raises UrlError for a bad file of them."""
    import ssl  # 20 ms that most do not need

    try:
        return ssl.create_default_context(cafile=address.ca_file)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UrlError(f"no certificates can be read from {address.ca_file}: {why}") from error
