"""Counted ranges into a server: each one INGEST, exactly once.

INGEST of a range the server has counted changes nothing and says so, therefore a batch whose
replies were lost is sent again as it is. While the server is away, or refuses writes for the moment
(a full disk), the sink tries again with growing delays until ``retry_s`` is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgpack
import trio

from kvclient.aclient import AsyncClient
from kvclient.errors import (
    AuthFailed,
    ConnectionFailed,
    ConnectionLost,
    KvError,
    ReplyError,
    TimedOut,
)
from kvclient.protocol import Arg, Reply
from kvclient.retry import Backoff
from kvclient.sources import source_of
from kvclient.url import Address
from parser.fingerprint import SourceInfo
from parser.sink import COUNTED, OVERLAP, Commit, Outcome, Refused, SinkGone

__all__ = ["StoreSink"]

_PASSING: Final = frozenset(["MISCONF", "LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN"])
"""Errors that the server may get over: it is asked again."""

_MIN_TIMEOUT_S: Final = 10.0


class StoreSink:
    """Takes ranges into the server at ``address``."""

    def __init__(
        self, address: str | Address, *, retry_s: float = 30.0, first_retry_s: float = 1.0
    ) -> None:
        """The first contact is tried for ``first_retry_s`` only: maybe nobody started a server."""
        self.retry_s = retry_s
        self._refusals = 0
        self._met = False
        self._client = AsyncClient(
            address,
            timeout_s=max(retry_s, _MIN_TIMEOUT_S),
            retry_s=min(retry_s, first_retry_s),
        )

    @property
    def retries(self) -> int:
        """How often something had to be sent again."""
        return self._client.retries + self._refusals

    async def sources(self) -> list[SourceInfo]:
        """Return what the server has counted."""
        reply = (await self._ask([("SOURCES",)]))[0]
        if isinstance(reply, ReplyError):
            raise reply
        return [source_of(entry) for entry in reply]

    async def claim(self, new: Sequence[SourceInfo]) -> list[bool]:
        """Make sources known whose id is free."""
        empty: bytes = msgpack.packb([])
        replies = await self._ask(
            [("INGEST", _header(info.id, [], {}, {}, info.about()), empty) for info in new]
        )
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise reply
        return [reply is not None for reply in replies]

    async def moved(self, known: Sequence[SourceInfo]) -> None:
        """Note that known sources lie elsewhere now."""
        empty: bytes = msgpack.packb([])
        commands: list[tuple[Arg, ...]] = []
        for info in known:
            about = {name: info.about()[name] for name in ("path", "inode")}
            commands.append(
                ("INGEST", _header(info.id, [], {}, {}, {**about, "moved": True}), empty)
            )
        await self._ask(commands)

    async def commit(self, commits: Sequence[Commit]) -> list[Outcome]:
        """Send a batch and read what became of each range."""
        replies = await self._ask(
            [
                (
                    "INGEST",
                    _header(
                        commit.source,
                        [[commit.start, commit.end]],
                        commit.books,
                        commit.patterns,
                        commit.about,
                    ),
                    commit.packed or b"\x90",
                )
                for commit in commits
            ]
        )
        return [_outcome(reply) for reply in replies]

    async def _ask(self, commands: list[tuple[Arg, ...]]) -> list[Reply]:
        """Send commands until the server has taken them all, or retry_s is over."""
        backoff = Backoff(self.retry_s, trio.current_time())
        while True:
            try:
                replies = await self._client.pipeline(commands, raise_errors=False)
            except AuthFailed:
                raise
            except ConnectionFailed as error:
                if not self._met:
                    raise
                raise SinkGone(str(error)) from error
            except (ConnectionLost, TimedOut) as error:
                raise SinkGone(str(error)) from error
            except ReplyError as error:  # to the greeting
                if error.code not in _PASSING:
                    raise
                replies = [error]
            except KvError as error:
                raise SinkGone(f"the server does not answer as it should: {error}") from error
            else:
                self._meet()
            passing = [r for r in replies if isinstance(r, ReplyError) and r.code in _PASSING]
            if not passing:
                return replies
            delay_s = backoff.delay_s(trio.current_time())
            if delay_s is None:
                raise SinkGone(f"the server refuses: {passing[0].message}")
            self._refusals += 1
            await trio.sleep(delay_s)

    def _meet(self) -> None:
        """Be more patient from now on: there is a server."""
        if not self._met:
            self._met = True
            self._client.options = replace(self._client.options, retry_s=self.retry_s)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()


def _header(
    source: int,
    ranges: list[list[int]],
    books: dict[str, int],
    patterns: dict[int, list[Any]],
    about: dict[str, Any],
) -> bytes:
    header: dict[str, Any] = {"source": source, "ranges": ranges, "about": about}
    if books:
        header["books"] = books
    if patterns:
        header["patterns"] = patterns
    packed: bytes = msgpack.packb(header, unicode_errors="surrogateescape")
    return packed


def _outcome(reply: Reply) -> Outcome:
    if reply is None:
        return COUNTED
    if isinstance(reply, ReplyError):
        return OVERLAP if reply.code == "OVERLAP" else Refused(reply.message)
    return int(reply)
