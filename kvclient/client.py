"""The blocking client. ``AsyncClient`` beside it offers the same for Trio.

A client is one connection that is made when it is first needed and again after it was lost. It is
for one thread. What happens when things go wrong:

* Nobody answers: tried again with growing delays for ``retry_s``, then ConnectionFailed.
* The connection ends, or no reply comes in time, after a command was sent: a command that may run
  twice (it reads, or it is INGEST) is sent again; any other raises ConnectionLost or TimedOut,
  since it may have run. The next call connects anew.
* The server is still loading its data: tried again like one that is away.

AsyncClient lives in a module of its own, so that one-shot commands start without Trio.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from kvclient import calls
from kvclient.calls import Call, are_repeatable
from kvclient.connection import READ_BYTES, Options, address_of, greeting, plain_greeting
from kvclient.errors import (
    AuthFailed,
    ConnectionFailed,
    ConnectionLost,
    KvError,
    ReplyError,
    TimedOut,
)
from kvclient.protocol import NEED_DATA, Arg, Decoder, Push, Reply, encode
from kvclient.retry import Retry
from kvclient.url import Address, tls_context

if TYPE_CHECKING:
    from kvclient.aclient import AsyncClient

__all__ = ["AsyncClient", "Client", "connect"]

T = TypeVar("T")


def __getattr__(name: str) -> Any:
    if name == "AsyncClient":
        from kvclient.aclient import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Client:
    """A connection to a server, made when needed.

    Args:
        url: ``redis://[:password@]host:port``, ``rediss://…`` or ``unix:///path``.
        timeout_s: how long to wait for a reply; None waits for ever.
        connect_timeout_s: how long to wait for a connection.
        retry_s: how long a server that is away is tried again; 0 means once.

    """

    def __init__(
        self,
        url: str | Address = "redis://127.0.0.1:7379",
        *,
        timeout_s: float | None = 30.0,
        connect_timeout_s: float = 5.0,
        retry_s: float = 5.0,
    ) -> None:
        self.address = address_of(url)
        self.options = Options(timeout_s, connect_timeout_s, retry_s)
        self._socket: socket.socket | None = None
        self._decoder = Decoder()

    # ------------------------------------------------------------------------------ any command

    def execute(self, *args: Arg) -> Reply:
        """Send one command and return its reply. Raises ReplyError for an error."""
        reply = self._exchange([args])[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def pipeline(
        self,
        commands: Sequence[Sequence[Arg]],
        *,
        raise_errors: bool = True,
        repeatable: bool = False,
    ) -> list[Reply]:
        """Send many commands at once and return their replies in order.

        With ``raise_errors`` the first error among the replies is raised, after all were read;
        without it errors stand in the list as ReplyError objects. ``repeatable`` says that the
        whole may be sent twice, which is known by itself when no command changes anything.
        """
        if not commands:
            return []
        replies = self._exchange(commands, repeatable=repeatable)
        if raise_errors:
            for reply in replies:
                if isinstance(reply, ReplyError):
                    raise reply
        return replies

    def send(self, *args: Arg) -> None:
        """Send a command whose replies ``receive`` reads: MONITOR, SUBSCRIBE."""
        self._connected()
        self._send(encode(*args))

    def receive(self, timeout_s: float | None = None) -> Reply:
        """Return the next reply or push, whatever it answers; None for ``timeout_s`` waits on.

        A TimedOut from here loses nothing: what arrives later is read by the next call.
        """
        if self._socket is None:
            raise ConnectionLost(f"not connected to {self.address}")
        return self._receive(timeout_s, keep=True)

    def fileno(self) -> int:
        """Return the connection's file descriptor, for ``select``."""
        return self._connected().fileno()

    def close(self) -> None:
        """Close the connection; the next call would make a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._decoder = Decoder()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------ typed calls

    def ping(self) -> str:
        """Ask for a sign of life."""
        return self._call(calls.ping())

    def get(self, key: Arg) -> bytes | None:
        """Read a value; a summary comes as its JSON text."""
        return self._call(calls.get(key))

    def summary(self, key: Arg) -> dict[str, Any] | None:
        """Read a summary as the JSON object it is shown as."""
        return self._call(calls.summary(key))

    def set(
        self,
        key: Arg,
        value: Arg,
        *,
        ttl_s: float | None = None,
        deadline_ms: int | None = None,
        only_if_new: bool = False,
        only_if_there: bool = False,
    ) -> bool:
        """Write a value and tell whether it was written."""
        return self._call(
            calls.set_(
                key,
                value,
                ttl_s=ttl_s,
                deadline_ms=deadline_ms,
                only_if_new=only_if_new,
                only_if_there=only_if_there,
            )
        )

    def delete(self, *keys: Arg) -> int:
        """Remove keys and return how many were there."""
        return self._call(calls.delete(*keys))

    def exists(self, *keys: Arg) -> int:
        """Count the keys that are there."""
        return self._call(calls.exists(*keys))

    def expire(self, key: Arg, ttl_s: float) -> bool:
        """Give a key a time to live; False when there is no such key."""
        return self._call(calls.expire(key, ttl_s))

    def persist(self, key: Arg) -> bool:
        """Take the time to live away; False when there was none."""
        return self._call(calls.persist(key))

    def ttl_ms(self, key: Arg) -> int:
        """Return the time to live in ms; -1 without one, -2 without the key."""
        return self._call(calls.ttl_ms(key))

    def type(self, key: Arg) -> str:
        """Return ``string``, ``summary`` or ``none``."""
        return self._call(calls.type_(key))

    def keys(self, pattern: Arg = "*") -> list[bytes]:
        """Return the names of all keys that match, at once; ``scan`` streams them."""
        return self._call(calls.keys(pattern))

    def scan(self, match: Arg | None = None, *, count: int = 1000) -> Iterator[list[bytes]]:
        """Yield the keys page by page; a page may be empty, and a key may come twice."""
        cursor = b"0"
        while True:
            cursor, page = self._call(calls.scan(cursor, match, count))
            yield page
            if cursor == b"0":
                return

    def size(self) -> int:
        """Count the keys."""
        return self._call(calls.size())

    def clear(self) -> None:
        """Remove everything."""
        self._call(calls.clear())

    def stats(self) -> dict[str, Any]:
        """Return the server's figures."""
        return self._call(calls.stats())

    def merge(self, deltas: dict[bytes, bytes]) -> int:
        """Add packed summaries to keys and return how many keys that were."""
        return self._call(calls.merge(deltas))

    def ingest(self, header: bytes, packed: bytes) -> int | None:
        """Commit the summaries of ranges; None when all were counted before."""
        return self._call(calls.ingest(header, packed))

    def _call(self, call: Call[T]) -> T:
        return call.read(self.execute(*call.args))

    # ---------------------------------------------------------------------------------- the wire

    def _exchange(
        self, commands: Sequence[Sequence[Arg]], *, repeatable: bool = False
    ) -> list[Reply]:
        data = b"".join([encode(*command) for command in commands])
        retry = Retry(
            self.options.retry_s,
            time.monotonic(),
            repeatable=repeatable or are_repeatable(commands),
        )
        while True:
            was_connected = self._socket is not None
            failure: KvError | None = None
            replies: list[Reply] = []
            try:
                self._connected()
                self._send(data)
                replies = [self._reply() for _ in commands]
            except BaseException as error:
                self.close()  # replies may be under way that nobody will read
                if not isinstance(error, KvError):
                    raise
                failure = error
            delay_s = retry.delay_s(time.monotonic(), failure, replies, stale=was_connected)
            if delay_s is not None:
                time.sleep(delay_s)
            elif failure is not None:
                raise failure
            else:
                return replies

    def _reply(self) -> Reply:
        while isinstance(reply := self._receive(self.options.timeout_s), Push):
            if reply and reply[0] in _CONFIRMATIONS:
                break
        return reply

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = _connect(self.address, self.options.connect_timeout_s)
            try:
                self._greet()
            except BaseException:
                self.close()
                raise
        return self._socket

    def _greet(self) -> None:
        try:
            self._send(encode(*greeting(self.address)))
            plain = plain_greeting(self.address, self._reply())
            if plain is not None:
                self._send(encode(*plain))
                reply = self._reply()
                if isinstance(reply, AuthFailed) or (
                    isinstance(reply, ReplyError) and plain[0] == "AUTH"
                ):
                    raise reply
        except (ConnectionLost, TimedOut) as error:
            raise ConnectionFailed(str(self.address), str(error)) from error

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.settimeout(self.options.timeout_s)
            self._socket.sendall(data)
        except TimeoutError as error:
            raise TimedOut(f"{self.address} did not take the command in time") from error
        except OSError as error:
            raise ConnectionLost(f"lost the connection to {self.address}: {_why(error)}") from error

    def _receive(self, timeout_s: float | None, *, keep: bool = False) -> Reply:
        assert self._socket is not None
        decoder = self._decoder
        ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        while (reply := decoder.next()) is NEED_DATA:
            try:
                left_s = None if ends_s is None else ends_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    raise TimeoutError
                self._socket.settimeout(left_s)
                data = self._socket.recv(READ_BYTES)
            except TimeoutError as error:
                raise TimedOut(f"{self.address} did not answer within {timeout_s:g} s") from error
            except OSError as error:
                data, why = b"", f": {_why(error)}"
            else:
                why = ""
            if not data:
                if keep:
                    self.close()
                raise ConnectionLost(f"{self.address} closed the connection{why}")
            decoder.feed(data)
        return reply


_CONFIRMATIONS = frozenset(
    [b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe"],
)


def _connect(address: Address, timeout_s: float) -> socket.socket:
    connection: socket.socket | None = None
    try:
        if address.path is not None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(timeout_s)
            connection.connect(address.path)
            return connection
        context = tls_context(address) if address.tls else None
        connection = socket.create_connection((address.host, address.port), timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            return connection
        return context.wrap_socket(connection, server_hostname=address.host)
    except (OSError, UnicodeError) as error:
        if connection is not None:
            connection.close()
        late = isinstance(error, TimeoutError)
        reason = f"no answer within {timeout_s:g} s" if late else _why(error)
        raise ConnectionFailed(str(address), reason) from error


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def connect(url: str | Address = "redis://127.0.0.1:7379", *, retry_s: float = 5.0) -> Client:
    """Return a client whose server has answered. Raises KvError when it does not."""
    client = Client(url, retry_s=retry_s)
    try:
        client.ping()
    except KvError:
        client.close()
        raise
    return client
