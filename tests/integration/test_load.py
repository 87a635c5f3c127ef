"""Many clients at once, each knowing what it must find: nothing is lost, and memory stays flat."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from tests.support import resident_bytes, running_server
from tests.wire import Wire

pytestmark = pytest.mark.slow


class Client(threading.Thread):
    """Works on keys of its own and compares every reply with what it remembers."""

    def __init__(self, number: int, port: int, until: float) -> None:
        super().__init__()
        self.number, self.port, self.until = number, port, until
        self.random = random.Random(number)
        self.held: dict[bytes, bytes] = {}
        self.commands = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        try:
            with Wire("127.0.0.1", self.port, timeout_s=60) as wire:
                if self.number % 2:
                    wire("HELLO", 3)
                while time.monotonic() < self.until and not self.wrong:
                    self.step(wire)
        except Exception as error:  # noqa: BLE001 - told by the test
            self.wrong.append(repr(error))

    def expect(self, wire: Wire, expected: bytes, *command: bytes | str | int) -> None:
        reply = wire(*command)
        self.commands += 1
        if reply != expected:
            self.wrong.append(f"{command}: {reply!r}, expected {expected!r}")

    def step(self, wire: Wire) -> None:
        key = b"client%d:%d" % (self.number, self.random.randrange(30))
        held = self.held.get(key)
        null = b"_\r\n" if self.number % 2 else b"$-1\r\n"
        match self.random.randrange(9):
            case 0 | 1:
                value = self.random.randbytes(self.random.choice([3, 30, 300, 3000]))
                self.expect(wire, b"+OK\r\n", "SET", key, value)
                self.held[key] = value
            case 2 | 3:
                expected = null if held is None else b"$%d\r\n%b\r\n" % (len(held), held)
                self.expect(wire, expected, "GET", key)
            case 4:
                self.expect(wire, b":%d\r\n" % (held is not None), "DEL", key)
                self.held.pop(key, None)
            case 5:
                counter = b"counter%d" % self.number
                count = int(self.held.get(counter, b"0")) + 7
                self.expect(wire, b":%d\r\n" % count, "INCRBY", counter, 7)
                self.held[counter] = b"%d" % count
            case 6:
                number = b"%d" % self.random.randrange(1000)
                replies = wire.many([("MULTI",), ("SET", key, number), ("INCR", key), ("EXEC",)])
                self.commands += 4
                self.held[key] = b"%d" % (int(number) + 1)
                if replies[3] != b"*2\r\n+OK\r\n:%b\r\n" % self.held[key]:
                    self.wrong.append(f"EXEC: {replies!r}")
            case 7:
                self.expect(wire, b":%d\r\n" % (held is not None), "EXPIRE", key, 10_000)
            case 8:
                pairs = [(b"client%d:%d" % (self.number, n), b"pair") for n in range(5)]
                flat = [word for pair in pairs for word in pair]
                self.expect(wire, b"+OK\r\n", "MSET", *flat)
                self.held.update(pairs)


def test_nothing_is_lost_and_memory_stays_flat(tmp_path: Path, deep: bool) -> None:
    count, seconds = (200, 60.0) if deep else (50, 2.5)
    with running_server(tmp_path / "data") as server:
        began = time.monotonic()
        clients = [Client(number, server.port, began + seconds) for number in range(count)]
        for client in clients:
            client.start()
        time.sleep(seconds / 2)
        warm = resident_bytes(server)
        for client in clients:
            client.join(timeout=120)
        grown = resident_bytes(server) - warm
        assert [wrong for client in clients for wrong in client.wrong] == []
        assert sum(client.commands for client in clients) > 100 * seconds
        assert grown < 8_000_000 + warm // 20
        server.kill()
    with running_server(tmp_path / "data") as server, Wire("127.0.0.1", server.port) as wire:
        for client in clients:
            for key, value in client.held.items():
                assert wire("GET", key) == b"$%d\r\n%b\r\n" % (len(value), value)
        held = sum(len(client.held) for client in clients)
        assert wire("DBSIZE") == b":%d\r\n" % held
