"""``kvserver``: options of the command line and of the environment become a Config.

Every option may also come from the environment: ``--max-clients`` is ``KVSERVER_MAX_CLIENTS``. A
password comes from ``KVSERVER_PASSWORD`` or a file, never from the command line, where everybody
on the machine could read it.

A mistake of the user ends with a hint and exit status 2, a server that cannot start with one line
and 1. Heavy imports wait until a server really starts.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from kvserver.config import FSYNC_POLICIES, LOG_RECOVERY_MODES, MAXMEMORY_POLICIES, Config
from parser.stdio import ensure_streams, forget_stdout

__all__ = ["cli", "main"]

LAZY: Final = {
    "check": "kvserver.journal.cli:check",
    "repair": "kvserver.journal.cli:repair",
}
"""Sub-command -> ``"module:attribute"``; imported only when it runs."""

_UNITS: Final = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2}
_LARGE_UNITS: Final = {"g": 1000**3, "gb": 1024**3}


class _Group(click.Group):
    """A group whose sub-commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *LAZY})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = LAZY.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


class _Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in new versions
    """A number of bytes, as Redis writes it: 100, 64mb, 1gb."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        digits = text.rstrip("bkmg")
        factor = {**_UNITS, **_LARGE_UNITS}.get(text[len(digits) :])
        if factor is None or not digits.isascii() or not digits.isdigit():
            self.fail(f"{value!r} is no number of bytes; try 64mb", param, ctx)
        return int(digits) * factor


_Decorator = Callable[[Callable[..., None]], Callable[..., None]]
_DEFAULT: Final = Config()


def _option(name: str, help_: str, **more: Any) -> _Decorator:
    field = more.pop("field", name.removeprefix("--").replace("-", "_"))
    default = getattr(_DEFAULT, field)
    return click.option(
        name,
        field,
        default=str(default) if isinstance(default, Path) else default,
        show_default=bool(default) or default == 0,
        help=help_,
        **more,
    )


def _bytes_option(name: str, help_: str) -> _Decorator:
    field = name.removeprefix("--").replace("-", "_") + "_bytes"
    return _option(name, help_, field=field, type=_Bytes())


@click.group(
    cls=_Group,
    invoke_without_command=True,
    context_settings={
        "auto_envvar_prefix": "KVSERVER",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@_option("--host", "Addresses to listen on; one with a - before it may be missing.")
@_option("--port", "Port to listen on; 0 takes a free one.", type=click.IntRange(0, 65535))
@_option("--unix-socket", "Path of a Unix socket to listen on too.")
@_option("--data-dir", "Directory of the journal.", type=click.Path(file_okay=True))
@_option("--fsync", "When a write is safe on disk.", type=click.Choice(FSYNC_POLICIES))
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False),
    help="File with the password that clients must give; or set KVSERVER_PASSWORD.",
)
@_option("--unprotected", "Let everybody in, on any address, without a password.", is_flag=True)
@_option("--tls-cert", "Certificate chain for TLS (PEM).")
@_option("--tls-key", "Private key for TLS (PEM).")
@_option(
    "--tls-port",
    "Port for TLS beside the plain one; 0: --port itself speaks TLS, and nothing is plain.",
    type=click.IntRange(0, 65535),
)
@_option("--tls-ca-cert", "Ask clients for a certificate signed by these (PEM).")
@_option("--max-clients", "Clients served at once.", type=click.IntRange(1))
@_option("--max-args", "Arguments of one command.", type=click.IntRange(1))
@_bytes_option("--max-bulk", "Size of one argument.")
@_bytes_option("--max-inline", "Size of an inline request, and of a header.")
@_bytes_option("--max-query", "Size of a request that is still coming.")
@_option("--max-watched-keys", "Keys that one client may watch.", type=click.IntRange(0))
@_option(
    "--max-tracked-keys",
    "Keys remembered for all clients that track what they read; 0: no limit.",
    type=click.IntRange(0),
)
@_option(
    "--max-subscriptions",
    "Channels and patterns, or prefixes, that one client may listen to.",
    type=click.IntRange(0),
)
@_option("--max-queued-commands", "Commands that one transaction may hold.", type=click.IntRange(0))
@_bytes_option("--max-output", "Replies a client may leave unread before it is disconnected.")
@_bytes_option("--max-pubsub-output", "The same for a subscriber.")
@_option(
    "--client-timeout",
    "Disconnect idle clients after so many seconds; 0 for never.",
    field="client_timeout_s",
    type=click.IntRange(0),
)
@_option(
    "--request-timeout",
    "Disconnect a client whose request stops halfway, after so many seconds; 0 for never.",
    field="request_timeout_s",
    type=click.IntRange(0),
)
@_option(
    "--output-stall",
    "Disconnect a client that is owed too much and reads nothing for so many seconds.",
    field="output_stall_s",
    type=click.IntRange(1),
)
@_option(
    "--login-timeout",
    "Disconnect a client that has not given the password after so many seconds.",
    field="login_timeout_s",
    type=click.IntRange(1),
)
@_option(
    "--busy-poll-us",
    "Look so long for the next request before sleeping, while most looks find one; 0 for never.",
    type=click.IntRange(0, 10_000),
)
@_option(
    "--debug-commands", "Allow DEBUG SLEEP to clients on this machine; for tests.", is_flag=True
)
@_bytes_option("--maxmemory", "Memory, that of the process itself included; 0 for no limit.")
@_option(
    "--maxmemory-policy",
    "What to do when it is used up.",
    type=click.Choice(MAXMEMORY_POLICIES),
)
@_option("--notify-keyspace-events", "Events to publish, in Redis's letters (for example KEA).")
@_option("--max-patterns", "Patterns of log lines to remember.", type=click.IntRange(1))
@_option(
    "--log-recovery",
    "Cut a torn tail (tail), refuse it (strict), or also go on without damaged records (salvage).",
    type=click.Choice(LOG_RECOVERY_MODES),
)
@_bytes_option("--segment", "Size of one file of the journal.")
@_bytes_option("--compaction-min", "Do not compact a smaller journal.")
@_option(
    "--compaction-ratio",
    "Compact when the journal has outgrown its base, and what is live, by so many times.",
    type=click.FloatRange(min=0.1),
)
@_option(
    "--log-level",
    "What to log.",
    type=click.Choice(["debug", "info", "warning", "error"]),
)
@click.version_option(package_name="kvstore", prog_name="kvserver")
@click.pass_context
def cli(ctx: click.Context, /, password_file: str | None, **options: Any) -> None:
    """Serve the store: an in-memory key-value server with a journal, for any Redis client.

    Every option may be given in the environment too, as KVSERVER_ and its name.
    """
    if ctx.invoked_subcommand is not None:
        return
    if bool(options["tls_cert"]) != bool(options["tls_key"]):
        raise click.UsageError("--tls-cert and --tls-key go together")
    from kvserver.hub import parse_event_flags

    if parse_event_flags(options["notify_keyspace_events"]) is None:
        raise click.UsageError("--notify-keyspace-events takes letters of Ag$lshzxeKEtd")
    config = Config(**{**options, "data_dir": Path(options["data_dir"])})
    config.password = _password(password_file)
    from kvserver.server import serve

    ctx.exit(serve(config))


def _password(file: str | None) -> str:
    if file is None:
        return os.environ.get("KVSERVER_PASSWORD", "")
    lines = Path(file).read_text("utf-8", "surrogateescape").splitlines()
    if not lines or not lines[0]:
        raise click.UsageError(f"{file} holds no password in its first line")
    return lines[0]


def main() -> None:
    """Entry point of the console script."""
    ensure_streams()
    try:
        sys.exit(cli.main(prog_name="kvserver"))
    except OSError as error:  # nobody takes what is printed
        forget_stdout()
        sys.exit(f"kvserver: {error.strerror or error}")
