"""A bare RESP client for tests that look at the very bytes of a reply, and a real Redis beside."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

Arg = bytes | str | int | float


def encode(*args: Arg) -> bytes:
    """Return a command as an array of bulk strings."""
    parts = [_bytes(arg) for arg in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


def _bytes(arg: Arg) -> bytes:
    return arg if isinstance(arg, bytes) else str(arg).encode()


class Wire:
    """One connection; replies come back as the bytes that arrived."""

    def __init__(self, host: str, port: int, timeout_s: float = 10) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, *args: Arg) -> None:
        self.socket.sendall(encode(*args))

    def __call__(self, *args: Arg) -> bytes:
        """Send one command, return its whole reply as bytes."""
        self.send(*args)
        return self.read()

    def line(self, line: str) -> bytes:
        """Send the words of a line as a command."""
        return self(*line.split())

    def many(self, commands: Sequence[Sequence[Arg]]) -> list[bytes]:
        """Send commands in one go, return their replies."""
        self.socket.sendall(b"".join(encode(*command) for command in commands))
        replies: list[bytes] = []
        for command in commands:
            try:
                replies.append(self.read())
            except (OSError, EOFError) as error:
                raise AssertionError(f"no reply to {command}: {error!r}") from error
        return replies

    def read(self) -> bytes:
        """Return the next whole reply or push message."""
        taken = self._read_one(0)
        reply, self.pending = self.pending[:taken], self.pending[taken:]
        return reply

    def read_until_closed(self) -> bytes:
        """Return everything up to the end of the connection."""
        data = self.pending
        self.pending = b""
        while True:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                return data
            if not more:
                return data
            data += more

    def is_closed(self) -> bool:
        """Say whether the other side ends the connection without a further word."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _fill(self, size: int) -> None:
        while len(self.pending) < size:
            more = self.socket.recv(max(65536, size - len(self.pending)))
            if not more:
                raise EOFError(f"closed after {self.pending[:200]!r}")
            self.pending += more

    def _line_end(self, at: int) -> int:
        while True:
            end = self.pending.find(b"\r\n", at)
            if end >= 0:
                return end
            self._fill(len(self.pending) + 1)

    def _read_one(self, at: int) -> int:
        end = self._line_end(at)
        kind, rest = self.pending[at : at + 1], self.pending[at + 1 : end]
        at = end + 2
        if kind in b"+-:_#,(":
            return at
        size = int(rest)
        if size < 0:
            return at
        if kind in b"$=!":
            self._fill(at + size + 2)
            return at + size + 2
        for _ in range(size * (2 if kind in b"%|" else 1)):
            at = self._read_one(at)
        return self._read_one(at) if kind == b"|" else at


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


@contextmanager
def real_redis(directory: Path, *options: str) -> Iterator[int]:
    """Run a real redis-server 7.0 and yield its port; skip where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server here to compare with")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    if "v=7.0." not in version.stdout:
        pytest.skip(f"replies are compared with Redis 7.0, not {version.stdout.strip()}")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    process = subprocess.Popen(
        [program, "--port", str(port), "--save", "", "--dir", str(directory), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with Wire("127.0.0.1", port) as wire:
                if wire("PING") == b"+PONG\r\n":
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError("redis-server did not come up")
        time.sleep(0.02)
