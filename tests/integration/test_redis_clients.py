"""Clients that were written for Redis: redis-py (both shells, both protocols) and redis-cli."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.support import ServerProcess, running_server

Redis = Any
"""redis-py's own types tell too little of what each command returns."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("clients") / "data") as server:
        yield server


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(shared: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Redis]:
    with redis.Redis(port=shared.port, protocol=request.param, decode_responses=True) as made:
        made.flushall()
        yield made


def test_strings(client: Redis) -> None:
    assert client.set("k", "v", ex=100, get=True) is None
    assert client.set("k", "w", nx=True) is None
    assert client.set("k", "w", xx=True, keepttl=True) is True
    assert 90 < client.ttl("k") <= 100
    assert client.execute_command("GETSET", "k", "x") == "w"
    assert client.mset({"a": 1, "b": 2})
    assert client.mget("a", "b", "none") == ["1", "2", None]
    assert not client.msetnx({"b": 3, "c": 4})
    assert client.incr("n", 5) == 5
    assert client.decr("n") == 4
    assert client.incrbyfloat("n", 0.5) == 4.5
    assert client.append("k", "yz") == 3
    assert client.strlen("k") == 3
    assert client.setrange("k", 1, "__") == 3
    assert client.getrange("k", 0, 1) == "x_"
    assert client.getdel("k") == "x__"
    assert client.getex("a", px=5000) == "1"
    assert client.execute_command("SETEX", "s", 10, "v")
    assert client.execute_command("PSETEX", "s", 10_000, "v")
    client.mset({"one": "ohmytext", "two": "mynewtext"})
    assert client.lcs("one", "two") == "mytext"
    assert client.lcs("one", "two", len=True) == 6


def test_bits(client: Redis) -> None:
    assert client.setbit("b", 7, 1) == 0
    assert client.getbit("b", 7) == 1
    assert client.bitcount("b") == 1
    assert client.bitpos("b", 1) == 7
    client.set("c", "\x02")
    assert client.bitop("OR", "d", "b", "c") == 1
    assert client.get("d") == "\x03"
    fields = client.bitfield("f", "SAT").set("u8", 0, 250).incrby("u8", 0, 10).get("u4", 0)
    assert fields.execute() == [0, 255, 15]


def test_keys(client: Redis) -> None:
    client.mset({f"key:{number}": number for number in range(1000)})
    assert sorted(client.scan_iter("key:*", count=50)) == sorted(client.keys("key:*"))
    assert client.dbsize() == 1000
    assert client.exists("key:1", "key:2", "none") == 2
    assert client.type("key:1") == "string"
    assert client.rename("key:1", "renamed")
    assert client.copy("renamed", "copied", replace=True)
    assert client.expire("copied", 100, nx=True)
    assert not client.expire("copied", 50, gt=True)
    assert client.expireat("copied", int(time.time()) + 500)
    assert client.expiretime("copied") > time.time() + 400
    assert client.persist("copied")
    assert client.touch("copied", "none") == 1
    assert client.object("encoding", "copied") == "int"
    assert client.randomkey() is not None
    assert client.unlink("copied", "renamed") == 2
    assert client.memory_usage("key:5") > 50


def test_transactions(client: Redis) -> None:
    with client.pipeline() as pipe:
        pipe.watch("w")
        pipe.multi()
        pipe.set("w", 1).incr("w").get("w")
        assert pipe.execute() == [True, 2, "2"]
        pipe.watch("w")
        client.set("w", "meanwhile")
        pipe.multi()
        pipe.set("w", "late")
        with pytest.raises(redis.WatchError):
            pipe.execute()

    def count(pipe: Redis) -> None:
        seen = int(pipe.get("t") or 0)
        pipe.multi()
        pipe.set("t", seen + 1)

    assert client.transaction(count, "t") == [True]


def test_publish_and_subscribe(client: Redis) -> None:
    with client.pubsub() as listener:
        listener.subscribe("news")
        listener.psubscribe("n*")
        kinds = [listener.get_message(timeout=5)["type"] for _ in range(2)]
        assert kinds == ["subscribe", "psubscribe"]
        assert client.publish("news", "hello") == 2
        got = [listener.get_message(timeout=5) for _ in range(2)]
        assert [(m["type"], m["data"]) for m in got] == [
            ("message", "hello"),
            ("pmessage", "hello"),
        ]
        assert client.pubsub_channels() == ["news"]
        assert client.pubsub_numsub("news") == [("news", 1)]
        assert client.pubsub_numpat() == 1


def test_events_of_expiry_come_on_time(client: Redis) -> None:
    client.config_set("notify-keyspace-events", "Ex")
    with client.pubsub() as listener:
        listener.subscribe("__keyevent@0__:expired")
        listener.get_message(timeout=5)
        client.set("k", "v", px=100)
        began = time.monotonic()
        message = listener.get_message(timeout=5)
        assert message["data"] == "k"
        assert time.monotonic() - began < 1
    client.config_set("notify-keyspace-events", "")


