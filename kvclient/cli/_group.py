"""The commands of kvcli: imported when they run, each with the options that all of them share.

``--url --host --port --json`` work before the command and after it. Whatever goes wrong in one
becomes a line and an exit code here; Ctrl-C is exit 130.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from kvclient.cli._failures import translated_errors
from kvclient.cli._settings import settings_of
from kvclient.text import shown

__all__ = ["LazyGroup", "shared_options"]


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
        _shared(
            "url",
            envvar=None if hidden else "KVCLI_URL",
            show_envvar=True,
            metavar="URL",
            help="The server: redis://[:password@]host[:port], rediss://… or unix:///path.",
            hidden=hidden,
        ),
        _shared(
            "host",
            metavar="HOST",
            help="The server's host.  [default: 127.0.0.1]",
            hidden=hidden,
        ),
        _shared(
            "port",
            type=_port,
            metavar="PORT",
            help="The server's port.  [default: 7379]",
            hidden=hidden,
        ),
        _shared("json", is_flag=True, help="Print JSON instead of text for people."),
    ]


def _shared(name: str, **more: Any) -> click.Option:
    """Return an option that the Settings keep under its name."""
    return click.Option([f"--{name}"], expose_value=False, callback=_remember(name), **more)


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
