"""What can go wrong when talking to a server; whose fault it is shows in the type.

::

    KvError
      UrlError            the caller's: the address cannot be read
      ConnectionFailed    nobody answers there; nothing was sent
      ConnectionLost      the connection ended before the reply: the command may have run or not
      TimedOut            no reply in time: the command may have run or not
      ProtocolError       the peer does not speak RESP
      ReplyError          the server answered with an error
        AuthFailed        the server wants a password, or another one
        ServerLoading     the server reads its data and will answer soon; nothing ran
      SnapshotError       a file to import is not a snapshot
"""

from __future__ import annotations

__all__ = [
    "AuthFailed",
    "ConnectionFailed",
    "ConnectionLost",
    "KvError",
    "ProtocolError",
    "ReplyError",
    "ServerLoading",
    "SnapshotError",
    "TimedOut",
    "UrlError",
]


class KvError(Exception):
    """Anything this package raises on purpose."""


class UrlError(KvError, ValueError):
    """The text is not the address of a server."""


class ConnectionFailed(KvError):
    """No connection could be made; nothing was sent."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"no server at {where}: {reason}")
        self.where = where
        self.reason = reason


class ConnectionLost(KvError):
    """The connection ended while a reply was due; whether the command ran is not known."""


class TimedOut(KvError):
    """The reply did not come in time; whether the command ran is not known."""


class ProtocolError(KvError):
    """The peer sent something that is not RESP, or more than the limits allow."""


class ReplyError(KvError):
    """The server's own error. ``code`` is its first word, such as ``ERR`` or ``WRONGTYPE``."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def code(self) -> str:
        """The first word of the message."""
        return self.message.partition(" ")[0]


class AuthFailed(ReplyError):
    """The server refuses this client: no password, or a wrong one."""


class ServerLoading(ReplyError):
    """The server was just started and reads its data; the command did not run."""


class SnapshotError(KvError):
    """A file to be imported is not a snapshot; the message says where and why."""
