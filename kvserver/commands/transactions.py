"""Transactions: MULTI EXEC DISCARD WATCH UNWATCH.

Commands between MULTI and EXEC are queued by ``Session.execute`` and run here in one go, many of
them isolated: no other client comes between, and the journal holds their effects as one record.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice
from operator import itemgetter
from time import perf_counter_ns
from typing import Final

from kvserver.ahead import LARGE_BYTES, ahead, large_ones
from kvserver.alike import PART_COMMANDS, groups, run_group
from kvserver.calling import call_all, call_in_steps
from kvserver.commands.strings import SLICE_KEYS
from kvserver.commands.table import CommandTable, Reply, Work, at_once, completed
from kvserver.errors import CommandError
from kvserver.isolation import LONG, Steps
from kvserver.resp import NULL_ARRAY, OK, QUEUED
from kvserver.session import Session
from kvserver.ways import QUEUEING

TABLE = CommandTable("transactions")

_FLAGS = "loading stale fast"
_KEYS: Final = frozenset([b"KEYS", b"keys"])
"""As clients spell it; spelled in another way, it makes a transaction run at once."""
_MULTIS: Final = ([b"MULTI"], [b"multi"])
_EXECS: Final = ([b"EXEC"], [b"exec"])
_name_of: Final = itemgetter(0)
_OF_A_MOMENT: Final = frozenset(["keys", "dbsize"])
"""What may be in an isolated transaction once: it tells of all keys at one moment, and that is the
moment at which the transaction happens. Not SCAN and RANDOMKEY: they let overdue keys go, and one
that somebody writes anew meanwhile would go again when the journal is read."""
_WITHOUT_KEYS: Final = frozenset(["publish", "ping", "echo", "time", *_OF_A_MOMENT])
"""What may be among the commands of an isolated transaction though it names no key."""


@TABLE.command("multi", 1, _FLAGS, since="1.2.0", complexity="O(1)")
def multi(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Starts a transaction: commands are queued until EXEC."""
    if session.queue is not None:
        raise CommandError("ERR MULTI calls can not be nested")
    session.queue = []
    session.queue_failed = False
    session.retable()
    return OK


@TABLE.command("exec", 1, "loading stale", since="1.2.0", complexity="That of the commands")
def exec_(session: Session, args: list[bytes]) -> Reply:
    """Runs the queued commands at once, unless a watched key was touched."""
    queue = session.queue
    if queue is None:
        raise CommandError("ERR EXEC without MULTI")
    if (_is_long(queue) or session.queued_bytes > LARGE_BYTES) and not session.queue_failed:
        return _exec_in_slices(session, args, queue)
    if _is_cancelled(session):
        return NULL_ARRAY[session.resp]
    return _exec_at_once(session, args, queue)


def _exec_quickly(session: Session, args: list[bytes]) -> bytes:
    """The same for what is short and watches nothing, of a client in plain state."""
    queue = session.queue
    if (
        queue is None
        or len(args) != 1
        or session.queue_failed
        or not _is_short(session, queue, session.queued_bytes)
    ):
        return session.execute(args)
    session.queue = None
    session.retable()
    return _run_short(session, args, queue)


def whole_transaction(
    session: Session, commands: list[list[bytes]], start: int
) -> tuple[int, bytes] | None:
    """Run a MULTI, what follows and its EXEC, which came together, of a client in plain state.

    Returns the position behind them and all replies joined, or None when something else begins at
    ``start``: then nothing has happened.
    """
    if commands[start] not in _MULTIS:
        return None
    queueable = session.engine.registry.queueable
    queue: list[list[bytes]] = []
    size = 0
    for args in islice(commands, start + 1, None):
        command = queueable.get(args[0])
        if command is None:
            break
        if command.wrong_arity(len(args)):
            return None
        queue.append(args)
        size += sum(map(len, args))
    else:
        return None
    if (
        args not in _EXECS
        or not _is_short(session, queue, size)
        or len(queue) > session.engine.config.max_queued_commands
    ):
        return None
    replies = OK + QUEUED * len(queue) + _run_short(session, args, queue)
    return start + len(queue) + 2, replies


def _is_short(session: Session, queue: list[list[bytes]], size: int) -> bool:
    """Whether a transaction of so many bytes may run at once without a further look."""
    return not (size > LARGE_BYTES or session.engine.watches.watched_by(session) or _is_long(queue))


def _run_short(session: Session, args: list[bytes], queue: list[list[bytes]]) -> bytes:
    engine = session.engine
    began = perf_counter_ns()
    session.about["exec"] = True
    replies: list[bytes] = []
    for handler, some in groups(queue):
        joined = run_group(session, handler, some) if handler is not None else None
        replies += call_all(session, some) if joined is None else (joined,)
    del session.about["exec"]
    engine.stats.timed(session, engine.registry.commands["exec"], args, perf_counter_ns() - began)
    return b"" if session.silent else b"*%d\r\n%b" % (len(queue), b"".join(replies))


QUEUEING.update(dict.fromkeys((b"EXEC", b"exec"), _exec_quickly))


def _is_long(queue: list[list[bytes]]) -> bool:
    """Whether a transaction is of many commands, or of many keys, or looks at all keys."""
    return (
        len(queue) > LONG
        or sum(map(len, queue)) > 3 * LONG
        or not _KEYS.isdisjoint(map(_name_of, queue))
    )


def _is_cancelled(session: Session) -> bool:
    """End the transaction; whether it is not to run. Raises CommandError when it is broken."""
    failed = session.queue_failed
    touched = session.engine.watches.touched(session)
    session.end_transaction()
    if failed:
        raise CommandError("EXECABORT Transaction discarded because of previous errors.")
    return touched


