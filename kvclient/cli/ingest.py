"""``kvcli ingest``: logs into the store, every line once."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final

import click

from kvclient.cli._failures import fail
from kvclient.cli._output import echo_json
from kvclient.cli._reading import filter_options, format_options, reading_of, workers_option
from kvclient.cli._settings import Settings, pass_settings
from kvclient.errors import KvError
from kvclient.text import bytes_as_json, shown
from parser.spawn import ahead

if TYPE_CHECKING:
    from kvclient.sink import StoreSink
    from parser.consumer import Found
    from parser.format import Format
    from parser.report import Report
    from parser.run import Reading
    from parser.spawn import Started

    _ParamType = click.ParamType[float]
else:
    _ParamType = click.ParamType  # older ones are not generic

__all__ = ["DURATION", "ingest"]

EXIT_INTERRUPTED: Final = 130


class _Duration(_ParamType):
    """A time such as ``30s``, ``500ms``, ``2m``, ``1h``; a bare number is seconds."""

    name = "duration"
    _units: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)", value.strip())
        if found is None:
            self.fail(f"{value!r} is not a time such as 30s, 500ms or 2m", param, ctx)
        return float(found[1]) * self._units[found[2]]


DURATION: Final = _Duration()


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@format_options
@filter_options
@workers_option
@click.option("--follow", is_flag=True, help="Stay, and count lines as they are written.")
@click.option(
    "--dead-letter",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Append samples of unparsed lines, as JSON lines.",
)
@click.option(
    "--retry",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long to try again while the server is away.",
)
@click.option("--range-bytes", type=click.IntRange(1), hidden=True)
@pass_settings
def ingest(
    settings: Settings,
    /,
    paths: tuple[str, ...],
    *,
    follow: bool,
    dead_letter: str | None,
    retry: float,
    range_bytes: int | None,
    **reading: Any,
) -> None:
    """Count logs into the store: files, directories, globs, - for standard input.

    gz, bz2, xz and zst are read as they are. Every line is counted once: a run that was
    interrupted is resumed by running it again, and a log that was counted (renamed, copied,
    compressed) is not counted twice. That holds for a run with filters too: the lines it leaves
    out are skipped for good, as its books say.
    """
    if follow and "-" in paths:
        raise click.UsageError("a pipe is followed anyway: leave --follow out")
    with ahead(() if follow else paths, reading["workers"]) as spare:
        report = _count(
            settings, paths, spare,
            follow=follow, dead_letter=dead_letter, retry=retry, range_bytes=range_bytes, **reading,
        )  # fmt: skip
    _finish(report, settings)


def _count(
    settings: Settings,
    paths: tuple[str, ...],
    spare: list[Started],
    *,
    follow: bool,
    dead_letter: str | None,
    retry: float,
    range_bytes: int | None,
    **reading: Any,
) -> Report:
    """Import what it takes and count, while the producers get ready too."""
    import trio

    from kvclient.sink import StoreSink
    from parser.groups import only_of
    from parser.report import Report

    how = reading_of(reading)
    _require_keys(how)
    if range_bytes is not None:
        how = dataclasses.replace(how, range_bytes=range_bytes)
    report = Report()
    # who starts a follower at boot means it to wait; who types the command wants to know at once
    sink = StoreSink(settings.address, retry_s=retry, first_retry_s=retry if follow else 1.0)
    with _letters(dead_letter) as on_commit:
        try:
            go = _follow if follow else partial(_run, spare=spare)
            trio.run(partial(go, paths, sink, how, report, on_commit, quiet=settings.json))
        except KeyboardInterrupt:
            report.interrupted = True
        except BaseExceptionGroup as group:  # see ``unwrapped`` why this is no except*
            interrupted, rest = group.split(KeyboardInterrupt)
            report.interrupted = report.interrupted or interrupted is not None
            if rest is not None:
                raise only_of(rest, KvError) or rest from None
    return report


def _require_keys(how: Reading) -> None:
    """Refuse a format of one's own that says of no line what it is about.

    All lines would be skipped, and, being counted, skipped for good.
    """
    if how.keys:
        return
    if how.layouts or how.regex:
        from parser.format import make_format

        _refuse("", make_format("custom", layouts=how.layouts, regex=how.regex))
    elif how.formats_file:
        from parser.formatsfile import load_formats_file

        for name, fmt in load_formats_file(how.formats_file).items():
            if not fmt.keys and how.format in {"auto", name}:
                _refuse(f"the format {name} has no keys: give it some, or ", fmt)


def _refuse(why: str, fmt: Format) -> None:
    fields = {name: None for layout in fmt.layouts for name in layout.names}
    if fmt.regex is not None:
        fields |= dict.fromkeys(fmt.regex.groupindex)
    raise click.UsageError(
        f"{why}say with --key what the lines are about, for example --key 'content ~ req-<hex> -> "
        f"request_{{}}'; without one nothing would be counted (there is: {', '.join(fields)})"
    )


async def _run(
    paths: tuple[str, ...],
    sink: StoreSink,
    how: Reading,
    report: Report,
    on_commit: Callable[[Found], None] | None,
    *,
    quiet: bool,
    spare: list[Started],
) -> None:
    import trio

    from kvclient.cli._books import Bar
    from parser.run import run
    from parser.sink import SinkGone
    from parser.source import Problem

    bar = Bar(report, quiet=quiet)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bar.run)
            try:
                await run(paths, sink, how, report=report, on_commit=on_commit, spare=spare)
            except SinkGone as error:
                report.problems.append(
                    Problem("the store", f"{error}; run the same command again to resume")
                )
            nursery.cancel_scope.cancel()
    finally:
        bar.close()
        with trio.CancelScope(shield=True):
            await sink.aclose()


async def _follow(
    paths: tuple[str, ...],
    sink: StoreSink,
    how: Reading,
    report: Report,
    on_commit: Callable[[Found], None] | None,
    *,
    quiet: bool,
) -> None:
    import trio

    from kvclient.cli._books import Bar
    from parser.follow import Follower, follow
    from parser.run import recipes
    from parser.sink import SinkGone
    from parser.source import Problem

    started = time.monotonic()
    follower = Follower(
        paths,
        sink,
        recipes(how, 0, report.formats),
        report=report,
        on_commit=on_commit,
        workers=how.workers,
    )
    bar = Bar(report, quiet=quiet)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bar.run)
            nursery.start_soon(_say_problems, report)
            try:
                report.interrupted = await follow(follower)
            except SinkGone as error:
                report.problems.append(
                    Problem("the store", f"{error}; run the same command again to resume")
                )
            nursery.cancel_scope.cancel()
    finally:
        report.seconds = time.monotonic() - started
        bar.close()
        with trio.CancelScope(shield=True):
            await sink.aclose()


async def _say_problems(report: Report) -> None:
    """Tell problems as they come: nobody waits for the end of a run that does not end."""
    import trio

    while True:
        while report.problems:
            click.echo(f"kvcli: {shown(str(report.problems.pop(0)))}", err=True)
        await trio.sleep(0.5)


def _finish(report: Report, settings: Settings) -> None:
    from kvclient.cli._books import print_report, size_of

    if settings.json:
        echo_json(report.as_json())
    else:
        print_report(report)
    for problem in report.problems:
        click.echo(f"kvcli: {shown(str(problem))}", err=True)
    if report.interrupted:
        counted = size_of(report.counted_bytes)
        fail(
            f"interrupted: {report.lines:,} lines ({counted}) are counted; "
            "run the same command again to resume",
            EXIT_INTERRUPTED,
        )
    if report.problems:
        sys.exit(1)
    if not report.lines and report.counted_before_bytes:
        size = size_of(report.counted_before_bytes)
        click.echo(f"kvcli: nothing new: all {size} were counted before", err=True)


@contextlib.contextmanager
def _letters(path: str | None) -> Iterator[Callable[[Found], None] | None]:
    """Give a function that appends the unparsed lines of a range to a file."""
    if path is None:
        yield None
        return
    with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - may hold stray bytes

        def write(found: Found) -> None:
            for offset, data, reason in found.message["rejected"]:
                _write_letter(file, found.task.planned.input.path, offset, data, reason)
            file.flush()

        yield write


def _write_letter(file: IO[str], path: str, offset: int, data: bytes, reason: str) -> None:
    letter = {
        "source": shown(path),
        "offset": offset,
        "reason": reason,
        "bytes": bytes_as_json(data),
    }
    file.write(json.dumps(letter, ensure_ascii=False) + "\n")
