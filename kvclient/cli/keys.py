"""Commands about keys: get, set, delete, ttl, expire, persist, keys, scan."""

from __future__ import annotations

import json
import sys
from typing import Final

import click

from kvclient.cli._completion import key_names
from kvclient.cli._failures import fail
from kvclient.cli._output import echo_bytes, echo_json
from kvclient.cli._settings import Settings, open_client, pass_settings
from kvclient.cli._values import duration
from kvclient.text import bytes_as_json, shown

__all__ = ["delete", "expire", "get", "keys", "persist", "scan", "set_", "ttl"]

MAX_VALUE_BYTES: Final = 512 * 1024 * 1024
"""What a server takes; it closes the connection of whoever sends more, so more is not sent."""


@click.command(short_help="Show the value of a key.")
@click.argument("key", shell_complete=key_names)
@pass_settings
def get(settings: Settings, key: str) -> None:
    """Show the value of KEY: a string as it is, a summary as a table or, in a pipe, as JSON."""
    with open_client(settings) as client:
        kind, value = client.pipeline([("TYPE", key), ("GET", key)])
        if value is None:
            fail(f"no such key: {shown(key)}")
        if kind != "summary":
            if settings.json:
                echo_json(bytes_as_json(value))
            else:
                echo_bytes(value)
            return
        if settings.for_people:
            from kvclient.cli._summary import draw_summary

            draw_summary(client, key, json.loads(value))
        else:
            echo_bytes(value)


@click.command("set", short_help="Write a value to a key.")
@click.argument("key", shell_complete=key_names)
@click.argument("value")
@click.option(
    "--ttl", type=duration, metavar="TIME", help="Time to live: seconds, or 90s 15m 2h 7d."
)
@click.option("--nx", is_flag=True, help="Only if the key is new.")
@click.option("--xx", is_flag=True, help="Only if the key is there.")
@pass_settings
def set_(
    settings: Settings, key: str, value: str, *, ttl: float | None, nx: bool, xx: bool
) -> None:
    """Write VALUE to KEY; the value - is read from standard input."""
    if nx and xx:
        raise click.UsageError("--nx and --xx exclude each other")
    data = _from_stdin() if value == "-" else value
    with open_client(settings) as client:
        written = client.set(key, data, ttl_s=ttl, only_if_new=nx, only_if_there=xx)
    if settings.json:
        echo_json({"key": key, "written": written})
    elif written:
        click.echo("OK")
    if not written:
        fail(f"not written: {shown(key)} is {'there already' if nx else 'not there'}")


def _from_stdin() -> bytes:
    data = sys.stdin.buffer.read(MAX_VALUE_BYTES + 1)
    if len(data) > MAX_VALUE_BYTES:
        fail(f"a value may have {MAX_VALUE_BYTES} bytes at most; this one has more")
    return data


@click.command(short_help="Remove keys.")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...", shell_complete=key_names)
@pass_settings
def delete(settings: Settings, keys: tuple[str, ...]) -> None:
    """Remove keys; exit 1 when none of them was there."""
    with open_client(settings) as client:
        n = client.delete(*keys)
    if settings.json:
        echo_json({"deleted": n})
    else:
        click.echo(f"deleted {n}")
    if n == 0:
        fail(f"no such key: {' '.join(shown(key) for key in keys)}")


@click.command(short_help="Show how long a key has left.")
@click.argument("key", shell_complete=key_names)
@pass_settings
def ttl(settings: Settings, key: str) -> None:
    """Show how many seconds KEY has left; "none" when it stays."""
    with open_client(settings) as client:
        left_ms = client.ttl_ms(key)
    if left_ms == -2:
        fail(f"no such key: {shown(key)}")
    if settings.json:
        echo_json({"key": key, "ttl": None if left_ms < 0 else left_ms / 1000})
    elif left_ms < 0:
        click.echo("none")
    else:
        click.echo(f"{left_ms / 1000:.3f}".rstrip("0").rstrip("."))


@click.command(short_help="Let a key end after a time.")
@click.argument("key", shell_complete=key_names)
@click.argument("time", type=duration)
@pass_settings
def expire(settings: Settings, key: str, time: float) -> None:
    """Let KEY end after TIME: seconds, or 90s 15m 2h 7d."""
    with open_client(settings) as client:
        if not client.expire(key, time):
            fail(f"no such key: {shown(key)}")
    if settings.json:
        echo_json({"key": key, "ttl": time})
    else:
        click.echo("OK")


@click.command(short_help="Let a key stay.")
@click.argument("key", shell_complete=key_names)
@pass_settings
def persist(settings: Settings, key: str) -> None:
    """Take the time to live of KEY away."""
    with open_client(settings) as client:
        changed, there = client.pipeline([("PERSIST", key), ("EXISTS", key)])
    if not there:
        fail(f"no such key: {shown(key)}")
    if settings.json:
        echo_json({"key": key, "changed": bool(changed)})
    else:
        click.echo("OK" if changed else "had no time to live")


@click.command(short_help="List the keys, sorted.")
@click.argument("pattern", default="*")
@pass_settings
def keys(settings: Settings, pattern: str) -> None:
    """List the keys that match PATTERN (* ? [abc]), sorted."""
    with open_client(settings) as client:
        names: set[bytes] = set()
        for page in client.scan(None if pattern == "*" else pattern, count=5000):
            names.update(page)
    if settings.json:
        echo_json([bytes_as_json(name) for name in sorted(names)])
        return
    _list(settings, sorted(names))


@click.command(short_help="List keys as they are found.")
@click.option("--match", metavar="PATTERN", help="Only keys that match (* ? [abc]).")
@click.option(
    "--count", type=click.IntRange(1), default=1000, show_default=True, help="Keys a step."
)
@click.option("--limit", type=click.IntRange(1), help="Stop after so many keys.")
@pass_settings
def scan(settings: Settings, match: str | None, count: int, limit: int | None) -> None:
    """List keys as they are found, in no order; the way for very large stores.

    A key that is removed and written again meanwhile may come twice, as with Redis.
    """
    left = limit
    with open_client(settings) as client:
        for page in client.scan(match, count=count):
            names = page if left is None else page[:left]
            if settings.json:
                for name in names:
                    echo_json(bytes_as_json(name))
            else:
                _list(settings, names)
            if left is not None:
                left -= len(names)
                if left <= 0:
                    return


def _list(settings: Settings, names: list[bytes]) -> None:
    if not names:
        return
    if settings.for_people:
        click.echo("\n".join([shown(name) for name in names]))
    else:
        click.echo(b"\n".join(names))
