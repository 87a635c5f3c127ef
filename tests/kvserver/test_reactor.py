"""The reactor with real sockets and a journal that does what a test tells it."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
import trio
import trio.testing

from kvserver import connections, execution, resp
from kvserver.alike import PART_COMMANDS
from kvserver.columnwise import RUNS, Columns
from kvserver.config import Config
from kvserver.engine import Engine
from kvserver.errors import JournalFullError
from kvserver.isolation import LONG
from kvserver.journal.staging import Staging
from kvserver.reactor import Reactor
from kvserver.session import Session
from tests.turns import Turns
from tests.wire import encode


class TestJournal:
    """Keeps records in a list; full when told so."""

    __test__ = False

    def __init__(self) -> None:
        self.records: list[list[Any]] = []
        self.full: str | None = None
        self.staging = Staging(lambda _piece: None, 1)

    @property
    def readonly_reason(self) -> str | None:
        return self.full

    def may_stage(self, _owner: object) -> bool:
        return True

    def append(self, effects: Sequence[Any], packed: Sequence[bytes] = ()) -> None:
        self.records.append([*map(msgpack.unpackb, packed), *effects])
        if self.full is not None:
            raise JournalFullError(self.full)


class TestService:
    """Commits when the test lets it."""

    __test__ = False

    def __init__(self) -> None:
        self.must_commit = False
        self.done = trio.Event()
        self.commits = 0

    async def commit(self) -> None:
        self.commits += 1
        await self.done.wait()
        self.must_commit = False


class Client:
    """A client on a stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def says(self, text: bytes) -> None:
        await self.stream.send_all(text)

    async def gets(self, wanted: bytes) -> None:
        got = b""
        with trio.fail_after(5):
            while len(got) < len(wanted):
                piece = await self.stream.receive_some(len(wanted) - len(got))
                assert piece, got
                got += piece
        assert got == wanted

    async def gets_nothing(self) -> None:
        with trio.move_on_after(0.05):
            raise AssertionError(await self.stream.receive_some(100))


class Place:
    """A reactor that runs, and its parts."""

    def __init__(self, config: Config) -> None:
        self.engine = Engine(config)
        self.journal = self.engine.journal = TestJournal()
        self.reactor = Reactor(self.engine)
        self.service = TestService()
        self.reactor.service = self.service
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.reactor.acceptor.listen(self.listener)
        self.clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(await trio.open_tcp_stream(*self.address))
        self.clients.append(client)
        return client


@asynccontextmanager
async def running(config: Config | None = None) -> AsyncIterator[Place]:
    place = Place(config or Config())
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(place.reactor.run)
            nursery.start_soon(place.reactor.release)
            yield place
            nursery.cancel_scope.cancel()
    finally:
        place.reactor.acceptor.close()
        for client in place.clients:
            client.stream.socket.close()
        with trio.CancelScope(shield=True):
            await place.reactor.drain(0.1)


def test_one_turn_is_one_record_however_many_commands() -> None:
    async def main() -> None:
        async with running() as place:
            one = await place.client()
            await one.says(b"SET a 1\r\nINCR a\r\nGET a\r\n")
            await one.gets(b"+OK\r\n:2\r\n$1\r\n2\r\n")
            assert place.journal.records == [[("set", b"a", b"1"), ("set", b"a", b"2")]]

    trio.run(main)


