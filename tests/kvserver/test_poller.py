"""epoll, kqueue and poll have the same manners, and the reactor runs on each of them.

Where there is no kqueue, one stands in that keeps to its manual: a filter a direction, added and
deleted one by one, each reported as an event of its own.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pytest
import trio

from kvserver.commands.table import NEXT_TURN, Work
from kvserver.connections import FIRST_RECV_BYTES, RECV_BYTES
from kvserver.poller import MORE, ONCE, READ, WRITE, Poller, _KqueuePoller, _PollPoller
from tests.kvserver.test_reactor import running
from tests.turns import Turns
from tests.wire import encode


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


def test_epoll_says_once_what_it_may_and_all_of_them_say_it_when_they_are_asked_again(
    make: Callable[[], Poller],
) -> None:
    poller = make()
    a, b = socket.socketpair()

    def reported() -> int:
        return sum(events & ~MORE for _, events in poller.poll(0))

    with a, b:
        poller.register(a.fileno(), READ | ONCE)
        b.send(b"x")
        assert reported() == READ
        assert reported() in ({0} if make is select.epoll else {READ})
        poller.modify(a.fileno(), READ | ONCE)
        assert reported() == READ, "asked again"
        b.send(b"y")
        assert reported() == READ, "more has come"
        poller.modify(a.fileno(), ONCE)
        assert reported() == 0
        b.send(b"z")
        poller.modify(a.fileno(), READ | ONCE)
        assert reported() == READ, "what came while nobody wanted to know"
        assert a.recv(3) == b"xyz"
        poller.modify(a.fileno(), READ | WRITE)
        assert [reported(), reported()] == [WRITE, WRITE], "until all is sent"
    poller.close()


@pytest.fixture
def one(make: Callable[[], Poller], monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    """A reactor on each of the pollers, and one client."""
    monkeypatch.setattr("kvserver.connections.new_poller", make)
    with Turns(1) as turns:
        yield turns


def test_an_end_that_comes_with_the_last_request_is_noticed(one: Turns) -> None:
    one.clients[0].send(b"PING\r\n")
    one.clients[0].shutdown(socket.SHUT_WR)
    one.take()
    assert one.clients[0].recv(100) == b"+PONG\r\n"
    one.take()
    assert one.clients[0].recv(100) == b""
    assert not one.reactor.connections


def test_what_comes_while_a_client_is_not_read_is_read_later(one: Turns) -> None:
    (connection,) = one.reactor.connections.values()
    done = False

    def work() -> Work:
        while not done:
            yield NEXT_TURN
        return b""

    connection.session.hold(work())
    for _ in range(2):
        one.take()
    assert not connection.events & READ
    one.clients[0].send(b"PING\r\n")
    one.clients[0].shutdown(socket.SHUT_WR)
    one.take()
    assert not connection.session.out
    done = True
    for _ in range(3):
        one.take()
    assert one.clients[0].recv(100) == b"+PONG\r\n"
    assert one.clients[0].recv(100) == b""


@pytest.mark.parametrize("size", [FIRST_RECV_BYTES, RECV_BYTES, 3 * RECV_BYTES + 1])
def test_what_one_read_does_not_take_is_read_though_nothing_more_comes(
    one: Turns, size: int
) -> None:
    one.clients[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    around = len(encode(b"PING", b"x" * size)) - size
    value = b"x" * (size - around)
    request = encode(b"PING", value)
    assert one.clients[0].send(request) == len(request) == size
    for _ in range(5):
        one.take()
    assert one.clients[0].recv(1 << 20) == b"$%d\r\n%s\r\n" % (len(value), value)


def test_urgent_bytes_stop_a_read_and_not_the_client(
    make: Callable[[], Poller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvserver.connections.new_poller", make)
    with (
        Turns(0) as turns,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), timeout=5) as client,
    ):
        theirs, _ = listener.accept()
        theirs.setblocking(False)
        turns.reactor.adopt(theirs, "", "")
        client.send(b"PING\r\n")
        client.send(b"!", socket.MSG_OOB)
        client.send(b"PING\r\nPING\r\n")
        for _ in range(3):
            turns.take()
        assert client.recv(21, socket.MSG_WAITALL) == b"+PONG\r\n" * 3


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
