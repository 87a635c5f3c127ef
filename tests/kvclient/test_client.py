"""Both clients against servers that misbehave in every way: the same rules, the same outcomes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from kvclient import AsyncClient, Client
from kvclient.errors import (
    AuthFailed,
    ConnectionFailed,
    ConnectionLost,
    KvError,
    ProtocolError,
    ReplyError,
    ServerLoading,
    TimedOut,
)
from tests.kvclient.fake import CLOSE, SILENCE, FakeServer, fake_server

OK = b"+OK\r\n"


def blocking(url: str, steps: list[tuple[Any, ...]], **options: Any) -> list[Any]:
    with Client(url, **options) as client:
        return [getattr(client, name)(*args) for name, *args in steps]


def with_trio(url: str, steps: list[tuple[Any, ...]], **options: Any) -> list[Any]:
    async def run() -> list[Any]:
        async with AsyncClient(url, **options) as client:
            return [await getattr(client, name)(*args) for name, *args in steps]

    return trio.run(run)


@pytest.fixture(params=[blocking, with_trio], ids=["blocking", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Make the calls on a new client of either kind and return their results."""
    calls: Run = request.param
    return calls


Run = Callable[..., list[Any]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_calls_become_commands_and_replies_become_results(run: Run) -> None:
    replies = {
        b"GET": b"$1\r\nv\r\n",
        b"SET": OK,
        b"DEL": b":2\r\n",
        b"PTTL": b":-1\r\n",
        b"SCAN": b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n",
        b"STATS": b"*4\r\n$4\r\nkeys\r\n:3\r\n$5\r\nbooks\r\n*0\r\n",
        b"FLUSHALL": OK,
    }
    with fake_server(lambda _, command: replies[command[0]]) as server:
        results = run(
            server.url,
            [
                ("get", "k"),
                ("set", "k", b"\xff"),
                ("delete", "a", "b"),
                ("ttl_ms", "k"),
                ("stats",),
                ("clear",),
            ],
        )
        assert results == [b"v", True, 2, -1, {"keys": 3, "books": []}, None]
        assert server.commands[:3] == [
            [b"GET", b"k"],
            [b"SET", b"k", b"\xff"],
            [b"DEL", b"a", b"b"],
        ]
        assert server.connections == 1


def test_nobody_there_is_told_with_the_address(run: Run) -> None:
    port = free_port()
    with pytest.raises(ConnectionFailed, match=f"no server at 127.0.0.1:{port}: .*refused"):
        run(f"redis://127.0.0.1:{port}", [("ping",)], retry_s=0)


def test_a_missing_socket_file_is_told_with_its_path(run: Run, tmp_path: Any) -> None:
    with pytest.raises(ConnectionFailed, match="no such file"):
        run(f"unix://{tmp_path}/none.sock", [("ping",)], retry_s=0)


def test_an_error_reply_is_raised_and_the_connection_goes_on(run: Run) -> None:
    with fake_server(lambda _, c: b"-ERR bad\r\n" if c[0] == b"SET" else b"+PONG\r\n") as server:
        with pytest.raises(ReplyError, match="ERR bad"):
            run(server.url, [("set", "a", "b")])
        assert run(server.url, [("ping",)]) == ["PONG"]


def test_a_pipeline_gives_every_reply_in_order_or_the_first_error(run: Run) -> None:
    def answer(_: int, command: list[bytes]) -> bytes:
        return b"-ERR bad\r\n" if command[0] == b"BAD" else b"$1\r\n" + command[1] + b"\r\n"

    with fake_server(answer) as server:
        assert run(server.url, [("pipeline", [("GET", "a"), ("GET", "b")])]) == [[b"a", b"b"]]
        assert run(server.url, [("pipeline", [])]) == [[]]
        with pytest.raises(ReplyError):
            run(server.url, [("pipeline", [("BAD",), ("GET", "b")])])


def test_a_read_is_sent_again_when_the_connection_went_stale(run: Run) -> None:
    def answer(number: int, command: list[bytes]) -> Any:
        return CLOSE if number == 1 and command[1] == b"two" else b"$1\r\nv\r\n"

    with fake_server(answer) as server:
        assert run(server.url, [("get", "one"), ("get", "two")], retry_s=0) == [b"v", b"v"]
        assert server.connections == 2


def test_a_write_whose_reply_never_came_is_not_sent_again(run: Run) -> None:
    def answer(_: int, command: list[bytes]) -> Any:
        return CLOSE if command[0] == b"SET" else b"+PONG\r\n"

    with fake_server(answer) as server:
        with pytest.raises(ConnectionLost):
            run(server.url, [("ping",), ("set", "a", "b")])
        assert [c[0] for c in server.commands].count(b"SET") == 1


def test_an_ingest_may_be_sent_again_since_the_server_counts_a_range_once(run: Run) -> None:
    answers = iter([CLOSE, CLOSE, b":1\r\n"])
    with fake_server(lambda *_: next(answers)) as server:
        assert run(server.url, [("ingest", b"h", b"p")]) == [1]
        assert len(server.commands) == 3


def test_a_late_reply_is_a_timeout_and_never_taken_for_the_next_one(run: Run) -> None:
    def answer(_: int, command: list[bytes]) -> Any:
        return SILENCE if command[0] == b"SET" else b"+PONG\r\n"

    with fake_server(answer) as server:
        with pytest.raises(TimedOut, match=r"did not answer within 0\.05 s"):
            run(server.url, [("set", "a", "b")], timeout_s=0.05)
        assert run(server.url, [("ping",)], timeout_s=5) == ["PONG"]


def test_a_server_that_is_loading_is_asked_until_it_has_loaded(run: Run) -> None:
    answers = iter([b"-LOADING wait\r\n"] * 3 + [OK])
    with fake_server(lambda *_: next(answers)) as server:
        assert run(server.url, [("set", "a", "b")]) == [True]


def test_without_patience_a_loading_server_is_an_error(run: Run) -> None:
    with fake_server(lambda *_: b"-LOADING wait\r\n") as server, pytest.raises(ServerLoading):
        run(server.url, [("ping",)], retry_s=0)


def test_garbage_is_a_protocol_error_and_a_new_connection_follows(run: Run) -> None:
    answers = iter([b"HTTP/1.1 200 OK\r\n", b"+PONG\r\n"])
    with fake_server(lambda *_: next(answers)) as server:
        with pytest.raises(ProtocolError):
            run(server.url, [("ping",)])
        assert run(server.url, [("ping",)]) == ["PONG"]


def test_an_old_server_is_greeted_in_the_old_way(run: Run) -> None:
    def answer(_: int, command: list[bytes]) -> bytes:
        if command[0] == b"HELLO":
            return b"-ERR unknown command 'HELLO'\r\n"
        return OK if command == [b"AUTH", b"pw"] else b"+PONG\r\n"

    with fake_server(answer, greets=False) as server:
        assert run(f"redis://:pw@127.0.0.1:{server.port}", [("ping",)]) == ["PONG"]
        assert server.commands[1] == [b"AUTH", b"pw"]


@pytest.mark.parametrize("greeting", [b"-WRONGPASS no\r\n", b"-NOAUTH HELLO first\r\n"])
def test_a_server_that_does_not_let_us_in_is_an_error_of_its_own(run: Run, greeting: bytes) -> None:
    def answer(_: int, command: list[bytes]) -> bytes:
        return greeting if command[0] == b"HELLO" else b"-NOAUTH Authentication required.\r\n"

    with fake_server(answer, greets=False) as server, pytest.raises(AuthFailed):
        run(f"redis://:wrong@127.0.0.1:{server.port}", [("ping",)])


def test_a_server_that_accepts_and_hangs_up_is_no_server(run: Run) -> None:
    with (
        fake_server(lambda *_: CLOSE, greets=False) as server,
        pytest.raises(KvError, match="no server at"),
    ):
        run(server.url, [("ping",)], retry_s=0)


def test_pushes_between_replies_do_not_shift_them(run: Run) -> None:
    push = b">2\r\n$7\r\nmessage\r\n$1\r\nx\r\n"
    with fake_server(lambda *_: push + b"+PONG\r\n" + push) as server:
        assert run(server.url, [("ping",), ("ping",)]) == ["PONG", "PONG"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def test_a_connection_over_tls_trusts_the_authority_it_is_told(
    run: Run, authority: trustme.CA, tmp_path: Path
) -> None:
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with fake_server(lambda *_: b"+PONG\r\n", tls=server_side(authority)) as server:
        url = f"rediss://localhost:{server.port}?ca={trusted}"
        assert run(url, [("ping",), ("ping",)]) == ["PONG", "PONG"]


def test_a_certificate_nobody_vouches_for_is_refused(run: Run, authority: trustme.CA) -> None:
    with (
        fake_server(lambda *_: b"+PONG\r\n", tls=server_side(authority)) as server,
        pytest.raises(ConnectionFailed, match="certificate"),
    ):
        run(f"rediss://localhost:{server.port}", [("ping",)], retry_s=0)


def test_a_server_without_tls_is_told_from_none(run: Run) -> None:
    with fake_server(lambda *_: b"-ERR what\r\n") as server, pytest.raises(ConnectionFailed):
        run(f"rediss://localhost:{server.port}", [("ping",)], retry_s=0, connect_timeout_s=1)


def test_send_and_receive_read_what_a_subscription_brings() -> None:
    confirmed = b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    message = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
    with (
        fake_server(lambda *_: confirmed + message[:9]) as server,
        Client(server.url) as client,
    ):
        client.send("SUBSCRIBE", "c")
        assert client.receive(5) == [b"subscribe", b"c", 1]
        with pytest.raises(TimedOut):
            client.receive(0.05)
        server._open[0].sendall(message[9:])
        assert client.receive(5) == [b"message", b"c", b"hi"]
        server._open[0].shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionLost):
            client.receive(5)


def test_a_cancelled_call_leaves_no_reply_for_the_next_one() -> None:
    def answer(_: int, command: list[bytes]) -> Any:
        return SILENCE if command[1] == b"slow" else b"$1\r\nv\r\n"

    async def main(server: FakeServer) -> None:
        async with AsyncClient(server.url) as client:
            with trio.move_on_after(0.05):
                await client.get("slow")
            assert await client.get("quick") == b"v"

    with fake_server(answer) as server:
        trio.run(main, server)
        assert server.connections == 2


def test_tasks_that_share_a_client_take_turns() -> None:
    async def main(server: FakeServer) -> None:
        results: dict[int, bytes | None] = {}

        async def one(client: AsyncClient, n: int) -> None:
            results[n] = await client.get(str(n))

        async with AsyncClient(server.url) as client, trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(one, client, n)
        assert results == {n: str(n).encode() for n in range(20)}

    with fake_server(lambda _, c: b"$%d\r\n%s\r\n" % (len(c[1]), c[1])) as server:
        trio.run(main, server)


def test_scan_pages_come_until_the_cursor_is_zero() -> None:
    pages = iter([b"*2\r\n$1\r\n7\r\n*1\r\n$1\r\na\r\n", b"*2\r\n$1\r\n0\r\n*0\r\n"] * 2)

    async def main(url: str) -> list[list[bytes]]:
        async with AsyncClient(url) as client:
            return [page async for page in client.scan()]

    with fake_server(lambda *_: next(pages)) as server:
        with Client(server.url) as client:
            assert list(client.scan("a*", count=5)) == [[b"a"], []]
        assert server.commands[0] == [b"SCAN", b"0", b"COUNT", b"5", b"MATCH", b"a*"]
        assert trio.run(main, server.url) == [[b"a"], []]
