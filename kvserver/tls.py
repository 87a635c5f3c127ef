"""Clients over TLS: a Trio task each, on the same sessions and the same journal as all others.

Encryption costs more than everything the reactor saves, so here a task a connection is good enough.
The order is the reactor's: commands run, their effects go to the journal, then the replies leave.

Cancellation and closing: a connection ends when its client goes, when the session says so, when it
sends no request or reads no reply for too long, or when the server stops. A handshake that does not
finish within ``HANDSHAKE_S`` is dropped, and there are never more than ``MAX_HANDSHAKES`` at once.
"""

from __future__ import annotations

import logging
import math
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final

import trio

from kvserver.errors import ConfigError, JournalFailedError
from kvserver.listening import endpoint
from kvserver.requests import RequestReader

if TYPE_CHECKING:
    from kvserver.config import Config
    from kvserver.engine import Engine
    from kvserver.reactor import Reactor
    from kvserver.session import Session

__all__ = ["HANDSHAKE_S", "TlsServer", "tls_context"]

log = logging.getLogger("kvserver")

HANDSHAKE_S: Final = 10.0
MAX_HANDSHAKES: Final = 100
RECEIVE_BYTES: Final = 65536
SEND_BYTES: Final = 1 << 18


def tls_context(config: Config) -> ssl.SSLContext:
    """Return the settings of TLS: 1.2 or newer, a client's certificate when a CA is named.

    Raises ConfigError when a file cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cannot use the certificate {config.tls_cert} with the key {config.tls_key}: {error}"
        ) from error
    if config.tls_ca_cert:
        try:
            context.load_verify_locations(config.tls_ca_cert)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use the CA {config.tls_ca_cert}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class _Client:
    """The transport of one session: keeps what is to be sent, and says when there is some."""

    def __init__(self, engine: Engine, session: Session, scope: trio.CancelScope) -> None:
        self._engine = engine
        self._session = session
        self._scope = scope
        self._unsent: list[bytes] = []
        self.unsent_bytes = 0
        self.more = trio.Event()
        """Set when there is something to send, or the session is to be closed."""
        self.resumed = trio.Event()
        """Set when a suspended command of this session has ended."""

    def flush(self) -> None:
        """Take over what the session has to say; close a client that does not read."""
        session = self._session
        data = session.take()
        if data:
            self._unsent.append(data)
            self.unsent_bytes += len(data)
        if self.unsent_bytes > self._limit() and session.pending is None:
            self._engine.stats.output_limit_closed += 1
            log.warning("client %d does not read: %d bytes of output, closed", session.id,
                        self.unsent_bytes)  # fmt: skip
            self.close()
            return
        if session.pending is None:
            self.resumed.set()
        if data or session.closing:
            self.more.set()

    def _limit(self) -> int:
        config = self._engine.config
        if not self._session.authenticated:
            return config.max_unauthenticated_output_bytes
        if self._session.subscribed:
            return config.max_pubsub_output_bytes
        return config.max_output_bytes

    def take(self) -> bytes:
        """Return and forget what is to be sent."""
        data = b"".join(self._unsent)
        self._unsent.clear()
        self.more = trio.Event()
        return data

    def sent(self, size: int) -> None:
        """Note that so much has left."""
        self.unsent_bytes -= size

    def close(self) -> None:
        """End the connection now."""
        self._scope.cancel()


class TlsServer:
    """Accepts and serves clients on listening sockets."""

    def __init__(self, engine: Engine, reactor: Reactor, socks: list[socket.socket]) -> None:
        self._engine = engine
        self._reactor = reactor
        self._context = tls_context(engine.config)
        self._socks = socks
        self._accepting = trio.CancelScope()
        self._handshakes = trio.CapacityLimiter(MAX_HANDSHAKES)

    async def run(self) -> None:
        """Serve until ``stop``, then until the clients are gone or this is cancelled."""
        async with trio.open_nursery() as nursery:
            with self._accepting:
                async with trio.open_nursery() as accepting:
                    for sock in self._socks:
                        accepting.start_soon(self._accept, sock, nursery)

    async def _accept(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        sock.setblocking(False)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    log.warning("cannot accept TLS clients: %s; trying again", error.strerror)
                    await trio.sleep(0.1)
                    continue
                nursery.start_soon(self._guarded, stream)

    def stop(self) -> None:
        """Accept nobody any more."""
        self._accepting.cancel()

    async def _guarded(self, stream: trio.SocketStream) -> None:
        """Serve one client; whatever happens is its own affair."""
        try:
            await self._serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError):
            pass
        except JournalFailedError:
            raise  # that is the whole server's affair
        except Exception as error:
            self._engine.stats.internal_errors += 1
            log.exception("internal error on a TLS connection", exc_info=error)
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        engine = self._engine
        if len(engine.sessions) >= engine.config.max_clients:
            engine.stats.rejected_connections += 1
            return
        address = endpoint(stream.socket.getpeername())
        tls = trio.SSLStream(stream, self._context, server_side=True, https_compatible=True)
        try:
            async with self._handshakes:
                with trio.fail_after(HANDSHAKE_S):
                    await tls.do_handshake()
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            log.info("no TLS handshake with %s: %s", address, error.__cause__ or "too slow")
            return
        session = engine.session(address, endpoint(stream.socket.getsockname()))
        try:
            with trio.CancelScope() as scope:
                client = _Client(engine, session, scope)
                session.transport = client
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send, tls, session, client)
                    await self._receive(tls, session, client)
                    nursery.cancel_scope.cancel()
        finally:
            engine.close(session)

    async def _receive(self, tls: trio.SSLStream[trio.SocketStream], session: Session,
                       client: _Client) -> None:  # fmt: skip
        engine = self._engine
        config = engine.config
        reader = RequestReader(config, limited=not session.authenticated)
        until_s = trio.current_time() + config.login_timeout_s
        while not session.closing:
            if session.authenticated:
                until_s, reader.limited = math.inf, False
            with trio.move_on_at(min(until_s, self._patience(session, reader))) as patience:
                data = bytes(await tls.receive_some(RECEIVE_BYTES))
            if patience.cancelled_caught or not data:
                return
            await self._reactor.committed()
            engine.keyspace.tick()
            engine.stats.net_in_bytes += len(data)
            session.last_active = time.monotonic()
            self._reactor.read(session, reader, data)
            if reader.error is None and reader.held_bytes > config.max_query_bytes:
                engine.stats.query_limit_closed += 1
                return
            engine.dirty[session] = None
            client.resumed = trio.Event()
            suspended = session.pending is not None
            await self._reactor.settle()
            if suspended:
                engine.nudge()
                await client.resumed.wait()
            if reader.error is not None and not session.closing:
                session.protocol_error(reader.error)
                await self._reactor.settle()
        await trio.sleep_forever()  # the sender closes when everything has been sent

    def _patience(self, session: Session, reader: RequestReader) -> float:
        """Until when the next bytes must come."""
        config = self._engine.config
        if reader.held_bytes and config.request_timeout_s:
            return trio.current_time() + config.request_timeout_s
        if config.client_timeout_s and not session.subscribed:
            return trio.current_time() + config.client_timeout_s
        return math.inf

    async def _send(self, tls: trio.SSLStream[trio.SocketStream], session: Session,
                    client: _Client) -> None:  # fmt: skip
        while True:
            await client.more.wait()
            data = client.take()
            if data:
                for at in range(0, len(data), SEND_BYTES):
                    piece = data[at : at + SEND_BYTES]
                    await tls.send_all(piece)
                    client.sent(len(piece))
                self._engine.stats.net_out_bytes += len(data)
            elif session.closing:
                client.close()
                return
            if session.closing:
                client.more.set()
