"""``kvcli``. A command's module is imported only when the command runs, so that each starts fast.

To add a command: write it in a module here and add its line to ``LAZY``.
"""

from __future__ import annotations

import sys
from typing import Final

import click

from kvclient.cli._group import LazyGroup, shared_options
from kvclient.cli._settings import Settings
from parser.stdio import ensure_streams, forget_stdout

__all__ = ["LAZY", "cli", "main"]

LAZY: Final = {
    # talk to the store
    "ping": "kvclient.cli.store:ping",
    "get": "kvclient.cli.keys:get",
    "set": "kvclient.cli.keys:set_",
    "delete": "kvclient.cli.keys:delete",
    "ttl": "kvclient.cli.keys:ttl",
    "expire": "kvclient.cli.keys:expire",
    "persist": "kvclient.cli.keys:persist",
    "keys": "kvclient.cli.keys:keys",
    "scan": "kvclient.cli.keys:scan",
    "stats": "kvclient.cli.store:stats",
    "clear": "kvclient.cli.store:clear",
    "store": "kvclient.cli.snapshot:store",
    "export": "kvclient.cli.snapshot:export",
    "import": "kvclient.cli.snapshot:import_",
    "backup": "kvclient.cli.backup:backup",
    "compact": "kvclient.cli.backup:compact",
    # look into it, now and as it changes
    "find": "kvclient.cli.look:find",
    "top": "kvclient.cli.look:top",
    "watch": "kvclient.cli.live:watch",
    "monitor": "kvclient.cli.live:monitor",
    "shell": "kvclient.cli.shell:shell",
    "demo": "kvclient.cli.demo:demo",
    "raw": "kvclient.cli.store:raw",
    "report": "kvclient.cli.report:report",
    "templates": "kvclient.cli.templates:templates",
    # logs into the store
    "ingest": "kvclient.cli.ingest:ingest",
    "sources": "kvclient.cli.sources:sources",
    "lines": "kvclient.cli.sources:lines",
    # logs without a store
    "log": "kvclient.cli.log:log",
    "formats": "kvclient.cli.formats:formats",
}
"""Name of a command -> ``"module:attribute"``."""

SECTIONS: Final = {
    "Begin here": ["demo", "ingest", "get", "find", "shell"],
    "Keys": ["set", "delete", "ttl", "expire", "persist", "keys", "scan", "lines"],
    "The store": ["ping", "stats", "top", "templates", "sources", "store", "watch", "monitor"],
    "Keep and move": ["export", "import", "backup", "compact", "clear", "report"],
    "Log files, without a store": ["log", "formats"],
    "Anything else": ["raw"],
}
"""Where ``kvcli --help`` lists a command."""


@click.group(
    cls=LazyGroup,
    lazy=LAZY,
    sections=SECTIONS,
    params=shared_options(hidden=False),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="kvstore", prog_name="kvcli")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Look into logs, and into the store that keeps one summary for each thing in them."""
    ctx.ensure_object(Settings)


def main() -> None:
    """Run ``kvcli``."""
    ensure_streams()
    try:
        cli.main(prog_name="kvcli")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # what click itself prints, such as help, did not get out
        forget_stdout()
        sys.exit(f"kvcli: {error.strerror or error}")
