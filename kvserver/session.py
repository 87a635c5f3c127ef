"""One client without its socket: what it said about itself, its state, its output.

Guarantees:

* Replies leave in the order of the commands, also when one of them is suspended.
* What is in ``out`` leaves only after the effects of the turn are in the journal: a session never
  sends, its owner (the reactor, a TLS stream, a test) takes the bytes with ``take``.

The quick way: ``session.table[args[0]](session, args)``. As long as nothing special is going on the
table is the registry itself; else it is one of `ways`. Whoever changes a state that has a say in it
calls ``retable``.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from kvserver import resp
from kvserver.admission import admit
from kvserver.ahead import ahead
from kvserver.commands.table import (
    NEXT_TURN,
    NOT_QUEUED,
    Caller,
    Command,
    Reply,
    Work,
    completed,
    unknown_command,
)
from kvserver.errors import CommandError
from kvserver.ways import BACKLOG, DROPPED, GATE, LARGE, QUEUEING

if TYPE_CHECKING:
    from kvserver.engine import Engine
    from kvserver.keyspace import Keyspace
    from kvserver.tracking import Mode

__all__ = ["Session"]

_ids = itertools.count(1)


class Session:
    """State of one client. Everything else about it is in ``about``, free for the families."""

    __slots__ = (
        "about",
        "address",
        "authenticated",
        "backlog",
        "closing",
        "created",
        "engine",
        "id",
        "keyspace",
        "last_active",
        "last_called",
        "last_subcommand",
        "lib_name",
        "lib_version",
        "local_address",
        "name",
        "null",
        "opened",
        "out",
        "pending",
        "queue",
        "queue_failed",
        "queued_bytes",
        "resp",
        "silent",
        "subscribed",
        "suspended_since",
        "table",
        "tracking",
        "transport",
        "user",
    )

    def __init__(self, engine: Engine, address: str = "", local_address: str = "") -> None:
        self.engine = engine
        self.keyspace: Keyspace = engine.keyspace
        self.id = next(_ids)
        self.address = address
        self.local_address = local_address
        self.name = b""
        self.lib_name = b""
        self.lib_version = b""
        self.user = "default"
        self.created = time.time()
        self.opened = self.last_active = time.monotonic()
        self.last_called = b""
        """The name of the last command, as it was sent."""
        self.last_subcommand = ""
        """What the last command that has subcommands was, as in ``client|list``."""
        self.resp = 2
        self.null = resp.NULL[2]
        """The reply for no value in this session's protocol version."""
        self.authenticated = not engine.config.password
        self.out: list[bytes] = []
        """Replies and messages that have not left yet."""
        self.queue: list[list[bytes]] | None = None
        """The commands since MULTI; None outside."""
        self.queue_failed = False
        self.queued_bytes = 0
        self.subscribed = 0
        """Number of channels and patterns."""
        self.tracking: Mode | None = None
        """How it tracks the keys it reads, if it does."""
        self.silent = 0
        """Commands run but replies are dropped: 1 for the next command, 2 until told otherwise."""
        self.closing = False
        """Close once what is in ``out`` has been sent."""
        self.pending: Work | None = None
        self.suspended_since: tuple[Command, list[bytes], int] | None = None
        self.backlog: list[list[bytes]] = []
        self.about: dict[str, Any] = {}
        self.transport: Any = None
        """Whatever moves the bytes; has ``wake(session)``."""
        self.table: dict[bytes, Caller] = engine.registry
        self.retable()

    # ---------------------------------------------------------------------------------- running

    def retable(self) -> None:
        """Choose the way commands take, after a state changed that has a say in it."""
        if self.closing:
            self.table = DROPPED
        elif self.pending is not None:
            self.table = BACKLOG
        elif (
            not self.authenticated
            or self.subscribed
            or self.silent
            or self.tracking is not None
            or self.about.get("no_touch")
            or self.engine.quick_table is None
        ):
            self.table = GATE
        elif self.queue is None:
            self.table = self.engine.quick_table
        else:
            self.table = GATE if self.engine.gates else QUEUEING

    def run(self, args: list[bytes]) -> bytes:
        """Run one command to its end and return its reply; for tests."""
        try:
            reply = self.table[args[0]](self, args)
        except CommandError as error:
            return self.failed_call(args, error.text)
        return reply if self.pending is None else self.to_end()

    def execute(self, args: list[bytes], *, large: bool = False) -> bytes:
        """The long way of a command: everything that can stand between a client and a handler."""
        if self.silent != 1:
            return self._execute(args, large=large)
        reply = self._execute(args, large=large)
        if self.pending is None and self.silent == 1:
            self.silent = 0
            self.retable()
            return b""
        return reply

    def expect_large(self) -> None:
        """Let what the next command brings, which is large, go to the journal ahead of it."""
        if self.table is self.engine.quick_table or self.table is GATE or self.table is QUEUEING:
            self.table = LARGE

    def _execute(self, args: list[bytes], *, large: bool = False) -> bytes:
        command = self.engine.registry.find(args[0])
        if command is None:
            reply = unknown_command(self, args)
            self.queue_failed = self.queue is not None
            return b"" if self.silent else reply
        try:
            command = command.resolve(args)
            admit(self, command, args)
        except CommandError as error:
            return self._refuse(command, error.text)
        if self.queue is not None and command.name not in NOT_QUEUED:
            return self._enqueue(command, self.queue, args)
        if self.tracking is None:
            return self._begin(command, args, large=large)
        return self.engine.tracking.follow(
            self, command, args, lambda: self._begin(command, args, large=large)
        )

    def _begin(self, command: Command, args: list[bytes], *, large: bool) -> bytes:
        """Run a command that was let through, or let it wait for what it has to wait for."""
        if large and "write" in command.flags:
            work = ahead(self, args, lambda: self._held_back(command, args))
            assert not isinstance(work, bytes)
            return self.suspend(command, args, work)
        if self.engine.holds_back(command) or self.engine.isolation.concerns(self, command, args):
            return self.suspend(command, args, self._held_back(command, args))
        reply = self.engine.registry[args[0]](self, args)
        return b"" if self.silent else reply

    def _held_back(self, command: Command, args: list[bytes]) -> Work:
        """Run a command once CLIENT PAUSE, or the isolated write that it concerns, is over."""
        isolation = self.engine.isolation
        while True:
            if self.engine.holds_back(command):
                yield time.monotonic() + 0.05
            elif isolation.concerns(self, command, args):
                yield from isolation.wait(self)
            else:
                break
        self.suspended_since = (command, args, time.perf_counter_ns())  # it begins only now
        return (yield from completed(command.handler(self, args)))

    def end_transaction(self) -> None:
        """Forget what was queued and what was watched."""
        self.queue = None
        self.queue_failed = False
        self.engine.watches.forget(self)
        self.retable()

    def enqueue(self, args: list[bytes]) -> bytes:
        """Keep a command for EXEC where nothing but MULTI stands between a client and a handler."""
        command, queue = self.engine.registry.queueable.get(args[0]), self.queue
        if command is None or queue is None or command.wrong_arity(len(args)):
            return self.execute(args)
        return self._enqueue(command, queue, args)

    def _enqueue(self, command: Command, queue: list[list[bytes]], args: list[bytes]) -> bytes:
        config = self.engine.config
        self.queued_bytes = (self.queued_bytes if queue else 0) + sum(map(len, args))
        if len(queue) >= config.max_queued_commands or self.queued_bytes > config.max_query_bytes:
            return self._refuse(command, "ERR the transaction is too large")
        queue.append(args)
        return b"" if self.silent else resp.QUEUED

    def _refuse(self, command: Command, text: str) -> bytes:
        """Answer a command that is not let through; a transaction it belongs to is doomed."""
        if self.queue is not None:
            self.queue_failed = True
        reply = self.rejected(command.name, text)
        return b"" if self.silent else reply

    def to_end(self) -> bytes:
        """Go on with the suspended command to its end; return its reply."""
        done: bytes | list[bytes] | None = None
        while self.pending is not None:
            done = self.advance(1_000_000_000)
        return b"".join(done) if isinstance(done, list) else done or b""

    # ------------------------------------------------------------------------------- suspending

    def suspend(self, command: Command, args: list[bytes], work: Work) -> bytes:
        """Go on with a long command in slices; its reply, and all later ones, come afterwards."""
        self.pending = work
        self.suspended_since = (command, args, time.perf_counter_ns())
        self.engine.suspended[self] = None
        self.retable()
        return b""

    def hold(self, work: Work) -> None:
        """Keep later commands back until ``work`` is done; its reply is empty."""
        self.pending = work
        self.engine.suspended[self] = None
        self.retable()

    def in_parts(self, parts: list[bytes]) -> Reply:
        """Return what a handler returns for a large reply: the parts leave without being joined."""
        if self.pending is not None:  # a command that was held back: it is done
            return _done(parts)
        self.hold(_given(parts))
        return b""

    def advance(self, budget_ns: int) -> bytes | list[bytes] | None:
        """Work on the suspended command for about that long; return its reply when it is done.

        An error in it is a reply too: the session is free again in any case.
        """
        assert self.pending is not None
        until = time.perf_counter_ns() + budget_ns
        tracking = self.engine.tracking
        before, tracking.writer = tracking.writer, self  # a transaction may go on behind it
        try:
            while True:  # at least one step, however small the budget
                wake_at_s = next(self.pending)
                if wake_at_s is not None:
                    if wake_at_s != NEXT_TURN:
                        self.engine.sleep(self, wake_at_s)
                    return None
                if time.perf_counter_ns() >= until:
                    return None
        except StopIteration as done:
            reply: bytes | list[bytes] = done.value
        except CommandError as error:
            since = self.suspended_since
            reply = self.failed(since[0].name, error.text) if since else self.error(error.text)
        except Exception as error:  # noqa: BLE001 - one client's fault is never another's
            reply = self.engine.internal_error(self, error)
        finally:
            tracking.writer = before
        self._resume()
        if self.silent == 1:
            self.silent = 0
            self.retable()
            return b""
        return b"" if self.silent else reply

    def abandon(self) -> None:
        """Drop the suspended command; the client is gone.

        Only a long write that has begun goes on, to nobody: others would wait for the rest of it.
        """
        self.backlog.clear()
        if self.pending is not None and not self.engine.isolation.is_of(self):
            self.pending.close()
            self.pending = None
            self.engine.suspended.pop(self, None)
            self.engine.sleeping.pop(self, None)

    def _resume(self) -> None:
        since, self.suspended_since = self.suspended_since, None
        self.pending = None
        self.engine.suspended.pop(self, None)
        self.engine.sleeping.pop(self, None)
        if since is not None:
            command, args, began = since
            self.engine.stats.timed(self, command, args, time.perf_counter_ns() - began)
        if self.tracking is not None:
            self.engine.tracking.answered(self)
        self.retable()

    # ----------------------------------------------------------------------------------- errors

    def error(self, text: str) -> bytes:
        """Count an error that belongs to no command of ours; return the reply that says so."""
        self.engine.stats.count_error(text)
        return resp.error(text)

    def protocol_error(self, reason: str) -> None:
        """Say what is wrong with the client's bytes, then close the connection."""
        self.engine.stats.protocol_errors += 1
        self.out.append(self.error(f"ERR {reason}"))
        self.close_after_reply()

    def rejected(self, name: str, text: str) -> bytes:
        """The same of a command that was not let through to its handler.

        EXEC ends the transaction, and the watches, all the same, and says so.
        """
        self.engine.stats.rejected_calls[name] += 1
        if name == "exec":
            self.end_transaction()
            text = f"EXECABORT Transaction discarded because of: {text.removeprefix('ERR ')}"
        return self.error(text)

    def failed(self, name: str, text: str) -> bytes:
        """The same of a command whose handler ended in an error."""
        self.engine.stats.failed_calls[name] += 1
        return self.error(text)

    def failed_call(self, args: list[bytes], text: str) -> bytes:
        """The same of a call, where the command itself is not at hand."""
        command = self.engine.registry.find(args[0])
        return self.failed(command.name, text) if command is not None else self.error(text)

    # ----------------------------------------------------------------------------------- output

    def answer(self, reply: bytes | list[bytes]) -> None:
        """Append what `advance` returned to what is to be sent."""
        if isinstance(reply, list):
            self.out += reply
        else:
            self.out.append(reply)

    def push(self, message: bytes) -> None:
        """Send something that is no reply (a message to a subscriber), once the turn is durable."""
        self.out.append(message)
        self.engine.dirty[self] = None

    def use_protocol(self, version: int) -> None:
        """Speak RESP2 or RESP3 from the next reply on."""
        self.resp = version
        self.null = resp.NULL[version]

    def close_after_reply(self) -> None:
        """Close the connection when everything in ``out`` has been sent; run nothing more."""
        self.closing = True
        self.retable()
        self.engine.dirty[self] = None

    def take(self) -> bytes:
        """Return and forget what is to be sent."""
        sent = b"".join(self.out)
        self.out.clear()
        return sent


def _given(parts: list[bytes]) -> Work:
    yield None
    return parts


def _done(parts: list[bytes]) -> Work:
    yield from ()
    return parts
