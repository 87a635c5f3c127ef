"""``kvcli shell``: the commands of kvcli and of the server at one prompt.

A first word in capitals, or one that kvcli does not know, is a command for the server and its reply
is shown as it is; any other is a command of kvcli. Without a terminal the lines come from a file or
a pipe and the exit code says whether all of them worked.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from kvclient.cli._completion import complete_keys
from kvclient.cli._settings import Settings, open_client, pass_settings
from kvclient.errors import KvError
from kvclient.text import shown

if TYPE_CHECKING:
    from kvclient.client import Client

__all__ = ["shell"]

LEAVE: Final = frozenset({"exit", "quit", "bye"})
HISTORY_LINES: Final = 2000
SECRET_WORDS: Final = ("auth", "hello", "password", "requirepass")
"""A line with one of these is not remembered."""
MAX_COMPLETIONS: Final = 200

HELP: Final = """\
get block_123        a command of kvcli; "help" of one: get --help
GET block_123        in capitals: sent to the server as it is
TAB                  completes commands and keys
exit                 leaves, as does Ctrl-D"""


@click.command(short_help="Type commands at a prompt.")
@pass_settings
def shell(settings: Settings) -> None:
    """Type commands at a prompt, with history and completion of commands and keys."""
    with open_client(settings) as client:
        client.ping()
        if not sys.stdin.isatty():
            failed = sum(not run_line(settings, line) for line in sys.stdin)
            if failed:
                raise SystemExit(1)
            return
        with _line_editor(client):
            _prompt(settings)


def _prompt(settings: Settings) -> None:
    click.echo(f"kvstore at {settings.address}; help says how, TAB completes, Ctrl-D leaves")
    while True:
        try:
            line = input(f"{settings.address}> ")
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
            continue
        if line.strip() in LEAVE:
            return
        try:
            run_line(settings, line)
        except KeyboardInterrupt:
            click.echo()


def run_line(settings: Settings, line: str) -> bool:
    """Run one line and tell whether it worked; what went wrong is on stderr."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        click.echo(f"kvcli: {error}", err=True)
        return False
    if not words:
        return True
    if words == ["help"]:
        click.echo(HELP)
        return True
    from kvclient.cli import LAZY, cli

    if words[0] not in LAZY or words[0] == "shell":
        words = ["raw", *words]
    fresh = Settings(settings.url, settings.host, settings.port, settings.json)
    try:
        with contextlib.suppress(click.exceptions.Exit):
            cli.main(words, prog_name="kvcli", obj=fresh)
    except SystemExit as end:
        return end.code in {None, 0}
    return True


@contextlib.contextmanager
def _line_editor(client: Client) -> Iterator[None]:
    """Set up history and completion, and keep the history at the end."""
    try:
        import readline
    except ImportError:  # a Python built without it still has a prompt
        yield
        return
    path = _history_file()
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(HISTORY_LINES)
    readline.set_completer_delims(" \t\n")
    readline.set_completer(Completer(client).complete)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    try:
        yield
    finally:
        _save_history(path)


def _save_history(path: Path) -> None:
    import readline

    for at in range(readline.get_current_history_length(), 0, -1):
        line = (readline.get_history_item(at) or "").lower()
        if any(word in line for word in SECRET_WORDS):
            readline.remove_history_item(at - 1)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.close(descriptor)
        readline.write_history_file(path)


def _history_file() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "kvcli" / "history"


class Completer:
    """Completes the first word as a command, any other as a key."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._server_commands: list[str] | None = None
        self._found: list[str] = []

    def complete(self, text: str, state: int) -> str | None:
        """Return the state-th completion of ``text``, as readline asks for them."""
        if state == 0:
            import readline

            try:
                self._found = self.words(text, first=readline.get_begidx() == 0)
            except (KvError, click.ClickException):
                self._found = []
        return self._found[state] if state < len(self._found) else None

    def words(self, text: str, *, first: bool) -> list[str]:
        """Return what the word may become."""
        if not first:
            return [f"{word} " for word in complete_keys(self._client, text, MAX_COMPLETIONS)]
        from kvclient.cli import LAZY

        known = [*LAZY, "help", "exit", *self._commands()]
        return [f"{word} " for word in sorted(known) if word.startswith(text)]

    def _commands(self) -> list[str]:
        if self._server_commands is None:
            reply = self._client.execute("COMMAND")
            self._server_commands = [
                shown(entry[0]).upper() for entry in reply if isinstance(entry, list) and entry
            ]
        return self._server_commands
