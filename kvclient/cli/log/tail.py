"""``kvcli log tail``: the end of a log, and what comes after it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from kvclient.cli._failures import fail
from kvclient.cli.log._files import STDIN, Problems, write_out
from kvclient.text import shown

if TYPE_CHECKING:
    from parser.tail import Follower

POLL_S: Final = 0.2
"""How often a followed log is looked at; a person does not see the difference to less."""


@click.command()
@click.argument("path", metavar="FILE")
@click.option("-n", "lines", type=click.IntRange(0), default=20, show_default=True, help="Lines.")
@click.option("-f", "--follow", is_flag=True, help="Stay and show what is written, until Ctrl-C.")
def tail(path: str, lines: int, follow: bool) -> None:
    """Show the last lines of FILE, read from its end.

    Following survives rotation: a renamed log is read to its end before the new one under its
    name, a truncated one from its start.
    """
    from parser.chunks import chunks_of
    from parser.source import Input, Problem, inspect
    from parser.tail import last_lines, last_lines_of_stream

    problems = Problems()
    write = write_out()
    found = None if path == STDIN else inspect(path)
    plain = isinstance(found, Input) and found.kind == "plain"
    if follow and not plain:
        if isinstance(found, Problem):
            fail(str(found))
        raise click.UsageError("only a plain file can be followed")
    if plain:
        with Path(path).open("rb") as file:
            for chunk in last_lines(file, lines):
                write(chunk)
            offset = file.tell()
        if follow:
            _follow(path, offset)
    else:
        for chunk in last_lines_of_stream(problems.guarded(path, chunks_of(path)), lines):
            write(chunk)
    problems.finish()


def _follow(path: str, offset: int) -> None:
    from parser.tail import Follower

    follower = Follower(Path(path), offset)
    write = write_out()
    sys.stdout.flush()
    for data in _appended(follower):
        write(data)
        sys.stdout.flush()


def _appended(follower: Follower) -> Iterator[bytes]:
    while True:
        data = follower.read()
        for notice in follower.notices:
            click.echo(f"kvcli: {shown(notice)}", err=True)
        follower.notices.clear()
        if data:
            yield data
        else:
            time.sleep(POLL_S)
