"""Keys that begin as what somebody has typed: for the TAB key of a shell and of `kvcli shell`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import click

from kvclient.cli._settings import open_client
from kvclient.errors import KvError
from kvclient.text import shown

if TYPE_CHECKING:
    from kvclient.client import Client

__all__ = ["complete_keys", "key_names"]

COMPLETION_S: Final = 0.3
"""Longer than that a person takes the TAB key for broken."""


def complete_keys(client: Client, prefix: str, limit: int) -> list[str]:
    """Return keys that begin with ``prefix``, for completion: quick rather than complete."""
    escaped = re.sub(r"([*?\[\]\\^])", r"\\\1", prefix)
    ends_s = time.monotonic() + COMPLETION_S
    found: set[str] = set()
    for page in client.scan(f"{escaped}*", count=1000):
        found.update(name for name in map(shown, page) if " " not in name)
        if len(found) >= limit or time.monotonic() > ends_s:
            break
    return sorted(found)[:limit]


def key_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete a key on the command line of a shell; says nothing when there is no server."""
    try:
        with open_client(ctx, timeout_s=COMPLETION_S) as client:
            return complete_keys(client, incomplete, 100)
    except (KvError, click.ClickException):
        return []
