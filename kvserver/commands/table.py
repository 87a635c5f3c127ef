"""What a command is, and how it is found and called. No I/O, no data.

The registry is a dict from the name as it came over the wire to a callable: the quick way from a
request to its handler is one look-up and one call. Commands whose handler checks its own arguments
(``checks_itself``) are called bare; others through a small wrapper that checks the arity, turns
CommandError into a reply, and (unless ``fast``) measures and may suspend the command.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from kvserver.errors import CommandError

if TYPE_CHECKING:
    from kvserver.session import Session

__all__ = [
    "NEXT_TURN",
    "NOT_QUEUED",
    "Command",
    "CommandTable",
    "Handler",
    "Registry",
    "Reply",
    "Work",
    "at_once",
    "completed",
    "shown",
    "unknown_command",
]

log = logging.getLogger("kvserver")

Work: TypeAlias = "Generator[float | None, None, bytes | list[bytes]]"
"""A long command in slices; what it yields is None, or when to go on (``time.monotonic``). A large
reply is returned in parts, so that nobody has to join them."""
NEXT_TURN: Final = 0.0
"""Yielded by what goes on only when other clients have had their turn."""
NOT_QUEUED: Final = frozenset(["exec", "discard", "multi", "watch", "quit", "reset"])
"""What runs at once inside MULTI, too."""
_T = TypeVar("_T")
Reply: TypeAlias = "bytes | Work"
Handler: TypeAlias = "Callable[[Session, list[bytes]], Reply]"
Caller: TypeAlias = "Callable[[Session, list[bytes]], bytes]"

MAX_SHOWN_BYTES: Final = 128
"""How much of a client's own text an error repeats."""


def shown(raw: bytes) -> str:
    """Return what an error repeats of a client's own text: its beginning, up to a NUL."""
    return raw[:MAX_SHOWN_BYTES].partition(b"\0")[0].decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what COMMAND tells about it, and its handler."""

    name: str
    """In small letters."""
    arity: int
    """Number of arguments, the name included; negative: at least so many."""
    flags: frozenset[str]
    """Redis's names: write readonly denyoom admin pubsub loading stale fast no_auth no_multi …"""
    first_key: int
    last_key: int
    step: int
    handler: Handler
    group: str
    summary: str = ""
    since: str = "1.0.0"
    complexity: str = ""
    checks_itself: bool = False
    subcommands: Mapping[str, Command] = field(default_factory=dict)
    """Of a container such as CLIENT: second word in small letters -> command."""

    def resolve(self, args: list[bytes]) -> Command:
        """Return the subcommand that a call means, or the command itself when it has none.

        Raises CommandError when there is no such subcommand.
        """
        if not self.subcommands or len(args) < 2:
            return self
        found = self.subcommands.get(args[1].decode("latin-1").lower())
        if found is None:
            raise CommandError(
                f"ERR unknown subcommand '{shown(args[1])}'. Try {self.name.upper()} HELP."
            )
        return found

    def wrong_arity(self, count: int) -> bool:
        """Whether so many arguments are too few or too many."""
        return count != self.arity if self.arity >= 0 else count < -self.arity

    def keys(self, args: list[bytes]) -> list[bytes]:
        """Return the keys among the arguments of a call."""
        if self.first_key == 0:
            return []
        last = self.last_key if self.last_key >= 0 else len(args) + self.last_key
        return args[self.first_key : last + 1 : self.step]


class CommandTable:
    """Collects the commands of one family."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._commands: list[Command] = []
        self._container = ""
        self._subcommands: dict[str, Command] = {}

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands)

    def command(
        self,
        name: str,
        arity: int,
        flags: str,
        *,
        keys: tuple[int, int, int] = (0, 0, 0),
        since: str = "1.0.0",
        complexity: str = "",
        checks_itself: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Return a decorator that enters a handler into the table and leaves it as it is."""

        def enter(handler: Handler) -> Handler:
            summary = (handler.__doc__ or "").strip().partition("\n")[0]
            command = Command(
                f"{self._container}|{name}" if self._container else name,
                arity,
                frozenset(flags.split()),
                *keys,
                handler,
                self.group,
                summary,
                since,
                complexity,
                checks_itself,
            )
            self._commands.append(command)
            if self._container:
                self._subcommands[name] = command
            return handler

        return enter

    def container(
        self, name: str, summary: str, since: str = "1.0.0", *, alone: Handler | None = None
    ) -> CommandTable:
        """Add a command that only leads to subcommands; enter those into the table returned.

        ``alone`` answers the bare name, which is an error otherwise.

        ``args[0]`` of a subcommand's handler is the container's name, ``args[1]`` its own; its
        arity counts both.
        """
        table = CommandTable(self.group)
        table._container = name
        subcommands = table._subcommands

        def dispatch(session: Session, args: list[bytes]) -> Reply:
            if alone is not None and len(args) == 1:
                return alone(session, args)
            return container.resolve(args).handler(session, args)

        container = Command(
            name,
            -2 if alone is None else -1,
            frozenset(),
            0,
            0,
            0,
            dispatch,
            self.group,
            summary,
            since,
            "Depends on subcommand.",
            subcommands=subcommands,
        )
        self._commands.append(container)
        return table


