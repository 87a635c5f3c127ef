"""``kvcli log grep``: lines that match."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvclient.cli._output import echo_json
from kvclient.cli._settings import Settings, pass_settings
from kvclient.cli.log._files import STDIN, Problems, named, write_out
from kvclient.text import shown

if TYPE_CHECKING:
    from parser.grep import FileResult
    from parser.search import Tally


@click.command()
@click.argument("arguments", nargs=-1, required=True, metavar="FILE… PATTERN")
@click.option("-i", "--ignore-case", is_flag=True, help="Capital and small letters are the same.")
@click.option("-v", "--invert", is_flag=True, help="The lines that do not match.")
@click.option("-c", "--count", is_flag=True, help="How many lines, not which.")
@click.option("-F", "--fixed", is_flag=True, help="PATTERN is plain text, no regular expression.")
@click.option("--no-filename", is_flag=True, help="No file names before the lines.")
@click.option("--stats", is_flag=True, help="How many of all lines match, and the percentage.")
@pass_settings
def grep(
    settings: Settings,
    /,
    arguments: tuple[str, ...],
    *,
    ignore_case: bool,
    invert: bool,
    count: bool,
    fixed: bool,
    no_filename: bool,
    stats: bool,
) -> None:
    """Show the lines of FILEs that match PATTERN, a regular expression as Python's.

    PATTERN comes last, or first where only that makes sense of the names; alone, or with - as
    FILE, standard input is searched. Files may be compressed; several are searched in parallel
    and shown in their order. Exit 0 when a line matched, 1 when none did, 2 when a file could
    not be read.
    """
    from parser.errors import PatternError
    from parser.grep import Search, search_files
    from parser.matcher import compile_pattern
    from parser.search import Tally

    files, pattern = _files_and_pattern(arguments)
    try:
        compile_pattern(pattern, ignore_case=ignore_case, fixed=fixed)
    except PatternError as error:
        raise click.UsageError(str(error)) from error
    problems = Problems()
    paths = named(files, problems) if files else [STDIN]
    quiet = count or stats or settings.json
    search = Search(
        pattern,
        ignore_case,
        fixed,
        invert,
        wants_lines=not quiet,
        wants_total=stats or settings.json,
    )
    total = Tally()
    results = []
    write = write_out()
    with_names = len(paths) > 1 and not no_filename
    for result in search_files(paths, search):
        prefix = f"{result.path}:".encode("utf-8", "surrogateescape") if with_names else b""
        for chunk in result.chunks:
            write(_prefixed(chunk, prefix) if prefix else chunk)
        if result.problem:
            problems.add(result.problem)
        total.lines += result.tally.lines
        total.selected += result.tally.selected
        results.append(result)
        if count and not stats and not settings.json:
            write(prefix + b"%d\n" % result.tally.selected)
    if settings.json:
        _show_json(results, total)
    elif stats:
        _show_stats(results if with_names else [], total)
    sys.stdout.flush()
    problems.finish(2)
    sys.exit(0 if total.selected else 1)


def _files_and_pattern(arguments: tuple[str, ...]) -> tuple[list[str], str]:
    """Tell the pattern from the files: the last, unless that is a file and the first is none.

    The fingers of many know grep's order.
    """
    *files, pattern = arguments
    if files and Path(pattern).exists() and not Path(files[0]).exists() and files[0] != STDIN:
        pattern, *files = arguments
    return list(files), pattern


def _prefixed(chunk: bytes, prefix: bytes) -> bytes:
    """Write the name of the file before each line; a chunk is whole lines."""
    return prefix + chunk[:-1].replace(b"\n", b"\n" + prefix) + b"\n"


def _show_stats(results: list[FileResult], total: Tally) -> None:
    for result in results:
        click.echo(f"{shown(result.path)}: {_share(result.tally)}")
    click.echo(_share(total))


def _share(tally: Tally) -> str:
    return f"{tally.selected}/{tally.lines} lines match ({tally.percent:.2f} %)"


def _show_json(results: list[FileResult], total: Tally) -> None:
    def figures(tally: Tally) -> dict[str, object]:
        return {
            "matched": tally.selected,
            "lines": tally.lines,
            "percent": round(tally.percent, 4),
        }

    echo_json(
        {
            **figures(total),
            "files": [{"path": shown(one.path), **figures(one.tally)} for one in results],
        }
    )