def test_under_always_no_reply_leaves_before_the_commit() -> None:
    async def main() -> None:
        async with running(Config(fsync="always")) as place:
            one, two = await place.client(), await place.client()
            place.service.must_commit = True
            await one.says(b"SET a 1\r\n")
            await one.gets_nothing()
            await two.says(b"GET a\r\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(place.reactor.tick)
                await two.gets_nothing()
                await one.gets_nothing()
                place.service.done.set()
            await one.gets(b"+OK\r\n")
            await two.gets(b"$1\r\n1\r\n")
            assert place.service.commits == 1

    trio.run(main)


def test_on_a_slow_disk_writers_wait_and_readers_do_not() -> None:
    async def main() -> None:
        async with running(Config(fsync="everysec")) as place:
            writer, reader = await place.client(), await place.client()
            await reader.says(b"SUBSCRIBE news\r\n")
            await reader.gets(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n")
            other = await place.client()
            place.service.must_commit = True
            await writer.says(b"SET a 1\r\n")
            await writer.gets_nothing()
            await writer.says(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n2\r\n")
            await other.says(b"GET a\r\n")
            await other.gets(b"$1\r\n1\r\n")
            await other.says(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n")
            await other.gets(b"$1\r\n1\r\n")
            await writer.gets_nothing()
            place.service.done.set()
            await writer.gets(b"+OK\r\n+OK\r\n")

    trio.run(main)


def test_writes_that_the_journal_did_not_take_are_answered_with_misconf() -> None:
    async def main() -> None:
        async with running() as place:
            one = await place.client()
            place.journal.full = "Errors writing to the journal: No space left on device"
            refused = (
                b"-MISCONF Errors writing to the journal: No space left on device. "
                b"Commands that may modify the data set are disabled.\r\n"
            )
            await one.says(b"PING\r\nSET a 1\r\nGET a\r\n")
            await one.gets(b"+PONG\r\n" + refused + b"$1\r\n1\r\n")
            kept = len(place.journal.records)
            await one.says(b"SET a 2\r\nDEL a\r\nGET a\r\n")
            await one.gets(refused * 2 + b"$1\r\n1\r\n")
            await one.says(b"MULTI\r\nSET a 3\r\nEXEC\r\n")
            await one.gets(
                b"+OK\r\n" + refused + b"-EXECABORT Transaction discarded because of previous "
                b"errors.\r\n"
            )
            assert len(place.journal.records) == kept
            place.journal.full = None
            await place.reactor.tick()
            await one.says(b"SET a 4\r\nGET a\r\n")
            await one.gets(b"+OK\r\n$1\r\n4\r\n")
            place.journal.full = "full again"
            await one.says(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n5\r\n" * 3)
            refused = refused.replace(place_reason(refused), b"full again")
            await one.gets(refused * 3)
            place.journal.full = None
            await place.reactor.tick()
            place.journal.full = "full again"
            await one.says(b"SET a 6\r\n" * 5 + b"GET a\r\n" * 5 + b"INCR n\r\n")
            await one.gets(refused * 5 + b"$1\r\n6\r\n" * 5 + refused)

    def place_reason(refused: bytes) -> bytes:
        return refused[len(b"-MISCONF ") : refused.index(b". Commands")]

    trio.run(main)


def test_a_long_write_that_the_journal_did_not_take_is_answered_with_misconf() -> None:
    async def main() -> None:
        async with running() as place:
            one = await place.client()
            place.journal.full = "no space"
            refused = resp.error(
                "MISCONF no space. Commands that may modify the data set are disabled."
            )
            pairs = [b"key%d" % (n // 2) for n in range(4 * LONG)]
            await one.says(encode(b"MSET", *pairs))
            await one.gets(refused)
            assert len(place.journal.records) == 1

    trio.run(main)


def test_a_long_write_outlives_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "SLICE_NS", 0)
    pairs = [b"key%d" % (n // 2) for n in range(4 * LONG)]
    with Turns(1) as turns:
        engine = turns.engine
        engine.journal = journal = TestJournal()
        (one,) = turns.clients
        one.sendall(encode(b"MSET", *pairs) + b"SET behind it\r\n")
        while not engine.isolation.active:
            turns.take()
        one.close()
        turns.reactor.close(next(iter(turns.reactor.connections.values())))
        assert not journal.records
        while engine.suspended:
            turns.take()
        assert len(journal.records) == 1
        assert set(engine.keyspace.data) == set(pairs)


def test_a_long_pipeline_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "SLICE_NS", 0)  # one part takes as long as a turn may
    parts = 5
    with Turns(2) as turns:
        one, other = turns.clients
        one.sendall(b"INCR n\r\n" * parts * PART_COMMANDS)
        seen = []
        for _ in range(parts + 1):
            other.sendall(b"GET n\r\n")
            turns.take()
            seen.append(int(other.recv(100).split()[1]))
        assert seen == [PART_COMMANDS * part for part in (1, 1, 2, 3, 4, 5)]  # the rest comes last
        answers = b"".join(b":%d\r\n" % number for number in range(1, parts * PART_COMMANDS + 1))
        assert one.recv(1 << 16) == answers
        assert turns.engine.stats.calls[b"INCR"] == parts * PART_COMMANDS


@pytest.mark.parametrize("long", [b"KEYS *\r\n", b"APPEND n x\r\n" * 3 * PART_COMMANDS])
def test_what_stands_before_garbage_is_answered_first(
    long: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "SLICE_NS", 0)

    async def main() -> None:
        async with running() as place:
            place.engine.keyspace.set(b"n", b"")
            one = await place.client()
            await one.says(long + b"STRLEN n\r\n*garbage\r\n")
            with trio.fail_after(5):
                heard = b"".join([piece async for piece in one.stream])
            count = long.count(b"APPEND")
            assert heard.endswith(
                b":%d\r\n-ERR Protocol error: invalid multibulk length\r\n" % count
            )
            assert heard.count(b"\r\n") == (count or 3) + 2

    trio.run(main)


def test_large_replies_leave_whole_and_in_order() -> None:
    value = bytes(range(256)) * 20_000
    head = b"$%d\r\n" % len(value)

    async def main() -> None:
        async with running() as place:
            place.engine.keyspace.set(b"big", value)
            one, other = await place.client(), await place.client()
            await one.says(b"GET big\r\nPING\r\nMGET big none big\r\nGET big\r\nPING\r\n")
            await trio.testing.wait_all_tasks_blocked()
            await other.says(b"PING\r\n")  # nobody has read anything yet
            await other.gets(b"+PONG\r\n")
            large = head + value + b"\r\n"
            both = b"*3\r\n" + large + b"$-1\r\n" + large
            await one.gets(large + b"+PONG\r\n" + both + large + b"+PONG\r\n")
            await one.says(b"MULTI\r\nGET big\r\nEXEC\r\n")
            await one.gets(b"+OK\r\n+QUEUED\r\n*1\r\n" + large)

    trio.run(main)


def test_a_client_that_reads_slowly_is_not_cut_off_however_much_it_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "WAIT_FOR_READER_S", 0)
    value = b"x" * 10_000
    with Turns(1) as server:
        server.engine.config.max_output_bytes = 1_000_000
        server.engine.keyspace.set(b"k", value)
        client = server.clients[0]
        asked, heard = 0, b""
        for _ in range(2000):
            if asked < 900:
                with contextlib.suppress(BlockingIOError):
                    client.send(encode(b"GET", b"k") * 30)
                    asked += 30
            server.take()
            server.engine.wake_sleepers()
            with contextlib.suppress(BlockingIOError):
                heard += client.recv(100_000)
        assert heard == (b"$%d\r\n%b\r\n" % (len(value), value)) * asked


def test_an_exception_in_a_handler_is_an_error_of_that_command_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(session: object, args: list[bytes]) -> bytes:
        raise ZeroDivisionError

    async def main() -> None:
        async with running() as place:
            place.engine.registry[b"PING"] = broken
            one, two = await place.client(), await place.client()
            await one.says(b"*1\r\n$4\r\nPING\r\n")
            await one.gets(b"-ERR internal error\r\n")
            await one.says(b"SET a 1\r\nPING\r\nGET a\r\n")
            await one.gets(b"+OK\r\n-ERR internal error\r\n$1\r\n1\r\n")
            await two.says(b"GET a\r\n")
            await two.gets(b"$1\r\n1\r\n")
            assert place.engine.stats.internal_errors == 2

    trio.run(main)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("around", [b"%b", b"MULTI\r\n%bEXEC\r\n"])
def test_a_mistake_in_a_group_ends_that_connection_only(
    around: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_session: Session, _columns: Columns, _chunk_bytes: int) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setitem(RUNS, (b"GETSET", 3), broken)

    async def main() -> None:
        async with running() as place:
            one, other = await place.client(), await place.client()
            await one.says(around % (b"GETSET k 1\r\n" * 4) + b"PING\r\n")
            with trio.fail_after(5):
                heard = b"".join([piece async for piece in one.stream])
            assert heard.endswith(b"-ERR internal error\r\n")
            await other.says(b"GET k\r\n")
            await other.gets(b"$-1\r\n")
            assert place.engine.stats.internal_errors == 1

    trio.run(main)


def test_when_files_run_out_accepting_pauses_and_goes_on() -> None:
    class Exhausted:
        """A listener that has no descriptor left, once."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock, self.tries = sock, 0

        def accept(self) -> Any:
            self.tries += 1
            if self.tries == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            return self.sock.accept()

        def close(self) -> None:
            self.sock.close()

    async def main() -> None:
        async with running() as place:
            fd = place.listener.fileno()
            exhausted: Any = Exhausted(place.listener)
            place.reactor.acceptor.listeners[fd] = exhausted
            one = await place.client()
            await one.says(b"PING\r\n")
            await one.gets_nothing()
            assert exhausted.tries == 1
            await trio.sleep(0.1)
            await place.reactor.tick()
            await one.gets(b"+PONG\r\n")

    trio.run(main)


def test_due_keys_go_by_themselves_and_into_the_journal() -> None:
    async def main() -> None:
        async with running() as place:
            now = 1_000_000
            place.engine.keyspace.clock = lambda: now
            one = await place.client()
            await one.says(b"".join(b"SET k%d v PX %d\r\n" % (n, 100 + n) for n in range(500)))
            await one.gets(b"+OK\r\n" * 500)
            place.journal.records.clear()
            now += 350
            await place.reactor.tick()
            assert len(place.engine.keyspace) == 249
            effects = [effect for record in place.journal.records for effect in record]
            assert sorted(effects) == sorted(("del", b"k%d" % n) for n in range(251))
            now -= 300
            await one.says(b"GET k1\r\nGET k499\r\n")
            await one.gets(b"$-1\r\n$1\r\nv\r\n")

    trio.run(main)


def test_more_due_keys_than_one_tick_takes_go_though_no_client_asks_for_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with running() as place:
            now = 1_000_000
            place.engine.keyspace.clock = lambda: now
            one = await place.client()
            await one.says(b"".join(b"SET k%d v PX 100\r\n" % n for n in range(1000)))
            await one.gets(b"+OK\r\n" * 1000)
            monkeypatch.setattr("kvserver.reactor.SLICE_NS", 0)  # a tick takes 200 keys, no more
            now += 200
            await place.reactor.tick()
            assert len(place.engine.keyspace) == 800
            with trio.fail_after(5):
                while len(place.engine.keyspace):
                    await trio.lowlevel.checkpoint()

    trio.run(main)
