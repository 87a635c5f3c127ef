"""redis-py, as people use it, against a real server: both protocols, blocking and asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from parser.summary import Summary, pack
from tests.support import ServerProcess, running_server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("redis-py") / "data") as process:
        yield process


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(shared: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Any]:
    with redis.Redis(host=shared.host, port=shared.port, protocol=request.param) as one:
        one.flushall()
        yield one


def test_strings_keys_and_expiry(client: Any) -> None:
    assert client.ping() is True
    assert client.echo("hello") == b"hello"
    assert client.set("a", "1") is True
    assert client.get("a") == b"1"
    assert client.get("gone") is None
    assert client.set("a", "2", nx=True) is None
    assert client.set("a", "2", xx=True, get=True) == b"1"
    assert client.incr("a") == 3
    assert client.incrby("a", 7) == 10
    assert client.mset({"b": "x", "c": b"\r\n\x00"}) is True
    assert client.mget("a", "b", "c", "gone") == [b"10", b"x", b"\r\n\x00", None]
    assert client.exists("a", "b", "a", "gone") == 3
    assert sorted(client.keys("*")) == [b"a", b"b", b"c"]
    assert client.type("a") == b"string"
    assert client.dbsize() == 3
    assert client.expire("a", 100) is True
    assert client.ttl("a") == 100
    assert 0 < client.pttl("a") <= 100_000
    assert client.persist("a") is True
    assert client.ttl("a") == -1
    assert client.ttl("gone") == -2
    assert client.set("short", "lived", px=30) is True
    deadline = time.monotonic() + 2
    while client.get("short") is not None:
        assert time.monotonic() < deadline
    assert client.delete("a", "b", "gone") == 2
    assert client.execute_command("DELETE", "c") == 1
    assert client.dbsize() == 0


def test_scan_goes_over_every_key(client: Any) -> None:
    client.mset({f"key:{n}": n for n in range(2500)})
    assert {int(key[4:]) for key in client.scan_iter(count=100)} == set(range(2500))
    assert set(client.scan_iter(match="key:11*", count=1000)) == {
        f"key:{n}".encode() for n in range(2500) if str(n).startswith("11")
    }
    assert len(client.keys("key:*")) == 2500


def test_pipelines_and_transactions_keep_their_order(client: Any) -> None:
    with client.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.set(f"p:{n % 7}", n)
            pipe.get(f"p:{n % 7}")
        answers = pipe.execute()
    assert answers[1::2] == [str(n).encode() for n in range(1000)]
    with client.pipeline(transaction=True) as pipe:
        pipe.set("t", 1).incr("t").get("t")
        assert pipe.execute() == [True, 2, b"2"]


def test_an_error_is_an_answer_and_the_connection_lives_on(client: Any) -> None:
    client.set("word", "x")
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        client.incr("word")
    with pytest.raises(redis.ResponseError, match="unknown command 'NOSUCH'"):
        client.execute_command("NOSUCH", "a", "b")
    with pytest.raises(redis.ResponseError, match="wrong number of arguments for 'get' command"):
        client.execute_command("GET")
    assert client.get("word") == b"x"


def test_summaries_live_beside_strings(client: Any) -> None:
    delta = pack(Summary(3, levels={"INFO": 3}))
    assert client.execute_command("MERGE", "block_1", delta, "block_2", '{"count": 1}') == 2
    assert client.execute_command("MERGE", "block_1", delta) == 1
    assert (
        client.get("block_1") == b'{"count": 6, "first": null, "last": null, "levels": {"INFO": 6}}'
    )
    assert client.type("block_1") == b"summary"
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.incr("block_1")
    stats = client.execute_command("STATS")
    if isinstance(stats, list):
        stats = dict(zip(stats[::2], stats[1::2], strict=True))
    assert stats[b"keys"] == 2
    assert client.info("keyspace") == {"db0": {"keys": 2, "expires": 0, "avg_ttl": 0}}
    assert client.info()["redis_version"] == "7.0.15"


def test_asyncio_clients_are_served_too(shared: ServerProcess) -> None:
    async def talk() -> None:
        made: Any = redis.asyncio.Redis(
            host=shared.host, port=shared.port, protocol=3, max_connections=20
        )
        async with made as one:
            await one.flushall()
            for _ in range(10):
                await asyncio.gather(*[one.incr("n") for _ in range(20)])
            assert await one.get("n") == b"200"
            async with one.pipeline(transaction=True) as pipe:
                assert await pipe.set("x", "1").get("x").execute() == [True, b"1"]
            await one.connection_pool.disconnect()

    asyncio.run(talk())


def test_a_client_that_caches_forgets_what_others_change(
    shared: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = pytest.importorskip("redis.cache", reason="this redis-py does not cache")
    # It asks for a version from which on all products of Redis can do it; Redis itself can since 6.
    monkeypatch.setattr(redis.connection.CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")
    address: Any = {"host": shared.host, "port": shared.port}
    with (
        redis.Redis(**address, protocol=3, cache_config=cache.CacheConfig()) as reader,
        redis.Redis(**address) as writer,
    ):
        writer.mset({"a": "old", "b": "old"})
        assert reader.get("a") == reader.get("b") == reader.get("a") == b"old"
        held = reader.get_cache()
        assert held is not None
        assert held.size == 2
        commands = writer.info("stats")["total_commands_processed"]
        assert reader.get("a") == b"old"  # from the cache: the server hears nothing of it
        assert writer.info("stats")["total_commands_processed"] == commands + 1
        writer.set("a", "new")
        assert reader.get("a") == b"new"
        assert reader.get("b") == b"old"
        writer.flushall()
        assert reader.get("b") is None
