"""A real server with a million keys that expire: each is gone, and its event published, in time."""

from __future__ import annotations

import time
from pathlib import Path

import hiredis
import pytest

from tests.support import running_server
from tests.wire import Wire, encode

KEYS = 1_000_000
BATCH = 1000
LOADING_MS = 60_000
"""The first deadline, from the beginning."""
SPREAD_MS = 20_000
WITHIN_MS = 100


@pytest.mark.deep
def test_a_million_keys_expire_within_100_ms_and_say_so(tmp_path: Path) -> None:
    with (
        running_server(tmp_path) as server,
        Wire("127.0.0.1", server.port) as writer,
        Wire("127.0.0.1", server.port, timeout_s=90) as listener,
    ):
        writer("CONFIG", "SET", "notify-keyspace-events", "Ex")
        first = time.time_ns() // 1_000_000 + LOADING_MS
        for start in range(0, KEYS, BATCH):
            writer.send_raw(
                b"".join(
                    encode("SET", b"%013d:%d" % (deadline, n), "v", "PXAT", deadline)
                    for n in range(start, start + BATCH)
                    for deadline in [first + n * 7919 % KEYS * SPREAD_MS // KEYS]
                )
            )
            left = BATCH * len(b"+OK\r\n")
            while left:
                left -= len(writer.socket.recv(left))
        assert time.time_ns() // 1_000_000 < first, "the machine is too slow to load in time"
        listener("SUBSCRIBE", "__keyevent@0__:expired")
        reader, worst_ms, seen = hiredis.Reader(), 0, set[bytes]()
        while len(seen) < KEYS:
            reader.feed(listener.socket.recv(1 << 20))
            now_ms = time.time_ns() // 1_000_000
            while (message := reader.gets()) is not False:
                seen.add(message[2])
                worst_ms = max(worst_ms, now_ms - int(message[2][:13]))
        assert worst_ms <= WITHIN_MS
        assert writer("DBSIZE") == b":0\r\n"
        stats = writer("STATS")
        print(f"worst {worst_ms} ms as seen by a subscriber")
        assert b"expiry_lag_max_ms" in stats
