"""The life of a server: lock, recover, serve, stop; and in which order.

Start: raise the limit of open files; bind, so that a taken port is known at once; lock the
directory and replay the journal while early clients get LOADING; then say ``ready``.

Stop (SIGTERM, SIGINT or SHUTDOWN): close the listening sockets, finish the replies that are owed,
write and sync the journal under every policy, exit 0. A second signal does not wait for clients.
A journal that failed ends the server with exit status 74.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Final

import trio

from kvserver.engine import Engine
from kvserver.errors import CommandError, JournalFailedError, KvserverError
from kvserver.journal.directory import open_directory
from kvserver.journal.manager import CompactionManager
from kvserver.journal.recovery import Recovery, recovery_mode
from kvserver.journal.service import JournalService
from kvserver.listening import (
    bind_port,
    bind_unix,
    check_exposure,
    endpoint,
    remove_unix,
    unix_identity,
)
from kvserver.memory import keep_free_memory
from kvserver.reactor import SHORT_LINGER_S, Connection, Reactor
from parser.groups import only_of

if TYPE_CHECKING:
    from kvserver.commands.table import Command
    from kvserver.config import Config
    from kvserver.journal.writer import Journal
    from kvserver.session import Session
    from kvserver.tls import TlsServer

__all__ = ["EXIT_DEVICE_FAILED", "Server", "serve"]

log = logging.getLogger("kvserver")

EXIT_DEVICE_FAILED: Final = 74
TICK_S: Final = 0.02
IDLE_TICK_S: Final = 0.1
GRACE_S: Final = 2.0
SPARE_FILES: Final = 64
"""Descriptors that are not clients: journal, compaction, listening."""
_LOADING_ALLOWED: Final = "loading"


class Server:
    """One server process."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.engine = Engine(config)
        self.reactor = Reactor(self.engine)
        self.tls: TlsServer | None = None
        self.journal: Journal | None = None
        self.port = 0
        self._listening_on: list[str] = []
        self._unix_identity: tuple[int, int] | None = None
        self._stop = trio.Event()
        self._hurry = trio.Event()
        self.engine.shutdown_requested = self.request_stop

    def request_stop(self) -> None:
        """Stop in good order; asking twice means at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def remove_unix_socket(self) -> None:
        """Remove the Unix socket, if this server made one."""
        if self._unix_identity is not None:
            remove_unix(self.config.unix_socket, self._unix_identity)

    async def run(self) -> int:
        """Serve until asked to stop; return the exit status.

        Raises KvserverError when the server cannot start; the message is one line for a person.
        """
        check_exposure(self.config)
        raise_file_limit(self.config)
        for sock in self._bind():
            self.reactor.acceptor.listen(sock)
        status = 0
        async with trio.open_nursery() as nursery:
            if self.tls is not None:
                nursery.start_soon(self.tls.run)
            await nursery.start(self._watch_signals)
            nursery.start_soon(self.reactor.run)
            status = await self._live(nursery)
            nursery.cancel_scope.cancel()
        return status

    async def _live(self, nursery: trio.Nursery) -> int:
        service = await self._recover()
        if service is None:
            return 0
        settle_memory()
        nursery.start_soon(service.run)
        nursery.start_soon(self._compaction(service).run)
        nursery.start_soon(self.reactor.release)
        nursery.start_soon(self._tick)
        log.info("ready to accept connections on %s", ", ".join(self._listening_on))
        await self._stop.wait()
        return await self._finish()

    # ------------------------------------------------------------------------------------ start

    def _bind(self) -> list[socket.socket]:
        """Bind everything there is to listen on; return what the reactor serves."""
        config = self.config
        main = bind_port(config.host, config.port)
        self.port = config.port = main[0].getsockname()[1]
        self._listening_on = [endpoint(sock.getsockname()) for sock in main]
        unix = []
        if config.unix_socket:
            unix.append(bind_unix(config.unix_socket))
            self._unix_identity = unix_identity(config.unix_socket)
            self._listening_on.append(config.unix_socket)
        if not config.tls_cert:
            return main + unix
        from kvserver.tls import TlsServer

        encrypted = bind_port(config.host, config.tls_port) if config.tls_port else main
        config.tls_port = encrypted[0].getsockname()[1]
        if encrypted is not main:
            self._listening_on += [endpoint(sock.getsockname()) for sock in encrypted]
        self.tls = TlsServer(self.engine, self.reactor, encrypted)
        self.reactor.linger_s = SHORT_LINGER_S
        return unix if encrypted is main else main + unix

    async def _recover(self) -> JournalService | None:
        """Replay the journal; None when somebody stopped the server meanwhile."""
        engine, config = self.engine, self.config
        engine.gate("loading", _refuse_while_loading)
        began = time.monotonic()
        directory = open_directory(config.data_dir, create=True)
        recovery = Recovery(directory, mode=recovery_mode(config.log_recovery))
        try:
            said = began
            for done, total in recovery.replay(engine.keyspace.apply_many):
                percent = 100 * done // total if total else 100
                engine.loading = f"{percent} % of the journal is read"
                if time.monotonic() - said >= 1:
                    said = time.monotonic()
                    log.info("loading %d %%", percent)
                await trio.lowlevel.checkpoint()
                if self._stop.is_set():
                    return None
            journal = recovery.open(segment_bytes=config.segment_bytes)
        finally:
            recovery.abandon()
        self.journal = engine.journal = journal
        engine.loading = ""
        engine.gate("loading", None)
        log.info("loaded %d keys in %.3f s", len(engine.keyspace), time.monotonic() - began)
        service = JournalService(journal, config.fsync)
        self.reactor.service = service
        return service

    def _compaction(self, service: JournalService) -> CompactionManager:
        engine, config = self.engine, self.config

        def note_success() -> None:
            engine.last_save_s = time.time()

        manager = CompactionManager(
            service,
            min_bytes=config.compaction_min_bytes,
            ratio=config.compaction_ratio,
            max_patterns=config.max_patterns,
            live_bytes=engine.keyspace.string_bytes,
            on_success=note_success,
        )
        engine.start_compaction = manager.start
        engine.stats_providers["journal"] = service.statistics
        engine.stats_providers["compaction"] = manager.statistics
        return manager

    # --------------------------------------------------------------------------------------- life

    async def _watch_signals(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            task_status.started()
            async for number in received:
                log.info("%s received, stopping", signal.Signals(number).name)
                self.request_stop()

    async def _tick(self) -> None:
        """Expire keys in time; ten times a second, look after everything small."""
        engine, reactor, config = self.engine, self.reactor, self.config
        next_cron = trio.current_time()
        while True:
            await reactor.tick()
            if trio.current_time() >= next_cron:
                next_cron = trio.current_time() + IDLE_TICK_S
                for callback in engine.cron:
                    callback()
                now = time.monotonic()
                if config.client_timeout_s or config.request_timeout_s or config.password:
                    reactor.close_idle(lambda each: overdue(each, config, now))  # noqa: B023 - at once
                engine.stats.forget_unknown(engine.registry)
                engine.stats.look_at_rate()
            await trio.sleep(TICK_S if engine.keyspace.deadlines else IDLE_TICK_S)

    async def _finish(self) -> int:
        """Stop in good order; return the exit status."""
        self.reactor.acceptor.close()
        if self.tls is not None:
            self.tls.stop()
        status = 0
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:

                async def hurry() -> None:
                    await self._hurry.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(hurry)
                await self.reactor.drain(GRACE_S)
                nursery.cancel_scope.cancel()
            assert self.journal is not None
            try:
                await trio.to_thread.run_sync(self.journal.close)
            except KvserverError as error:
                log.critical("%s; what was acknowledged last may be lost", error)
                status = EXIT_DEVICE_FAILED
        log.info("stopped")
        return status


def _refuse_while_loading(session: Session, command: Command, args: list[bytes]) -> None:  # noqa: ARG001 - a gate
    if _LOADING_ALLOWED not in command.flags:
        raise CommandError("LOADING Redis is loading the dataset in memory")


def overdue(connection: Connection, config: Config, now: float) -> bool:
    """Whether a client was idle, or has been sending one request, for too long."""
    session = connection.session
    if not session.authenticated and now - session.opened > config.login_timeout_s:
        return True
    if connection.partial_since:
        if not connection.reader.held_bytes:
            connection.partial_since = 0.0
        elif config.request_timeout_s and now - connection.partial_since > config.request_timeout_s:
            return now - session.last_active > config.request_timeout_s
    return bool(
        config.client_timeout_s
        and not session.subscribed
        and session.pending is None
        and now - session.last_active > config.client_timeout_s
    )


def raise_file_limit(config: Config) -> None:
    """Make room for ``max_clients`` sockets, or say that there is less."""
    try:
        import resource
    except ImportError:  # not on every system
        return
    wanted = config.max_clients + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        new = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
            new = wanted
        with contextlib.suppress(OSError, ValueError):
            if new != wanted:
                resource.setrlimit(resource.RLIMIT_NOFILE, (new, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft != resource.RLIM_INFINITY and soft < wanted:
        config.max_clients = max(1, soft - SPARE_FILES)
        log.warning("the system allows %d open files: at most %d clients", soft, config.max_clients)


def settle_memory() -> None:
    """Tell the garbage collector that what is here stays, and to come seldom; keep freed pages.

    Nearly everything dies by reference counting; a walk over all keys would be a stall.
    """
    keep_free_memory()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 100, 1000)


def serve(config: Config) -> int:
    """Run a server in this process; return its exit status. For ``kvserver.cli``."""
    logging.basicConfig(
        stream=sys.stderr,
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
    )
    server = Server(config)
    try:
        return trio.run(server.run)
    except (KvserverError, BaseExceptionGroup) as error:
        expected = _expected(error)
        if expected is None:
            raise
        sys.stderr.write(f"kvserver: {expected}\n")
        return EXIT_DEVICE_FAILED if isinstance(expected, JournalFailedError) else 1
    finally:
        server.remove_unix_socket()


def _expected(error: BaseException) -> KvserverError | None:
    """Return the error to tell a person about, when there is nothing worse in the group."""
    if isinstance(error, BaseExceptionGroup):
        return only_of(error, KvserverError)
    return error if isinstance(error, KvserverError) else None
