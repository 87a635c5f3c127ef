"""What the global options say, and the client for the server that they mean."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from kvclient.errors import UrlError
from kvclient.url import Address, parse_url

if TYPE_CHECKING:
    from kvclient.client import Client

__all__ = ["Settings", "open_client", "pass_settings", "settings_of"]

DEFAULT_URL: Final = "redis://127.0.0.1:7379"


@dataclass(slots=True)
class Settings:
    """What the global options say; ``ctx.obj`` of every command."""

    url: str | None = None
    host: str | None = None
    port: int | None = None
    json: bool = False
    as_people: bool | None = field(default=None, repr=False)
    """Overrides whether stdout is a terminal; for tests."""

    @property
    def address(self) -> Address:
        """The server's address. Raises a usage error when it cannot be read."""
        try:
            address = parse_url(self.url or DEFAULT_URL)
        except UrlError as error:
            raise click.UsageError(str(error)) from error
        password = os.environ.get("KVCLI_PASSWORD")
        if password and address.password is None:
            import dataclasses

            address = dataclasses.replace(address, password=password)
        return address.moved(self.host, self.port)

    @property
    def for_people(self) -> bool:
        """Whether to draw tables: stdout is a terminal and nobody asked for JSON."""
        if self.json:
            return False
        return sys.stdout.isatty() if self.as_people is None else self.as_people


pass_settings = click.make_pass_decorator(Settings, ensure=True)
"""Decorator: the command's first argument is the Settings."""


def settings_of(ctx: click.Context) -> Settings:
    """Return the Settings of a command that is running."""
    return ctx.ensure_object(Settings)


def open_client(
    where: click.Context | Settings, *, timeout_s: float | None = 30.0, retry_s: float = 0.0
) -> Client:
    """Return a client for the server the user means; it connects when it is first used."""
    from kvclient.client import Client

    settings = where if isinstance(where, Settings) else settings_of(where)
    return Client(settings.address, timeout_s=timeout_s, retry_s=retry_s)