def test_the_server_tells_about_itself(client: Redis) -> None:
    client.client_setname("tester")
    assert client.client_getname() == "tester"
    assert client.client_info()["lib-name"].startswith("redis-py")
    assert [each["name"] for each in client.client_list() if each["name"]] == ["tester"]
    assert client.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
    assert client.command_count() > 80
    assert client.command_getkeys("MSET", "a", 1, "b", 2) == ["a", "b"]
    assert client.slowlog_len() >= 0
    assert client.latency_latest() == []
    assert abs(client.time()[0] - time.time()) < 5
    assert client.role()[0] == "master"
    assert client.acl_whoami() == "default"
    assert client.wait(0, 0) == 0
    assert client.memory_stats()["keys.count"] == 0


def test_info_has_what_exporters_read(client: Redis) -> None:
    client.set("k", "v", ex=100)
    client.get("k")
    client.get("none")
    info = client.info("everything")
    for name in (
        "redis_version", "uptime_in_seconds", "connected_clients", "used_memory",
        "used_memory_rss", "maxmemory", "total_connections_received", "total_commands_processed",
        "instantaneous_ops_per_sec", "total_net_input_bytes", "total_net_output_bytes",
        "rejected_connections", "expired_keys", "evicted_keys", "keyspace_hits", "keyspace_misses",
        "pubsub_channels", "pubsub_patterns", "aof_enabled", "loading", "role",
        "mem_fragmentation_ratio",
        "used_cpu_sys", "used_cpu_user", "process_id", "tcp_port", "redis_mode",
    ):  # fmt: skip
        assert name in info, name
    assert info["db0"]["keys"] == 1
    assert info["db0"]["expires"] == 1
    assert info["cmdstat_get"]["calls"] >= 2
    assert info["role"] == "master"
    assert client.info("memory").keys() < info.keys()


def test_monitor_shows_commands(client: Redis) -> None:
    with client.monitor() as monitor:
        client.set("seen", "1")
        for command in monitor.listen():
            if command["command"] == "SET seen 1":
                break


def test_what_is_not_offered_is_unknown(client: Redis) -> None:
    for command, *arguments in (("lpush", "l", 1), ("eval", "return 1", 0)):
        with pytest.raises(redis.ResponseError, match="unknown command"):
            getattr(client, command)(*arguments)


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_asynchronous_client(shared: ServerProcess, protocol: int) -> None:
    async def talk() -> None:
        client: Redis = redis.asyncio.Redis(port=shared.port, protocol=protocol)
        await client.flushall()
        assert await client.set("k", "v")
        assert await client.get("k") == b"v"
        counts = await asyncio.gather(*[client.incr("n") for _ in range(50)])
        assert sorted(counts) == list(range(1, 51))
        async with client.pipeline(transaction=True) as pipe:
            assert await pipe.set("p", 1).get("p").execute() == [True, b"1"]
        async with client.pubsub() as listener:
            await listener.subscribe("c")
            await listener.get_message(timeout=5)
            await client.publish("c", "m")
            assert (await listener.get_message(timeout=5))["data"] == b"m"
        await client.aclose()

    asyncio.run(talk())


class TestRedisCli:
    """The command line of Redis itself."""

    @staticmethod
    def say(server: ServerProcess, *words: str, stdin: str = "") -> str:
        program = shutil.which("redis-cli")
        if program is None:
            pytest.skip("no redis-cli here")
        outcome = subprocess.run(
            [program, "-p", str(server.port), *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert not outcome.stderr, outcome.stderr
        return outcome.stdout

    def test_commands(self, shared: ServerProcess) -> None:
        assert self.say(shared, "SET", "k", "v", "EX", "100") == "OK\n"
        assert self.say(shared, "-3", "GET", "k") == "v\n"
        assert self.say(shared, "--no-raw", "TTL", "k") in {"(integer) 100\n", "(integer) 99\n"}
        assert "unknown command" in self.say(shared, "LPUSH", "l", "1")

    def test_pipe_mode(self, shared: ServerProcess) -> None:
        commands = "".join(f"SET pipe{number} v\r\n" for number in range(2000))
        said = self.say(shared, "--pipe", stdin=commands)
        assert "errors: 0, replies: 2000" in said

    @pytest.mark.parametrize("option", ["--bigkeys", "--memkeys", "--scan"])
    def test_walks_over_the_keys(self, shared: ServerProcess, option: str) -> None:
        self.say(shared, "SET", "the-largest", "x" * 5000)
        assert "the-largest" in self.say(shared, option)

    def test_reports(self, shared: ServerProcess) -> None:
        assert "redis_version:" in self.say(shared, "INFO")
        assert "# Memory" in self.say(shared, "INFO", "memory")
        assert "get" in self.say(shared, "COMMAND", "DOCS", "get")
        assert self.say(shared, "SLOWLOG", "RESET") == "OK\n"
