"""Commands about the whole store: ping, stats, clear, raw."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from kvclient.cli._failures import fail
from kvclient.cli._output import echo_json, table
from kvclient.cli._settings import Settings, open_client, pass_settings
from kvclient.cli._values import duration
from kvclient.errors import ReplyError
from kvclient.text import bytes_as_json, shown

__all__ = ["clear", "ping", "raw", "stats"]


@click.command()
@pass_settings
def ping(settings: Settings) -> None:
    """Ask the server for a sign of life."""
    with open_client(settings) as client:
        client.ping()
        started_s = time.perf_counter()
        answer = client.ping()
        took_ms = (time.perf_counter() - started_s) * 1000
    if settings.json:
        echo_json({"reply": answer, "ms": round(took_ms, 3)})
    else:
        click.echo(answer)


@click.command(short_help="Remove every key.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_settings
def clear(settings: Settings, yes: bool) -> None:
    """Remove every key, and what is known of every log."""
    with open_client(settings) as client:
        n = client.size()
        if not yes:
            question = f"Remove all {n:,} keys from {settings.address}?"
            click.confirm(question, abort=True, err=True)
        client.clear()
    if settings.json:
        echo_json({"removed": n})
    else:
        click.echo(f"removed {n:,} keys")


@click.command()
@click.option("--watch", is_flag=True, help="A live screen; in a pipe, a line each time.")
@click.option("--every", type=duration, default="1s", show_default=True, help="For --watch.")
@click.option("--count", "-n", type=click.IntRange(1), help="End --watch after so many looks.")
@pass_settings
def stats(settings: Settings, watch: bool, every: float, count: int | None) -> None:
    """Show the server's figures."""
    if watch:
        from kvclient.cli.live import watch_stats

        watch_stats(settings, every, count)
        return
    with open_client(settings) as client:
        figures = client.stats()
    if settings.for_people:
        from kvclient.cli._dashboard import flat, told

        rows = [(name, told(name, value)) for name, value in flat(figures).items()]
        table(rows, ["figure", "value"], right=["value"])
    else:
        echo_json(figures)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", metavar="COMMAND [ARGUMENT]...", nargs=-1, required=True)
@pass_settings
def raw(settings: Settings, words: tuple[str, ...]) -> None:
    """Send any command and show the reply as it is."""
    if [word.upper() for word in words[:3]] in _WITHOUT_REPLY:
        fail("CLIENT REPLY says what a connection gets: each kvcli command has one of its own")
    with open_client(settings) as client:
        try:
            reply = client.execute(*words)
        except ReplyError as error:
            fail(f"(error) {error.message}")
    if settings.json:
        echo_json(as_json(reply))
    else:
        for line in reply_lines(reply):
            click.echo(line)


_WITHOUT_REPLY: Final = [["CLIENT", "REPLY", word] for word in ("OFF", "SKIP")]


def as_json(reply: Any) -> Any:
    """Return a reply as JSON can hold it."""
    if isinstance(reply, bytes):
        return bytes_as_json(reply)
    if isinstance(reply, list):
        return [as_json(part) for part in reply]
    if isinstance(reply, dict):
        return {_name(name): as_json(value) for name, value in reply.items()}
    if isinstance(reply, ReplyError):
        return {"error": reply.message}
    return reply


def _name(name: Any) -> str:
    return shown(name) if isinstance(name, str | bytes) else str(name)


def reply_lines(reply: Any, indent: str = "") -> list[str]:
    """Return a reply the way redis-cli shows it to people."""
    if isinstance(reply, dict):
        if not reply:
            return [f"{indent}(empty map)"]
        return _numbered(
            [
                [_name(name) + " => " + lines[0].lstrip(), *lines[1:]]
                for name, lines in (
                    (name, reply_lines(value, indent + "   ")) for name, value in reply.items()
                )
            ],
            indent,
            "#",
        )
    if isinstance(reply, list):
        if not reply:
            return [f"{indent}(empty list)"]
        return _numbered([reply_lines(part, indent + "   ") for part in reply], indent, ")")
    return [indent + _scalar(reply)]


def _numbered(parts: list[list[str]], indent: str, mark: str) -> list[str]:
    lines: list[str] = []
    for number, part in enumerate(parts, 1):
        lines.append(f"{indent}{number}{mark} {part[0].lstrip()}")
        lines += part[1:]
    return lines


def _scalar(reply: Any) -> str:
    if reply is None:
        return "(nil)"
    if isinstance(reply, bool):
        return f"({str(reply).lower()})"
    if isinstance(reply, int):
        return f"(integer) {reply}"
    if isinstance(reply, ReplyError):
        return f"(error) {reply.message}"
    return shown(reply) if isinstance(reply, str | bytes) else str(reply)
