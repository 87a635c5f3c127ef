"""``kvcli log``: look into log files, without a store. One module a command.

What they share: files are read plain or compressed (gz, bz2, xz, zst), ``-`` is standard input,
memory does not grow with the log, a closed pipe is no error, and one file that cannot be read does
not stop the others (one line on stderr each, exit 1 at the end).
"""

from __future__ import annotations

from typing import Final

import click

from kvclient.cli._group import LazyGroup

__all__ = ["LAZY", "log"]

LAZY: Final = {
    "read": "kvclient.cli.log.read:read",
    "tail": "kvclient.cli.log.tail:tail",
    "grep": "kvclient.cli.log.grep:grep",
    "parse": "kvclient.cli.log.parse:parse",
    "stats": "kvclient.cli.log.stats:stats",
    "histogram": "kvclient.cli.log.histogram:histogram",
    "summarize": "kvclient.cli.log.summarize:summarize",
    "generate": "kvclient.cli.log.generate:generate",
}
"""Name of a command -> ``"module:attribute"``."""


@click.group(cls=LazyGroup, lazy=LAZY)
def log() -> None:
    """Read, search, parse and count log files; no server needed."""