class Registry(dict[bytes, Caller]):
    """Name as sent -> what to call with (session, args); never fails.

    Holds each name in small and in capital letters, which is how clients write them; other
    spellings and unknown names go through ``__missing__`` and are not remembered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.commands: dict[str, Command] = {}
        self._spelled: dict[bytes, Command] = {}
        self.queueable: dict[bytes, Command] = {}
        """By the usual spellings, what may be queued after MULTI whatever its arguments are."""

    def add(self, command: Command) -> None:
        """Enter a command; a name that is there already is a mistake of ours."""
        assert command.name not in self.commands, command.name
        self.commands[command.name] = command
        self._enter(command, _caller(command))
        spellings = dict.fromkeys((command.name.encode(), command.name.upper().encode()), command)
        self._spelled.update(spellings)
        refused = "no_multi" in command.flags or command.name in NOT_QUEUED
        if not refused and not command.subcommands:
            self.queueable.update(spellings)

    def _enter(self, command: Command, caller: Caller) -> None:
        self[command.name.encode()] = caller
        self[command.name.upper().encode()] = caller

    def time_each(self, wanted: bool) -> None:
        """Measure every call, or (as at first) only those of commands that may take long."""
        for command in self.commands.values():
            self._enter(command, _timed(command) if wanted else _caller(command))

    def find(self, name: bytes) -> Command | None:
        """Return the command of that name, in any spelling."""
        known = self._spelled.get(name)
        if known is not None:
            return known
        try:
            return self.commands.get(name.decode("ascii").lower())
        except UnicodeDecodeError:
            return None

    def __missing__(self, name: bytes) -> Caller:
        return self.get(name.upper(), unknown_command)


def _caller(command: Command) -> Caller:
    if command.checks_itself:
        return command.handler  # type: ignore[return-value]  # a generator only of a session that waits
    return _checked(command) if "fast" in command.flags else _timed(command)


def _checked(command: Command) -> Caller:
    handler, arity = command.handler, command.arity
    exact = arity >= 0
    least = abs(arity)

    def call(session: Session, args: list[bytes]) -> bytes:
        if (len(args) != arity) if exact else (len(args) < least):
            return session.rejected(command.name, wrong_arity(command.name))
        try:
            reply = handler(session, args)
        except CommandError as error:
            return session.failed(command.name, error.text)
        return reply if isinstance(reply, bytes) else session.suspend(command, args, reply)

    return call


def _timed(command: Command) -> Caller:
    handler = command.handler

    def call(session: Session, args: list[bytes]) -> bytes:
        called = command
        if command.subcommands and len(args) > 1:  # counted by itself: config|get
            try:
                called = command.resolve(args)
            except CommandError as error:
                return session.error(error.text)
            session.last_called, session.last_subcommand = args[0], called.name
        if called.wrong_arity(len(args)):
            return session.rejected(called.name, wrong_arity(called.name))
        began = time.perf_counter_ns()
        try:
            reply = handler(session, args)
        except CommandError as error:
            reply = session.failed(called.name, error.text)
        if not isinstance(reply, bytes):
            return session.suspend(called, args, reply)
        session.engine.stats.timed(session, called, args, time.perf_counter_ns() - began)
        return reply

    return call


def completed(reply: Reply) -> Work:
    """Return what a handler answers, whether it did so at once or does it in slices."""
    return reply if isinstance(reply, bytes) else (yield from reply)


def at_once(work: Generator[object, None, _T]) -> _T:
    """Run what could go in slices to its end; return what it returns."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: _T = done.value
            return result


def wrong_arity(name: str) -> str:
    """What to say to too few or too many arguments."""
    return f"ERR wrong number of arguments for '{name}' command"


def unknown_command(session: Session, args: list[bytes]) -> bytes:
    """The reply to a name that is no command.

    A browser's request gets none: a page must not be able to send commands from behind a firewall.
    """
    if args[0].lower() in {b"post", b"host:"}:
        log.warning("an HTTP request from %s, closed: possibly an attack", session.address)
        session.close_after_reply()
        return b""
    name = args[0][:MAX_SHOWN_BYTES].partition(b"\0")[0]
    shown = b""
    for arg in args[1:]:
        if len(shown) >= MAX_SHOWN_BYTES:
            break
        shown += b"'%b' " % arg[: MAX_SHOWN_BYTES - len(shown)].partition(b"\0")[0]
    text = b"ERR unknown command '%b', with args beginning with: %b" % (name, shown)
    return session.error(text.decode("utf-8", "surrogateescape"))
