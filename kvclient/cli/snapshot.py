"""Commands that move the whole store: export, import, and store, which shows it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from kvclient.cli._failures import fail
from kvclient.cli._output import echo_json
from kvclient.cli._settings import Settings, open_client, pass_settings
from kvclient.errors import SnapshotError
from kvclient.text import shown

if TYPE_CHECKING:
    from kvclient.client import Client
    from kvclient.snapshot import Entry

__all__ = ["export", "import_", "store"]


@click.command(short_help="Write the store to a file as JSON.")
@click.argument("file", default="kvstore.json", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--match", metavar="PATTERN", help="Only keys that match (* ? [abc]).")
@pass_settings
def export(settings: Settings, file: str, match: str | None) -> None:
    """Write the store to FILE as JSON.

    FILE is kvstore.json unless named; - is standard output. It is written whole or not at all.
    """
    from kvclient.files import whole_file
    from kvclient.snapshot import entry_lines

    skipped: dict[str, int] = {}
    counts = {"keys": 0, "summaries": 0}
    started_s = time.perf_counter()

    def skip(_: bytes, kind: str) -> None:
        skipped[kind] = skipped.get(kind, 0) + 1

    with open_client(settings, retry_s=5.0) as client:
        total = client.size()
        with _progress("exporting", total, "keys") as advance:
            entries = _counted(_entries(client, match, skip), counts, advance)
            if file == "-":
                for text in entry_lines(entries):
                    click.echo(text, nl=False)
            else:
                with whole_file(file) as out:
                    out.writelines(entry_lines(entries))
    seconds = time.perf_counter() - started_s
    if settings.json and file != "-":
        echo_json({**counts, "skipped": sum(skipped.values()), "seconds": round(seconds, 3)})
    else:
        said = f"exported {counts['keys']:,} keys, {counts['summaries']:,} of them summaries"
        to = "" if file == "-" else f", to {shown(file)}"
        click.echo(f"{said}{to} in {seconds:.1f} s", err=file == "-")
    for kind, n in skipped.items():
        click.echo(f"kvcli: left out {n:,} keys of type {kind}: not in this format", err=True)


def _entries(
    client: Client, match: str | None, skip: Callable[[bytes, str], None]
) -> Iterator[Entry]:
    from kvclient.transfer import export_entries

    return export_entries(client, match, skipped=skip)


def _counted(
    entries: Iterator[Entry], counts: dict[str, int], advance: Callable[[int], None]
) -> Iterator[Entry]:
    for entry in entries:
        counts["keys"] += 1
        counts["summaries"] += entry.kind == "summary"
        if counts["keys"] % 1000 == 0:
            advance(counts["keys"])
        yield entry


@click.command("import", short_help="Read a file, as export writes it, into the store.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--check", is_flag=True, help="Only look whether FILE could be imported.")
@pass_settings
def import_(settings: Settings, file: str, check: bool) -> None:
    """Read FILE, as export writes it, into the store; - is standard input.

    A key in FILE replaces the key in the store, the other keys stay. A file is looked through
    first: when it is damaged anywhere, nothing is imported.
    """
    from kvclient.snapshot import Deadline, read_snapshot
    from kvclient.transfer import Imported, import_items

    started_s = time.perf_counter()
    total: int | None = None
    if file != "-":
        with _open(file) as source:
            total = sum(not isinstance(item, Deadline) for item in read_snapshot(source))
    elif check:
        total = sum(not isinstance(item, Deadline) for item in read_snapshot(_stdin()))
    if check:
        echo_json({"keys": total}) if settings.json else click.echo(f"good: {total:,} keys")
        return
    done = Imported()
    with (
        open_client(settings, retry_s=5.0) as client,
        _progress("importing", total, "keys") as advance,
        contextlib.nullcontext(_stdin()) if file == "-" else _open(file) as source,
    ):
        client.ping()

        def told(so_far: Imported) -> None:
            nonlocal done
            done = so_far
            advance(so_far.keys)

        try:
            import_items(
                client,
                read_snapshot(source),
                now_ms=lambda: time.time_ns() // 1_000_000,
                progress=told,
            )
        except SnapshotError as error:  # only standard input, which cannot be read twice
            fail(f"{error}; {done.keys:,} keys before it were imported")
    seconds = time.perf_counter() - started_s
    if settings.json:
        echo_json(
            {
                "keys": done.keys,
                "summaries": done.summaries,
                "expired": done.expired,
                "replaced": done.replaced,
                "seconds": round(seconds, 3),
            }
        )
        return
    over = f"; {done.expired:,} had expired" if done.expired else ""
    twice = f"; {done.replaced:,} replaced by a later one" if done.replaced else ""
    click.echo(
        f"imported {done.keys:,} keys, {done.summaries:,} of them summaries,"
        f" in {seconds:.1f} s{over}{twice}"
    )


def _open(file: str) -> IO[str]:
    return Path(file).open(encoding="utf-8-sig")


def _stdin() -> IO[str]:
    return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig")


@click.command(short_help="Show everything that is in the store.")
@click.argument("pattern", default="*")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many keys.")
@pass_settings
def store(settings: Settings, pattern: str, limit: int | None) -> None:
    """Show what is in the store: every key that matches PATTERN, its time to live, its value.

    In a pipe, one line a key; with --json the whole store as export writes it.
    """
    import itertools

    from kvclient.snapshot import entry_lines

    match = None if pattern == "*" else pattern
    with open_client(settings) as client:
        found: Iterator[Entry] = _entries(client, match, lambda _key, _kind: None)
        entries = found if limit is None else itertools.islice(found, limit)
        if settings.json:
            for text in entry_lines(entries):
                click.echo(text, nl=False)
        elif settings.for_people:
            _draw(entries)
        else:
            for entry in entries:
                click.echo("\t".join([shown(entry.key), _left(entry), _brief(entry)]))


def _draw(entries: Iterator[Entry]) -> None:
    from rich.text import Text

    from kvclient.cli._console import Screen

    console = Screen(highlight=False)
    n = 0
    for entry in entries:
        n += 1
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(shown(entry.key), style="cyan")
        left = _left(entry)
        if left != "-":
            line.append(f"  {left}", style="yellow")
        line.append(f"  {_brief(entry)}", style="" if entry.kind == "string" else "dim")
        console.print(line)
    console.print(f"{n:,} keys", style="bold")


def _left(entry: Entry) -> str:
    if entry.deadline_ms is None:
        return "-"
    from kvclient.cli._summary import span

    return span(max(0, entry.deadline_ms - time.time_ns() // 1_000_000) // 1000)


def _brief(entry: Entry) -> str:
    if entry.kind == "string":
        return shown(entry.value)
    summary: dict[str, Any] = json.loads(entry.value)
    levels = " ".join(f"{name} {n:,}" for name, n in summary.get("levels", {}).items())
    first, last = summary.get("first") or "", summary.get("last") or ""
    return shown(f"{summary['count']:,} events  {first} … {last}  {levels}")


@contextlib.contextmanager
def _progress(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while the block runs, when stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.update(task, completed=n)
