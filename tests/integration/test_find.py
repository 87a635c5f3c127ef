"""FIND on a real server, through clients of others, while others work."""

from __future__ import annotations

import json
import select

import msgpack
import pytest
import redis

from kvclient import Client
from parser.summary import Summary, pack
from tests.support import ServerProcess


def fill(server: ServerProcess, keys: int) -> None:
    """Put in keys of which every tenth has a WARN."""
    flat: list[bytes] = []
    for n in range(keys):
        levels = {"INFO": 3, "WARN": 1} if n % 10 == 0 else {"INFO": 3}
        flat += [b"block_%d" % n, pack(Summary(4, (n, 1, 0), (n + 9, 1, 9), levels, {5: 4}))]
    header = {
        "source": 7,
        "ranges": [[0, keys]],
        "books": {"lines": keys, "matched": keys, "unparsed": 0, "skipped": 0},
        "patterns": {5: [b"Received block <*>", keys]},
    }
    with Client(server.url) as client:
        client.execute("INGEST", msgpack.packb(header), msgpack.packb(flat))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_finds_keys(server: ServerProcess, protocol: int) -> None:
    fill(server, 200)
    with redis.Redis(host=server.host, port=server.port, protocol=protocol) as client:
        rows = client.execute_command("FIND", "LEVEL", "WARN", "SORT", "last", "LIMIT", "2")
        assert [row[0] for row in rows] == [b"block_190", b"block_180"]
        assert json.loads(rows[0][1])["levels"] == {"INFO": 3, "WARN": 1}
        assert len(client.execute_command("FIND", "TEXT", "received", "LIMIT", "0")) == 200
        client.delete("block_190")
        rows = client.execute_command("FIND", "LEVEL", "WARN", "SORT", "last", "LIMIT", "1")
        assert rows[0][0] == b"block_180"
        told = client.execute_command("FIND", "LEVEL", "WARN", "EXPLAIN")
        names = told if isinstance(told, dict) else told[::2]
        assert b"index" in names
        assert client.execute_command("STATS")


@pytest.mark.slow
def test_others_are_served_while_a_first_find_indexes_everything(server: ServerProcess) -> None:
    fill(server, 60_000)
    with (
        redis.Redis(host=server.host, port=server.port) as asking,
        redis.Redis(host=server.host, port=server.port) as other,
    ):
        other.ping()
        connection = asking.connection_pool.get_connection()
        connection.send_command("FIND", "LEVEL", "WARN", "LIMIT", "1")
        served = 0
        while not select.select([connection._sock], [], [], 0)[0]:
            other.ping()
            served += 1
        assert connection.read_response()[0][0].startswith(b"block_")
        asking.connection_pool.release(connection)
    assert served >= 20


@pytest.mark.slow
def test_inside_multi_a_find_runs_at_once(server: ServerProcess) -> None:
    fill(server, 300)
    with redis.Redis(host=server.host, port=server.port) as client:
        pipe = client.pipeline(transaction=True)
        pipe.set("greeting", "hello")
        pipe.execute_command("FIND", "LEVEL", "WARN", "LIMIT", "0")
        _, rows = pipe.execute()
        assert len(rows) == 30
