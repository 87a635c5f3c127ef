"""Writers against a real server, each knowing for every key of its own what it may find afterwards.

A write that was sent and not yet answered may have happened or not: two values are allowed. Once it
is answered there is one. A crash may come at any moment; `Writer.verify` asks the next server.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Sequence
from typing import Any

import hiredis

from parser.summary import Summary, pack
from tests.wire import encode

Reply = Any


class Connection:
    """A plain client: commands out, replies in."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.reader = hiredis.Reader()

    def send(self, *commands: tuple[bytes, ...]) -> None:
        self.socket.sendall(b"".join(encode(*command) for command in commands))

    def read(self) -> Reply:
        reply = self.reader.gets()
        while reply is False:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self.reader.feed(data)
            reply = self.reader.gets()
        return reply

    def ask(self, *command: bytes) -> Reply:
        self.send(command)
        return self.read()

    def close(self) -> None:
        self.socket.close()

    def __del__(self) -> None:  # a test that failed has not come to its close
        with contextlib.suppress(AttributeError):  # it never came to be connected
            self.socket.close()


class Writer:
    """One client that writes until the server is gone."""

    def __init__(self, name: bytes, seed: int):
        self.name = name
        self.random = random.Random(seed)
        self.allowed: dict[bytes, list[bytes | None]] = {}
        self.pairs: list[tuple[bytes, bytes]] = []
        self.acknowledged = 0
        self.turn = 0
        self.problems: list[str] = []

    def known(self, key: bytes) -> bytes | None:
        return self.allowed.get(key, [None])[-1]

    def run(self, port: int) -> None:
        """Write until the connection breaks."""
        try:
            connection = Connection(port)
        except OSError:
            return
        try:
            while True:
                self._step(connection)
        except (OSError, hiredis.ProtocolError):
            pass
        finally:
            connection.close()

    def run_some(self, port: int, turns: int) -> None:
        """Write so many times, or until the connection breaks."""
        with contextlib.suppress(OSError, hiredis.ProtocolError):
            connection = Connection(port)
            for _ in range(turns):
                self._step(connection)
            connection.close()

    def _step(self, connection: Connection) -> None:
        self.turn += 1
        kind = self.random.randrange(10)
        key = self.name + b":%d" % self.random.randrange(30)
        value = b"%d" % self.turn + b"." * self.random.randrange(200)
        if kind < 4:
            self._write(connection, [((b"SET", key, value), key, value)])
        elif kind == 4:
            self._write(connection, [((b"DEL", key), key, None)])
        elif kind == 5:
            counter = self.name + b":counter"
            new = b"%d" % (int(self.known(counter) or 0) + 1)
            self._write(connection, [((b"INCR", counter), counter, new)])
        elif kind == 6:
            x, y = self.name + b":x", self.name + b":y"
            self._write(
                connection,
                [
                    ((b"MULTI",), None, None),
                    ((b"SET", x, value), x, value),
                    ((b"SET", y, value), y, value),
                    ((b"EXEC",), None, None),
                ],
            )
        elif kind == 7:
            merged = self.name + b":summary"
            count = int(self.known(merged) or 0) + 1
            delta = pack(Summary(1, (count, 1, 0), (count, 1, 0), {}, {}, {}, {}))
            self._write(connection, [((b"MERGE", merged, delta), merged, b"%d" % count)])
        elif kind == 8:
            self._write(connection, self._pipeline(value))
        else:
            volatile = self.name + b":volatile"
            self._write(connection, [((b"SET", volatile, value, b"PX", b"1"), volatile, value)])
            self.allowed[volatile].append(None)
            while connection.ask(b"GET", volatile) is not None:
                pass
            self.allowed[volatile] = [None]  # it was seen to be gone: never again

    def _pipeline(self, value: bytes) -> list[tuple[tuple[bytes, ...], bytes, bytes | None]]:
        """A pipeline of one kind of command, which the server runs column by column."""
        drawn = [self.name + b":%d" % self.random.randrange(30) for _ in range(8)]
        keys = list(dict.fromkeys(drawn))
        match self.random.randrange(4):
            case 0:
                return [((b"SET", key, value), key, value) for key in keys]
            case 1:
                return [((b"SETEX", key, b"1000", value), key, value) for key in keys]
            case 2:
                return [((b"DEL", key), key, None) for key in keys]
            case _:
                counter = self.name + b":counter"
                n = int(self.known(counter) or 0)
                return [((b"INCR", counter), counter, b"%d" % (n + i)) for i in range(1, 7)]

    def _write(
        self,
        connection: Connection,
        writes: Sequence[tuple[tuple[bytes, ...], bytes | None, bytes | None]],
    ) -> None:
        for _, key, value in writes:
            if key is not None:
                self.allowed.setdefault(key, [None]).append(value)
        connection.send(*(command for command, _, _ in writes))
        for at, (_, key, value) in enumerate(writes, 1):
            reply = connection.read()
            if isinstance(reply, hiredis.ReplyError):
                raise ConnectionError(str(reply))
            if key is not None and reply != b"QUEUED":
                under_way = [later for _, same, later in writes[at:] if same == key]
                self.allowed[key] = [value, *under_way]
        if any(command == (b"EXEC",) for command, _, _ in writes):
            for _, key, value in writes:
                if key is not None:
                    self.allowed[key] = [value]
        self.acknowledged += 1

    def verify(self, port: int) -> None:
        """Ask a server whether all is as it must be; what is found is what is known from now on."""
        connection = Connection(port)
        try:
            for key, allowed in self.allowed.items():
                found = connection.ask(b"GET", key)
                if key.endswith(b":summary") and found is not None:
                    import json

                    found = b"%d" % json.loads(found)["count"]
                if found not in allowed:
                    self.problems.append(f"{key!r}: {found!r} where {allowed!r} is allowed")
                self.allowed[key] = [found]
            x, y = (self.allowed.get(self.name + end, [None]) for end in (b":x", b":y"))
            if x != y:
                self.problems.append(f"half a transaction: {x!r} and {y!r}")
        finally:
            connection.close()


def run_writers(writers: list[Writer], port: int) -> list[threading.Thread]:
    """Let every writer run in a thread of its own."""
    threads = [threading.Thread(target=each.run, args=(port,), daemon=True) for each in writers]
    for thread in threads:
        thread.start()
    return threads
