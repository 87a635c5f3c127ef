"""What every command of kvcli shares: where the server is, how results and failures are shown.

Rules:

* Results go to stdout, everything else to stderr. ``--json`` asks for JSON; people at a terminal
  get tables.
* A user's mistake is exit 2 with a usage hint, a failure one line and exit 1, Ctrl-C exit 130. A
  closed pipe is no error. Never a traceback for what the world did.
* ``--url --host --port --json`` work before the command and after it.

Import this module freely: it loads click and the standard library's small parts only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from kvclient.errors import AuthFailed, ConnectionFailed, KvError, ProtocolError, UrlError
from kvclient.url import Address, parse_url
from parser.stdio import forget_stdout

if TYPE_CHECKING:
    from kvclient.client import Client

__all__ = [
    "Failure",
    "LazyGroup",
    "Settings",
    "complete_keys",
    "echo_bytes",
    "echo_json",
    "fail",
    "key_names",
    "open_client",
    "pass_settings",
    "settings_of",
    "shown",
    "table",
    "translated_errors",
]

T = TypeVar("T")
DEFAULT_URL: Final = "redis://127.0.0.1:7379"
COMPLETION_S: Final = 0.3
"""Longer than that a person takes the TAB key for broken."""


@dataclass(slots=True)
class Settings:
    """What the global options say; ``ctx.obj`` of every command."""

    url: str | None = None
    host: str | None = None
    port: int | None = None
    json: bool = False
    as_people: bool | None = field(default=None, repr=False)
    """Overrides whether stdout is a terminal; for tests."""

    @property
    def address(self) -> Address:
        """The server's address. Raises a usage error when it cannot be read."""
        try:
            address = parse_url(self.url or DEFAULT_URL)
        except UrlError as error:
            raise click.UsageError(str(error)) from error
        password = os.environ.get("KVCLI_PASSWORD")
        if password and address.password is None:
            import dataclasses

            address = dataclasses.replace(address, password=password)
        return address.moved(self.host, self.port)

    @property
    def for_people(self) -> bool:
        """Whether to draw tables: stdout is a terminal and nobody asked for JSON."""
        if self.json:
            return False
        return sys.stdout.isatty() if self.as_people is None else self.as_people


pass_settings = click.make_pass_decorator(Settings, ensure=True)
"""Decorator: the command's first argument is the Settings."""


def settings_of(ctx: click.Context) -> Settings:
    """Return the Settings of a command that is running."""
    return ctx.ensure_object(Settings)


def open_client(
    where: click.Context | Settings, *, timeout_s: float | None = 30.0, retry_s: float = 0.0
) -> Client:
    """Return a client for the server the user means; it connects when it is first used."""
    from kvclient.client import Client

    settings = where if isinstance(where, Settings) else settings_of(where)
    return Client(settings.address, timeout_s=timeout_s, retry_s=retry_s)


def complete_keys(client: Client, prefix: str, limit: int) -> list[str]:
    """Return keys that begin with ``prefix``, for completion: quick rather than complete."""
    escaped = re.sub(r"([*?\[\]\\^])", r"\\\1", prefix)
    ends_s = time.monotonic() + COMPLETION_S
    found: set[str] = set()
    for page in client.scan(f"{escaped}*", count=1000):
        found.update(name for name in map(shown, page) if " " not in name)
        if len(found) >= limit or time.monotonic() > ends_s:
            break
    return sorted(found)[:limit]


def key_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete a key on the command line of a shell; says nothing when there is no server."""
    try:
        with open_client(ctx, timeout_s=COMPLETION_S) as client:
            return complete_keys(client, incomplete, 100)
    except (KvError, click.ClickException):
        return []


# -------------------------------------------------------------------------------------- failures


class Failure(click.ClickException):
    """Ends the command with one line on stderr and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line; control characters in it cannot move the cursor."""
        text = " ".join(self.format_message().splitlines())
        click.echo(f"kvcli: {shown(text)}", file=file or sys.stderr)


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command: the message on stderr, the exit code to the shell."""
    raise Failure(message, code)


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what the world did into one line and an exit code; what is a bug passes through."""
    try:
        yield
    except BrokenPipeError:
        forget_stdout()
        raise SystemExit(0) from None
    except ConnectionFailed as error:
        raise Failure(_no_server(error)) from error
    except AuthFailed as error:
        hint = "give it as redis://:PASSWORD@host:port or in KVCLI_PASSWORD"
        raise Failure(f"the server wants a password ({error.message}); {hint}") from error
    except ProtocolError as error:
        raise Failure(f"what answers there does not speak Redis's protocol: {error}") from error
    except KvError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        raise Failure(f"{name}{error.strerror or error}") from error
    except Exception as error:
        own = _own_error(error)
        if own is None:
            raise
        raise Failure(own) from error


def _own_error(error: Exception) -> str | None:
    """Return the text of an error the parser raises on purpose, without importing the parser."""
    module = sys.modules.get("parser.errors")
    base = getattr(module, "ParserError", None)
    return str(error) if base is not None and isinstance(error, base) else None


def _no_server(error: ConnectionFailed) -> str:
    host, _, port = error.where.rpartition(":")
    if not port.isdigit():
        return f"{error}; start one with: kvserver --unix-socket {error.where}"
    options = "" if port == "7379" else f" --port {port}"
    if host not in {"127.0.0.1", "localhost", "[::1]"}:
        return f"{error}; is kvserver running there?"
    return f"{error}; start one with: kvserver{options}"


# ---------------------------------------------------------------------------------------- output


def echo_json(value: Any, *, indent: int | None = None) -> None:
    """Print one JSON value on a line of its own."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=indent, default=_jsonable))


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return bytes_as_json(bytes(value))
    return str(value)