def _exec_at_once(session: Session, args: list[bytes], queue: list[list[bytes]]) -> bytes:
    engine = session.engine
    session.about["exec"] = True
    if engine.quick_table is None or session.about.get("no_touch"):
        reply = b"*%d\r\n%b" % (len(queue), b"".join(at_once(_run_each(session, queue))))
    else:
        parts = at_once(_run_in_groups(session, queue))
        reply = parts if isinstance(parts, bytes) else b"".join(parts)
    del session.about["exec"]
    _show(session, args)
    return reply


def _show(session: Session, args: list[bytes]) -> None:
    """Show a command to those who use MONITOR, if there are any."""
    engine = session.engine
    if "monitor" in engine.gates and (command := engine.registry.find(args[0])) is not None:
        engine.monitors.show(session, command.resolve(args), args)


def _exec_in_slices(session: Session, args: list[bytes], queue: list[list[bytes]]) -> Work:
    keys, large = yield from _surveyed(session, queue)
    reply = ahead(session, large, lambda: _exec_isolated(session, args, queue, keys))
    return (yield from completed(reply))


def _exec_isolated(
    session: Session, args: list[bytes], queue: list[list[bytes]], keys: dict[bytes, None] | None
) -> Work:
    """Run a transaction, isolated if it is known which keys it touches."""
    isolation = session.engine.isolation
    yield from isolation.others(session)
    if _is_cancelled(session):
        return NULL_ARRAY[session.resp]
    if keys is None or not isolation.suits(session) or session.about.get("no_touch"):
        return _exec_at_once(session, args, queue)
    reply = yield from isolation.run(session, keys, _run_in_groups(session, queue))
    _show(session, args)
    return reply


def _surveyed(
    session: Session, queue: list[list[bytes]]
) -> Generator[None, None, tuple[dict[bytes, None] | None, list[bytes]]]:
    """Return what is to be known of a transaction before it runs.

    Returns:
        The keys of all commands, and those that are watched: nobody changes one between the look
        at the watches and the end. None when they are few or when a command does more than touch
        its keys. And the arguments that are worth to be written ahead.
    """
    keys: dict[bytes, None] | None = None
    if _is_long(queue):
        keys = dict.fromkeys(session.engine.watches.watched_by(session))
    large: list[bytes] = []
    moments = 0
    find = session.engine.registry.find
    for start in range(0, len(queue), PART_COMMANDS):
        for queued in queue[start : start + PART_COMMANDS]:
            command = find(queued[0])
            assert command is not None, "it would not have been queued"
            if "write" in command.flags:
                large += large_ones(queued)
            if keys is None:
                continue
            found = command.resolve(queued).keys(queued)
            if not found:
                moments += command.name in _OF_A_MOMENT
                if moments > 1 or command.name not in _WITHOUT_KEYS:
                    keys = None
                continue
            for at in range(0, len(found), SLICE_KEYS):
                keys.update(dict.fromkeys(found[at : at + SLICE_KEYS]))
                if at:
                    yield
        yield
    return keys, large


def _run_in_groups(session: Session, queue: list[list[bytes]]) -> Steps:
    """Run what was queued, neighbours that are alike together, a part in each step.

    Takes the commands out of the queue, so that they need not be freed all at the end.
    """
    parts = [b"*%d\r\n" % len(queue)]
    monitored = "monitor" in session.engine.gates
    queue.reverse()
    while queue:
        part = queue[: -PART_COMMANDS - 1 : -1]
        del queue[-PART_COMMANDS:]
        replies: list[bytes] = []
        for handler, some in groups(part):
            joined = None
            if handler is not None and session.tracking is None and not monitored:
                joined = run_group(session, handler, some)
            replies += (yield from _run_each(session, some)) if joined is None else (joined,)
        if sum(map(len, replies)) < LARGE_BYTES:
            replies = [b"".join(replies)]
        parts += replies
        yield None
    return parts


def _run_each(session: Session, queue: list[list[bytes]]) -> Generator[object, None, list[bytes]]:
    engine = session.engine
    if not engine.gates and session.tracking is None and not engine.isolation.is_of(session):
        return call_all(session, queue)
    replies = []
    for queued in queue:
        _show(session, queued)
        is_long = len(queued) > SLICE_KEYS or queued[0] in _KEYS
        if is_long and engine.isolation.is_of(session):
            replies += yield from call_in_steps(session, queued)
        else:
            replies += call_all(session, [queued])
        if session.tracking is not None and (command := engine.registry.find(queued[0])):
            yield from engine.tracking.remembered(session, command.resolve(queued), queued)
    return replies


@TABLE.command("discard", 1, _FLAGS, since="2.0.0", complexity="O(1)")
def discard(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Drops the queued commands and ends the transaction."""
    if session.queue is None:
        raise CommandError("ERR DISCARD without MULTI")
    session.end_transaction()
    return OK


@TABLE.command("watch", -2, _FLAGS, keys=(1, -1, 1), since="2.2.0", complexity="O(1) for each key")
def watch(session: Session, args: list[bytes]) -> bytes:
    """Lets the next EXEC fail when one of the keys is touched before."""
    if session.queue is not None:
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    session.engine.watches.watch(session, args[1:])
    return OK


@TABLE.command("unwatch", 1, _FLAGS, since="2.2.0", complexity="O(1)")
def unwatch(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Forgets all watched keys."""
    session.engine.watches.forget(session)
    return OK
