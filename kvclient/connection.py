"""What a blocking and a Trio connection have in common: limits, the greeting, its replies.

No I/O. The greeting is one round trip: ``HELLO 3`` with the password, answered by a server that
knows RESP3; any other is greeted again with ``AUTH``, and RESP2 is spoken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvclient.errors import AuthFailed, ReplyError, ServerLoading
from kvclient.protocol import Arg, Reply
from kvclient.url import Address, parse_url

__all__ = ["READ_BYTES", "Options", "address_of", "greeting", "plain_greeting"]

READ_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Options:
    """How patient a client is."""

    timeout_s: float | None = 30.0
    """For a reply; None waits for ever."""
    connect_timeout_s: float = 5.0
    retry_s: float = 5.0
    """How long a server that is away is tried again; 0 means once."""


def address_of(url: str | Address) -> Address:
    """Return the address, read from text when it is text."""
    return url if isinstance(url, Address) else parse_url(url)


def greeting(address: Address) -> tuple[Arg, ...]:
    """Return the first command of a connection."""
    if address.password is None:
        return ("HELLO", "3")
    return ("HELLO", "3", "AUTH", address.username or "default", address.password)


def plain_greeting(address: Address, reply: Reply) -> tuple[Arg, ...] | None:
    """Return what to say when HELLO was answered by ``reply``, None when all is well.

    Raises AuthFailed when the server does not let us in, ServerLoading when it cannot yet.
    """
    if not isinstance(reply, ReplyError):
        return None
    if isinstance(reply, ServerLoading):
        raise reply
    if isinstance(reply, AuthFailed) and reply.code != "NOAUTH":
        raise reply
    if address.password is None:
        return ("PING",)
    if address.username is not None:
        return ("AUTH", address.username, address.password)
    return ("AUTH", address.password)