def bytes_as_json(data: bytes) -> Any:
    """Return bytes as JSON can hold them: text when they are UTF-8, else ``{"base64": …}``."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        import base64

        return {"base64": base64.b64encode(data).decode("ascii")}


def echo_bytes(data: bytes) -> None:
    """Print a value as it is, byte for byte, and a line end."""
    click.echo(data)


def shown(value: str | bytes) -> str:
    r"""Return text that cannot harm a terminal: control characters and stray bytes as ``\xNN``."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    text = value.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, f"\\x{ord(character):02x}")


def table(
    rows: Iterable[Sequence[Any]],
    columns: Sequence[str],
    *,
    title: str | None = None,
    right: Sequence[str] = (),
) -> None:
    """Draw a table for people; ``right`` names the columns of numbers.

    Where the screen is too narrow for the columns, each row is a list of its values.
    """
    from rich.table import Table
    from rich.text import Text

    from kvclient.cli._console import Screen

    screen = Screen(highlight=False)
    cells = [[_cell(value) for value in row] for row in rows]
    if len(columns) > 2 and _least_width(cells, columns) > screen.width:
        if title is not None:
            screen.print(Text(title, style="italic"))
        for n, row in enumerate(cells):
            if n:
                screen.print()
            screen.print(Text(row[0], style="bold"), overflow="fold")
            listed = Table.grid(padding=(0, 2))
            listed.add_column(style="dim")
            listed.add_column(overflow="fold")
            for column, cell in zip(columns[1:], row[1:], strict=True):
                listed.add_row(column, Text(cell))
            screen.print(listed)
        return
    drawn = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*[Text(cell) for cell in row])
    screen.print(drawn)


_LEAST_COLUMN: Final = 6
"""A column may be folded to so many characters; narrower, nobody can read it."""


def _least_width(cells: Sequence[Sequence[str]], columns: Sequence[str]) -> int:
    """Return how wide a screen must be for a table that can be read."""
    widths = [
        min(_LEAST_COLUMN, max(len(column), *[len(row[n]) for row in cells], 0))
        for n, column in enumerate(columns)
    ]
    return sum(widths) + 2 * (len(columns) - 1)


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return shown(value) if isinstance(value, str | bytes) else str(value)


# ---------------------------------------------------------------------------------- lazy commands


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        if value is not None and value is not False:
            setattr(settings_of(ctx), name, value)
        return value

    return callback


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise click.BadParameter(f"{text!r} is not a number from 1 to 65535")
    return int(text)


def shared_options(*, hidden: bool) -> list[click.Option]:
    """Return the options every command takes; below a command their help would be noise."""
    return [
        click.Option(
            ["--url"],
            envvar=None if hidden else "KVCLI_URL",
            show_envvar=True,
            metavar="URL",
            help="The server: redis://[:password@]host[:port], rediss://… or unix:///path.",
            expose_value=False,
            hidden=hidden,
            callback=_remember("url"),
        ),
        click.Option(
            ["--host"],
            metavar="HOST",
            help="The server's host.  [default: 127.0.0.1]",
            expose_value=False,
            hidden=hidden,
            callback=_remember("host"),
        ),
        click.Option(
            ["--port"],
            type=_port,
            metavar="PORT",
            help="The server's port.  [default: 7379]",
            expose_value=False,
            hidden=hidden,
            callback=_remember("port"),
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            help="Print JSON instead of text for people.",
            expose_value=False,
            callback=_remember("json"),
        ),
    ]


class LazyGroup(click.Group):
    """A group whose commands are imported when they run.

    ``lazy`` maps a command's name to ``"module:attribute"``. Each command also gets the shared
    options, except those it has itself.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, str],
        sections: Mapping[str, Sequence[str]] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self._lazy = lazy
        self._sections = sections or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, sorted."""
        return sorted({*self._lazy, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Group):
            _add_shared(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands section by section; those of no section come last."""
        left = self.list_commands(ctx)
        for title, names in [*self._sections.items(), ("Commands", left)]:
            rows: list[tuple[str, str]] = []
            for name in [name for name in names if name in left]:
                left = [other for other in left if other != name]
                command = self.get_command(ctx, name)
                if command is not None and not command.hidden:
                    rows.append((name, command.get_short_help_str(limit=120)))
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a misspelt one is answered with those that look like it."""
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx):
            import difflib

            near = difflib.get_close_matches(name, self.list_commands(ctx))
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"There is no command {shown(name)!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; failures become one line and an exit code."""
        if ctx.parent is not None:
            return super().invoke(ctx)
        try:
            with translated_errors():
                value = super().invoke(ctx)
                sys.stdout.flush()
                return value
        except KeyboardInterrupt:
            click.echo(err=True)  # the terminal shows ^C on the line that was under way
            raise SystemExit(130) from None


def _add_shared(command: click.Command) -> None:
    names = {name for parameter in command.params for name in parameter.opts}
    for option in shared_options(hidden=True):
        if not names.intersection(option.opts):
            command.params.append(option)
