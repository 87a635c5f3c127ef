"""``kvcli log read``: the beginning of a log."""

from __future__ import annotations

import click

from kvclient.cli.log._files import Problems, write_out


@click.command()
@click.argument("path", metavar="FILE")
@click.option("-n", "lines", type=click.IntRange(0), default=10, show_default=True, help="Lines.")
def read(path: str, lines: int) -> None:
    """Show the first lines of FILE, plain or compressed; - is standard input."""
    from parser.chunks import chunks_of
    from parser.tail import first_lines

    problems = Problems()
    write = write_out()
    for chunk in first_lines(problems.guarded(path, chunks_of(path)), lines):
        write(chunk)
    problems.finish()
