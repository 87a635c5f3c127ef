"""epoll, kqueue and poll have the same manners, and the reactor runs on each of them.

Where there is no kqueue, one stands in that keeps to its manual: a filter a direction, added and
deleted one by one, each reported as an event of its own.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
import trio

from kvserver.poller import READ, WRITE, Poller, _KqueuePoller, _PollPoller
from tests.kvserver.test_reactor import running


class Kevent(NamedTuple):
    ident: int
    filter: int
    flags: int


class Kqueue:
    """The manual's words on top of epoll."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._filters: dict[int, set[int]] = {}

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()

    def control(
        self, changes: Iterable[Kevent] | None, max_events: int, timeout: float | None
    ) -> list[Kevent]:
        for ident, kind, flags in changes or ():
            filters = self._filters.setdefault(ident, set())
            if flags == KQ_EV_DELETE and kind not in filters:
                raise FileNotFoundError(ident)
            (filters.discard if flags == KQ_EV_DELETE else filters.add)(kind)
            self._watch(ident)
        if max_events == 0:
            return []
        return [
            Kevent(ident, kind, 0)
            for ident, ready in self._epoll.poll(timeout)
            for kind, bits in ((KQ_FILTER_READ, ~WRITE), (KQ_FILTER_WRITE, ~READ))
            if kind in self._filters[ident] and ready & bits
        ]

    def _watch(self, ident: int) -> None:
        mask = 0
        for kind in self._filters[ident]:
            mask |= READ if kind == KQ_FILTER_READ else WRITE
        try:
            self._epoll.modify(ident, mask)
        except FileNotFoundError:
            self._epoll.register(ident, mask)
        if not mask:
            self._epoll.unregister(ident)


KQ_FILTER_READ, KQ_FILTER_WRITE, KQ_EV_ADD, KQ_EV_DELETE = -1, -2, 1, 2


@pytest.fixture(params=["epoll", "kqueue", "poll"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Poller]:
    """What makes the poller of a system that has this one."""
    if request.param == "kqueue" and not hasattr(select, "kqueue"):
        for name in ("KQ_FILTER_READ", "KQ_FILTER_WRITE", "KQ_EV_ADD", "KQ_EV_DELETE"):
            monkeypatch.setattr(select, name, globals()[name], raising=False)
        monkeypatch.setattr(select, "kqueue", Kqueue, raising=False)
        monkeypatch.setattr(select, "kevent", Kevent, raising=False)
    if not hasattr(select, request.param):
        pytest.skip(f"this system has no {request.param}")
    if request.param == "epoll":
        return select.epoll
    return _KqueuePoller if request.param == "kqueue" else _PollPoller


def test_all_pollers_have_the_manners_of_epoll(make: Callable[[], Poller]) -> None:
    poller = make()
    a, b = socket.socketpair()
    with a, b:
        poller.register(a.fileno(), READ)
        assert poller.poll(0) == []
        b.send(b"x")
        assert poller.poll(1) == [(a.fileno(), READ)]
        assert poller.poll(1) == [(a.fileno(), READ)], "until it is read"
        poller.modify(a.fileno(), READ | WRITE)
        assert poller.poll(1) == [(a.fileno(), READ | WRITE)]
        poller.modify(a.fileno(), WRITE)
        assert poller.poll(1) == [(a.fileno(), WRITE)]
        poller.modify(a.fileno(), 0)
        assert poller.poll(0) == []
        poller.modify(a.fileno(), READ)
        assert poller.poll(1) == [(a.fileno(), READ)]
        poller.unregister(a.fileno())
        assert poller.poll(0) == []
    poller.close()


def test_the_reactor_serves_and_sees_clients_come_and_go(
    make: Callable[[], Poller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvserver.connections.new_poller", make)
    large = b"x" * 4_000_000

    async def main() -> None:
        async with running() as place:
            one, two = await place.client(), await place.client()
            await one.says(b"SET a 1\r\n")
            await one.gets(b"+OK\r\n")
            await two.says(b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$4000000\r\n" + large + b"\r\nGET b\r\n")
            await two.gets(b"+OK\r\n$4000000\r\n" + large + b"\r\n")
            gone = trio.Event()
            place.engine.on_close.append(lambda _session: gone.set())
            two.stream.socket.close()
            with trio.fail_after(5):
                await gone.wait()
            await one.says(b"GET a\r\n")
            await one.gets(b"$1\r\n1\r\n")

    trio.run(main)
