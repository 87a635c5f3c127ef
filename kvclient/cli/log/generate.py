"""``kvcli log generate``: a realistic log from a seed."""

from __future__ import annotations

import click

from kvclient.cli.log._files import write_out


@click.command()
@click.option(
    "--format",
    "format_",
    type=click.Choice(["hdfs", "combined", "syslog", "json"]),
    default="hdfs",
    show_default=True,
    help="What kind of log.",
)
@click.option("--lines", type=click.IntRange(0), default=1000, show_default=True, help="How many.")
@click.option("--seed", type=int, default=0, show_default=True, help="Equal seeds, equal logs.")
def generate(format_: str, lines: int, seed: int) -> None:
    """Write a realistic log to standard output, the same for the same seed."""
    from parser.synthetic import generate as chunks

    write = write_out()
    for chunk in chunks(format_, lines, seed):
        write(chunk)
