"""``kvserver check`` and ``kvserver repair``: a data directory seen, or copied without damage."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import click

__all__ = ["check", "repair"]

EXIT_TORN = 1
EXIT_DAMAGED = 2


@click.command(short_help="Inspect a data directory; changes nothing.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def check(ctx: click.Context, directory: Path, as_json: bool) -> None:
    """Read a whole data directory and say what a start would do; changes nothing.

    Exit status: 0 sound; 1 torn, a start would cut the tail (or the directory cannot be read);
    2 damaged, a start would refuse.
    """
    from kvserver.errors import JournalError
    from kvserver.journal import check as checking
    from kvserver.journal.directory import open_directory

    try:
        report = checking.check(open_directory(directory))
    except (JournalError, OSError) as error:
        raise _failure(error) from error
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
    else:
        for file in report.files:
            records = f"{file.records:>10,} records {file.first:>10,} to {file.last:,}"
            problem = f"  {file.problem}" if file.problem else ""
            click.echo(f"{file.state:<8} {file.name} {file.bytes:>14,} bytes {records}{problem}")
        for name in report.strays:
            click.echo(f"stray    {name}")
        if report.in_use_by is not None:
            click.echo(f"in use by process {report.in_use_by or '?'}: the open file is growing")
        if report.verdict == "sound":
            click.echo(f"sound: {report.keys:,} keys in {report.records:,} records")
        elif report.verdict == "torn":
            click.echo(f"torn: {report.torn_bytes:,} bytes would be cut: {report.reason}")
        else:
            click.echo(f"{report.reason}", err=True)
            click.echo(
                f"a server would refuse to start; see: kvserver repair {directory} --to NEW",
                err=True,
            )
    ctx.exit({"sound": 0, "torn": EXIT_TORN, "damaged": EXIT_DAMAGED}[report.verdict])


@click.command(short_help="Write a repaired copy of a damaged data directory.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    help="Directory for the copy; it must be empty or missing.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def repair(directory: Path, target: Path, as_json: bool) -> None:
    """Copy what can be read of a damaged data directory, and say what was dropped.

    The damaged directory is left as it is. Stop its server first.
    """
    from kvserver.errors import JournalError
    from kvserver.journal.directory import lock_holder, open_directory
    from kvserver.journal.repair import repair_to

    try:
        source = open_directory(directory)
        holder = lock_holder(directory)
        if holder is not None:
            raise click.ClickException(f"{directory}: in use by process {holder or '?'}")
        saved = repair_to(source, open_directory(target, create=True))
    except (JournalError, OSError) as error:
        raise _failure(error) from error
    if as_json:
        dropped = [dataclasses.asdict(each) for each in saved.dropped]
        figures = {"keys": saved.keys, "records": saved.records, "effects": saved.effects}
        click.echo(json.dumps({**figures, "directory": str(target), "dropped": dropped}))
        return
    for each in saved.dropped:
        click.echo(f"dropped  {each}")
    click.echo(
        f"{target}: {saved.keys:,} keys from {saved.records:,} records;"
        f" {len(saved.dropped)} pieces dropped"
    )


def _failure(error: Exception) -> click.ClickException:
    """One line, exit status 1."""
    text = str(error)
    if isinstance(error, OSError):
        text = f"{error.filename or ''}: {error.strerror or error}"
    failure = click.ClickException(text)
    failure.show = lambda file=None: click.echo(  # type: ignore[method-assign]  # our prefix
        f"kvserver: {text}", file=file or sys.stderr
    )
    return failure
