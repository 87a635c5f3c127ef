"""Commands that stay and show what changes: monitor, watch, and the live screen of stats.

Watch and stats ask again when the server was away or is being started; monitor ends with it. All
end with Ctrl-C, the screens with q as well. In a pipe each change is a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from kvclient.cli._completion import key_names
from kvclient.cli._failures import reason_of
from kvclient.cli._output import echo_json
from kvclient.cli._settings import Settings, open_client, pass_settings
from kvclient.cli._values import duration
from kvclient.errors import ConnectionFailed, ConnectionLost, ServerLoading, TimedOut
from kvclient.text import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvclient.cli.templates import EventLine
    from kvclient.client import Client

__all__ = ["monitor", "watch", "watch_stats"]

AWAY_S: Final = 3600.0
"""How long a live command waits for a server that went away."""


@click.command(short_help="Show every command the server gets.")
@click.option("--count", "-n", type=click.IntRange(1), help="End after so many commands.")
@pass_settings
def monitor(settings: Settings, count: int | None) -> None:
    """Show every command the server gets, as it gets it."""
    with open_client(settings, timeout_s=None) as client:
        client.send("MONITOR")
        client.receive(30.0)  # OK
        left = count
        while left is None or left > 0:
            line = str(client.receive())
            if settings.json:
                echo_json(_monitored(line))
            else:
                click.echo(shown(line))
            sys.stdout.flush()
            if left is not None:
                left -= 1


_MONITOR: Final = re.compile(r"(\d+\.\d+) \[(\d+) ([^\]]*)\] (.*)", re.DOTALL)


def _monitored(line: str) -> dict[str, Any]:
    found = _MONITOR.fullmatch(line)
    if found is None:
        return {"line": line}
    return {"time": float(found[1]), "client": found[3], "command": found[4]}


@click.command(short_help="Show a key as it changes.")
@click.argument("key", shell_complete=key_names)
@click.option(
    "--every", type=duration, default="500ms", show_default=True, help="How often to look."
)
@click.option("--count", "-n", type=click.IntRange(1), help="End after so many changes.")
@pass_settings
def watch(settings: Settings, key: str, every: float, count: int | None) -> None:
    """Show KEY as it changes, its present value first."""
    with open_client(settings) as client:
        client.ping()
    if settings.for_people:
        with open_client(settings) as client:
            _watch_screen(client, key, every, count)
    else:
        with open_client(settings, retry_s=AWAY_S) as client:
            for value in _changes(client, key, every, count):
                click.echo(_line(value))
                sys.stdout.flush()


def _line(value: bytes | None) -> bytes:
    """Return a value as one line of JSON: JSON as it is, any other text as a string."""
    if value is None:
        return b"null"
    try:
        json.loads(value)
    except ValueError:
        pass
    else:
        if b"\n" not in value:
            return value
    return json.dumps(value.decode("utf-8", "backslashreplace")).encode()


def _changes(client: Client, key: str, every_s: float, count: int | None) -> Iterator[bytes | None]:
    """Yield the value now and whenever a look finds it changed."""
    held: bytes | bool | None = False
    while count is None or count > 0:
        value = client.get(key)
        if value != held:
            held = value
            yield value
            if count is not None:
                count -= 1
                if count == 0:
                    return
        time.sleep(every_s)


def _watch_screen(client: Client, key: str, every_s: float, count: int | None) -> None:
    view = _KeyView(client, key)

    def look() -> tuple[RenderableType, bool]:
        drawn = view.look()
        return drawn, count is not None and view.changes >= count

    _live(look, every_s, screen=False)


class _KeyView:
    """One key on the screen: its value, and what the last change was."""

    def __init__(self, client: Client, key: str) -> None:
        self.changes = 0
        self._client = client
        self._key = key
        self._value: bytes | None = None
        self._events: int | None = None
        self._lines: list[EventLine] = []
        self._note = ""

    def look(self) -> RenderableType:
        """Ask for the value and return what to draw."""
        from rich.console import Group
        from rich.text import Text

        from kvclient.cli._summary import events_of, summary_view

        value = self._client.get(self._key)
        summary = None if value is None else _summary(value)
        events = None if summary is None else int(summary["count"])
        if value != self._value:
            self._lines = [] if summary is None else events_of(self._client, summary)
            self.changes += 1  # behind what may fail: a look that did is taken again
            more = None if events is None or self._events is None else events - self._events
            if more is not None:
                self._note = f"{more:+,} events at {time.strftime('%H:%M:%S')}   "
        self._value, self._events = value, events
        foot = Text(f"\n{self._note}q ends", style="dim")
        if value is None:
            return Group(Text(f"{shown(self._key)} is not there (yet)", style="dim"), foot)
        if summary is None:
            return Group(Text(shown(value)), foot)
        return Group(summary_view(self._key, summary, self._lines), foot)


def _summary(value: bytes) -> dict[str, Any] | None:
    if not value.startswith(b'{"count":'):
        return None
    try:
        read = json.loads(value)
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


def watch_stats(settings: Settings, every_s: float, count: int | None) -> None:
    """Show the server's figures again and again; in a pipe, a line of JSON each time."""
    with open_client(settings) as client:
        client.ping()
    if settings.for_people:
        from kvclient.cli._dashboard import Dashboard

        with open_client(settings) as client:
            dashboard = Dashboard(str(settings.address))
            looks = 0

            def look() -> tuple[RenderableType, bool]:
                nonlocal looks
                looks += 1
                view = dashboard.view(client.stats(), time.monotonic())
                return view, count is not None and looks >= count

            _live(look, every_s, screen=True)
        return
    with open_client(settings, retry_s=AWAY_S) as client:
        left = count
        while left is None or left > 0:
            echo_json(client.stats())
            sys.stdout.flush()
            if left is not None:
                left -= 1
                if left == 0:
                    return
            time.sleep(every_s)


def _live(look: Callable[[], tuple[RenderableType, bool]], every_s: float, *, screen: bool) -> None:
    """Draw what ``look`` returns until it says that it is the last, or q is pressed."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from kvclient.cli._console import Screen

    view, last = look()
    console = Screen(highlight=False)
    with (
        _single_keys() as pressed,
        Live(view, console=console, screen=screen, auto_refresh=False) as live,
    ):
        live.refresh()
        while not last:
            if pressed(every_s) in {"q", "Q", "\x04"}:
                return
            try:
                view, last = look()
                live.update(view, refresh=True)
            except (ConnectionFailed, ConnectionLost, ServerLoading, TimedOut) as error:
                note = Text(f"{reason_of(error)}; asking again", style="red")
                live.update(Group(note, view), refresh=True)


@contextlib.contextmanager
def _single_keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits for a key; without a terminal to read from it only waits."""
    if not sys.stdin.isatty():
        yield _only_wait
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 1).decode("ascii", "replace") if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _only_wait(seconds: float) -> str:
    time.sleep(seconds)
    return ""
