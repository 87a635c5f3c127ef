"""A server that answers as the test says; real sockets, no real server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kvclient.protocol import Decoder

CLOSE = object()
"""Answer: close the connection."""
SILENCE = object()
"""Answer: nothing."""

Answer = Callable[[int, list[bytes]], Any]


class FakeServer:
    """``answer(connection number from 1, command)`` gives bytes, CLOSE or SILENCE.

    HELLO is answered with an empty map unless ``answer`` is asked to (``greets=False``).
    """

    def __init__(
        self, answer: Answer, *, greets: bool = True, tls: ssl.SSLContext | None = None
    ) -> None:
        self.commands: list[list[bytes]] = []
        self.connections = 0
        self._answer = answer
        self._greets = greets
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(
                target=self._serve, args=(connection, self.connections), daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        decoder = Decoder()
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            while data := connection.recv(65536):
                decoder.feed(data)
                for command in decoder.replies():
                    if self._greets and command[0] == b"HELLO":
                        connection.sendall(b"%0\r\n")
                        continue
                    self.commands.append(command)
                    answer = self._answer(number, command)
                    if answer is CLOSE:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    if answer is not SILENCE:
                        connection.sendall(answer)


@contextlib.contextmanager
def fake_server(
    answer: Answer, *, greets: bool = True, tls: ssl.SSLContext | None = None
) -> Iterator[FakeServer]:
    server = FakeServer(answer, greets=greets, tls=tls)
    try:
        yield server
    finally:
        server.close()
