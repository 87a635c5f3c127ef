"""``kvcli log summarize``: one summary for each key of a log, without a store."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from kvclient.cli._failures import fail
from kvclient.cli._output import echo_json, table
from kvclient.cli._reading import filter_options, format_options, reading_of, workers_option
from kvclient.cli._settings import Settings, pass_settings
from kvclient.cli.log._files import Problems
from kvclient.text import shown

if TYPE_CHECKING:
    from parser.report import Report
    from parser.sink import MemorySink
    from parser.summary import Summary

Row = tuple[bytes, "Summary"]

SHOWN_ROWS: Final = 20
_SUFFIXES: Final = (".csv", ".json", ".jsonl")


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE…")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write .csv, .json or .jsonl; whole or not at all.",
)
@click.option(
    "--threshold", type=click.IntRange(0), default=1, metavar="N", help="N events or more."
)
@filter_options
@format_options
@workers_option
@pass_settings
def summarize(
    settings: Settings,
    /,
    paths: tuple[str, ...],
    *,
    output: Path | None,
    threshold: int,
    **options: Any,
) -> None:
    """Summarize FILEs by key: events, first and last time, levels, tags.

    Without --output: a table of the keys with most events, or in a pipe (and with --json) one
    object a line. Lines that are filtered out count as skipped in the books. Memory grows with the
    number of keys, not with that of lines.
    """
    from functools import partial

    import trio

    from parser.report import Report
    from parser.run import run
    from parser.sink import MemorySink

    if output is not None and output.suffix not in _SUFFIXES:
        raise click.BadParameter(
            f"{output}: a name ends in .csv, .json or .jsonl", param_hint="--output"
        )
    if output is not None and not output.parent.is_dir():
        fail(f"{output.parent}: no such directory")
    reading = reading_of(options)
    sink, report = MemorySink(), Report()
    trio.run(partial(run, paths, sink, reading, report=report))
    problems = Problems()
    for problem in report.problems:
        problems.add(str(problem))
    if report.interrupted:
        raise KeyboardInterrupt
    if not report.lines:
        problems.finish()  # nothing could be read: no file is better than an empty one
    rows = Rows(sink, threshold)
    if output is not None:
        from kvclient.files import whole_file

        with whole_file(output) as file:
            _WRITERS[output.suffix](file, rows)
        click.echo(f"{_keys(len(rows))} in {shown(str(output))}; {_books(report)}", err=True)
    elif settings.for_people:
        _draw(rows, report)
    else:
        for key, summary in rows:
            echo_json(_json(key, summary))
    problems.finish()


class Rows:
    """The keys that are shown, those with most events first; folds one summary at a time.

    As objects, a million summaries would take gigabytes; as bytes they take what they took.
    """

    def __init__(self, sink: MemorySink, threshold: int) -> None:
        from parser.summary import fold

        self._fold = fold
        self._deltas = sink.deltas
        self.levels: set[str] = set()
        """All levels that occur."""
        ranked: list[tuple[int, bytes]] = []
        for key, log in sink.deltas.items():
            summary = fold(log)
            if summary.count >= threshold:
                ranked.append((-summary.count, key))
                self.levels.update(summary.levels)
        ranked.sort()
        self._keys = [key for _, key in ranked]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Row]:
        return ((key, self._fold(self._deltas[key])) for key in self._keys)


def _keys(n: int) -> str:
    return f"{n:,} key{'s' if n != 1 else ''}"


def _books(report: Report) -> str:
    return (
        f"{report.lines:,} lines = {report.matched:,} matched + {report.unparsed:,} unparsed"
        f" + {report.skipped:,} skipped"
        + (f" + {report.continued:,} continued" if report.continued else "")
    )


def _draw(rows: Rows, report: Report) -> None:
    from parser.summaryjson import to_json

    drawn = []
    for key, summary in islice(rows, SHOWN_ROWS):
        told = to_json(summary)
        tags = [
            f"{name}={value} {n:,}"
            for name, values in told.get("tags", {}).items()
            for value, n in sorted(values.items(), key=lambda item: -item[1])[:4]
        ]
        levels = [f"{name} {n:,}" for name, n in told.get("levels", {}).items()]
        drawn.append([key, summary.count, told["first"], told["last"], " ".join([*levels, *tags])])
    table(drawn, ["key", "events", "first", "last", "levels and tags"], right=("events",))
    if len(rows) > SHOWN_ROWS:
        click.echo(f"… and {_keys(len(rows) - SHOWN_ROWS)} more; --output FILE writes all")
    click.echo(_books(report), err=True)


# ----------------------------------------------------------------------------------------- files


def _json(key: bytes, summary: Summary) -> dict[str, Any]:
    from parser.summaryjson import to_json

    return {"key": key.decode("utf-8", "backslashreplace"), **to_json(summary)}


def _write_jsonl(file: IO[str], rows: Rows) -> None:
    for key, summary in rows:
        file.write(json.dumps(_json(key, summary), ensure_ascii=False) + "\n")


def _write_json(file: IO[str], rows: Rows) -> None:
    """Write one object: key -> summary, a line each."""
    between = "{\n"
    for key, summary in rows:
        told = _json(key, summary)
        name = told.pop("key")
        file.write(
            between
            + f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(told, ensure_ascii=False)}"
        )
        between = ",\n"
    file.write("{}\n" if between == "{\n" else "\n}\n")


def _write_csv(file: IO[str], rows: Rows) -> None:
    """Write a row a key: a column for each level, tags and numbers as JSON."""
    levels = sorted(rows.levels)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["key", "count", "first", "last", *map(shown, levels), "tags", "numbers", "first_line"]
    )
    writer.writerows(_csv_rows(rows, levels))


def _csv_rows(rows: Iterable[Row], levels: Sequence[str]) -> Iterator[list[Any]]:
    for key, summary in rows:
        told = _json(key, summary)
        maps = [told.get("tags"), told.get("numbers"), told.get("first_line")]
        yield [
            told["key"],
            summary.count,
            told["first"] or "",
            told["last"] or "",
            *(summary.levels.get(level, 0) for level in levels),
            *("" if value is None else json.dumps(value, ensure_ascii=False) for value in maps),
        ]


_WRITERS: Final = {".csv": _write_csv, ".json": _write_json, ".jsonl": _write_jsonl}
