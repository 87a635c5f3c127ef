"""The Trio client: the calls of the blocking one, with its rules for what goes wrong.

One connection; tasks that share it take turns, whole commands or pipelines at a time. A call that
is cancelled after its command was sent closes the connection, since its reply could no longer be
told from the next one; the command may have run.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import trio

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

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """A connection to a server, made when needed. Arguments as for ``Client``."""

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
        self._stream: trio.abc.Stream | None = None
        self._decoder = Decoder()
        self.retries = 0
        """How often something had to be sent again."""
        self._turn = trio.Lock()

    # ------------------------------------------------------------------------------ any command

    async def execute(self, *args: Arg) -> Reply:
        """Send one command and return its reply. Raises ReplyError for an error."""
        reply = (await self._exchange([args]))[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def pipeline(
        self,
        commands: Sequence[Sequence[Arg]],
        *,
        raise_errors: bool = True,
        repeatable: bool = False,
    ) -> list[Reply]:
        """Send many commands at once and return their replies in order, as ``Client`` does."""
        if not commands:
            return []
        replies = await self._exchange(commands, repeatable=repeatable)
        if raise_errors:
            for reply in replies:
                if isinstance(reply, ReplyError):
                    raise reply
        return replies

    async def send(self, *args: Arg) -> None:
        """Send a command whose replies ``receive`` reads: MONITOR, SUBSCRIBE."""
        async with self._turn:
            await self._connected()
            await self._send(encode(*args))

    async def receive(self) -> Reply:
        """Wait for the next reply or push, whatever it answers. Cancelling it loses nothing."""
        return await self._receive()

    async def aclose(self) -> None:
        """Close the connection; the next call would make a new one."""
        stream, self._stream = self._stream, None
        self._decoder = Decoder()
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # ------------------------------------------------------------------------------ typed calls

    async def ping(self) -> str:
        """Ask for a sign of life."""
        return await self._call(calls.ping())

    async def get(self, key: Arg) -> bytes | None:
        """Read a value; a summary comes as its JSON text."""
        return await self._call(calls.get(key))

    async def summary(self, key: Arg) -> dict[str, Any] | None:
        """Read a summary as the JSON object it is shown as."""
        return await self._call(calls.summary(key))

    async def set(
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
        return await self._call(
            calls.set_(
                key,
                value,
                ttl_s=ttl_s,
                deadline_ms=deadline_ms,
                only_if_new=only_if_new,
                only_if_there=only_if_there,
            )
        )

    async def delete(self, *keys: Arg) -> int:
        """Remove keys and return how many were there."""
        return await self._call(calls.delete(*keys))

    async def exists(self, *keys: Arg) -> int:
        """Count the keys that are there."""
        return await self._call(calls.exists(*keys))

    async def expire(self, key: Arg, ttl_s: float) -> bool:
        """Give a key a time to live; False when there is no such key."""
        return await self._call(calls.expire(key, ttl_s))

    async def persist(self, key: Arg) -> bool:
        """Take the time to live away; False when there was none."""
        return await self._call(calls.persist(key))

    async def ttl_ms(self, key: Arg) -> int:
        """Return the time to live in ms; -1 without one, -2 without the key."""
        return await self._call(calls.ttl_ms(key))

    async def type(self, key: Arg) -> str:
        """Return ``string``, ``summary`` or ``none``."""
        return await self._call(calls.type_(key))

    async def keys(self, pattern: Arg = "*") -> list[bytes]:
        """Return the names of all keys that match, at once; ``scan`` streams them."""
        return await self._call(calls.keys(pattern))

    async def scan(
        self, match: Arg | None = None, *, count: int = 1000
    ) -> AsyncIterator[list[bytes]]:
        """Yield the keys page by page; a page may be empty, and a key may come twice."""
        cursor = b"0"
        while True:
            cursor, page = await self._call(calls.scan(cursor, match, count))
            yield page
            if cursor == b"0":
                return

    async def size(self) -> int:
        """Count the keys."""
        return await self._call(calls.size())

    async def clear(self) -> None:
        """Remove everything."""
        await self._call(calls.clear())

    async def stats(self) -> dict[str, Any]:
        """Return the server's figures."""
        return await self._call(calls.stats())

    async def merge(self, deltas: dict[bytes, bytes]) -> int:
        """Add packed summaries to keys and return how many keys that were."""
        return await self._call(calls.merge(deltas))

    async def ingest(self, header: bytes, packed: bytes) -> int | None:
        """Commit the summaries of ranges; None when all were counted before."""
        return await self._call(calls.ingest(header, packed))

    async def _call(self, call: Call[T]) -> T:
        return call.read(await self.execute(*call.args))

    # ---------------------------------------------------------------------------------- the wire

    async def _exchange(
        self, commands: Sequence[Sequence[Arg]], *, repeatable: bool = False
    ) -> list[Reply]:
        data = b"".join([encode(*command) for command in commands])
        retry = Retry(
            self.options.retry_s,
            trio.current_time(),
            repeatable=repeatable or are_repeatable(commands),
        )
        async with self._turn:
            while True:
                was_connected = self._stream is not None
                failure: KvError | None = None
                replies: list[Reply] = []
                try:
                    replies = await self._once(data, len(commands))
                except KvError as error:
                    failure = error
                delay_s = retry.delay_s(trio.current_time(), failure, replies, stale=was_connected)
                if delay_s is not None:
                    self.retries += 1
                    await trio.sleep(delay_s)
                elif failure is not None:
                    raise failure
                else:
                    return replies

    async def _once(self, data: bytes, n: int) -> list[Reply]:
        timeout_s = self.options.timeout_s
        replies: list[Reply] = []
        try:
            await self._connected()
            with trio.move_on_after(_seconds(timeout_s)) as sending:
                await self._send(data)
            if sending.cancelled_caught:
                raise TimedOut(f"{self.address} did not take the command in time")
            while len(replies) < n:
                replies.append(await self._reply())
        except BaseException:
            await self.aclose()  # replies may be under way that nobody will read
            raise
        return replies

    async def _reply(self) -> Reply:
        timeout_s = self.options.timeout_s
        with trio.move_on_after(_seconds(timeout_s)):
            while isinstance(reply := await self._receive(), Push):
                if reply and reply[0] in _CONFIRMATIONS:
                    break
            return reply
        raise TimedOut(f"{self.address} did not answer within {timeout_s:g} s")

    async def _connected(self) -> None:
        if self._stream is not None:
            return
        timeout_s = self.options.connect_timeout_s
        try:
            with trio.fail_after(timeout_s):
                self._stream = await _open(self.address)
                await self._greet()
        except trio.TooSlowError as error:
            reason = f"no answer within {timeout_s:g} s"
            raise ConnectionFailed(str(self.address), reason) from error
        except (OSError, trio.BrokenResourceError, UnicodeError) as error:
            raise ConnectionFailed(str(self.address), _why(error)) from error
        except (ConnectionLost, TimedOut) as error:
            raise ConnectionFailed(str(self.address), str(error)) from error

    async def _greet(self) -> None:
        await self._send(encode(*greeting(self.address)))
        plain = plain_greeting(self.address, await self._reply())
        if plain is None:
            return
        await self._send(encode(*plain))
        reply = await self._reply()
        if isinstance(reply, AuthFailed) or (isinstance(reply, ReplyError) and plain[0] == "AUTH"):
            raise reply

    async def _send(self, data: bytes) -> None:
        assert self._stream is not None
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLost(f"lost the connection to {self.address}") from error

    async def _receive(self) -> Reply:
        if self._stream is None:
            raise ConnectionLost(f"not connected to {self.address}")
        while (reply := self._decoder.next()) is NEED_DATA:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionLost(f"lost the connection to {self.address}") from error
            if not data:
                raise ConnectionLost(f"{self.address} closed the connection")
            self._decoder.feed(data)
        return reply


_CONFIRMATIONS = frozenset([b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe"])


def _seconds(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else timeout_s


async def _open(address: Address) -> trio.abc.Stream:
    if address.path is not None:
        return await trio.open_unix_socket(address.path)
    if not address.tls:
        return await trio.open_tcp_stream(address.host, address.port)
    context = tls_context(address)
    stream = await trio.open_ssl_over_tcp_stream(address.host, address.port, ssl_context=context)
    try:
        await stream.do_handshake()  # here, where a bad certificate can still be told as such
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _why(error: BaseException) -> str:
    if isinstance(error.__cause__, BaseExceptionGroup):  # Trio tries every address of a name
        error = error.__cause__.exceptions[0]
    elif error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ConnectionError | TimeoutError) and error.errno:
        return os.strerror(error.errno).lower()  # Trio's own text repeats the address
    return (getattr(error, "strerror", None) or str(error)).lower()
