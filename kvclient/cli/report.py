"""``kvcli report``: the store as one page for a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from kvclient.cli._failures import fail
from kvclient.cli._settings import Settings, open_client, pass_settings
from kvclient.cli.look import errors_in
from kvclient.text import shown

if TYPE_CHECKING:
    from kvclient.client import Client
    from kvclient.page import KeyRow, PageData, SourceRow, TemplateRow, Timeline

__all__ = ["gather", "report"]

SHOWN_TEMPLATES: Final = 25
SHOWN_ERRORS: Final = 15
BUCKETS: Final = 120


@click.command()
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path), metavar="OUT.html")
@click.option("--title", default="What the logs say", show_default=True, help="The page's title.")
@click.option(
    "--keys",
    type=click.IntRange(0, 100_000),
    default=5000,
    show_default=True,
    metavar="N",
    help="How many keys the page's search holds: those with most events.",
)
@pass_settings
def report(settings: Settings, output: Path, title: str, keys: int) -> None:
    """Write a page about the store: events over time, templates, keys, books, a search.

    The page is one file that needs no network. It is written whole or not at all.
    """
    from kvclient.files import whole_file
    from kvclient.page import page

    if not output.parent.is_dir():
        fail(f"{output.parent}: no such directory")
    address = settings.address
    with open_client(settings, timeout_s=300.0) as client:
        text = page(gather(client, title, keys, where=f"kvstore at {address}"))
    with whole_file(output) as file:
        file.write(text)
    click.echo(f"{shown(str(output))}: {len(text) / 1000:,.0f} kB; open it in a browser", err=True)


def gather(client: Client, title: str, keys: int, *, where: str) -> PageData:
    """Ask the server for everything that is on the page."""
    from kvclient.cli.templates import fetch_templates
    from kvclient.page import PageData
    from parser.isotime import format_time_ms

    found = fetch_templates(client)
    events = sum(one.count for one in found)
    sources = [_source(one) for one in client.execute("SOURCES")]
    all_keys = client.execute("DBSIZE")
    top = _rows(client, "count", keys) if keys else []
    errors = [row for row in _rows(client, "errors", SHOWN_ERRORS) if row.errors]
    timeline = _timeline(client)
    figures = {
        "keys": f"{all_keys:,}",
        "events": f"{events:,}",
        "kinds of events": f"{len(found):,}",
        "logs": f"{len(sources):,}",
        "lines": f"{sum(one.lines for one in sources):,}",
        "unparsed": f"{sum(one.unparsed for one in sources):,}",
    }
    return PageData(
        title=title,
        made=format_time_ms(round(time.time()) * 1000),
        server=where,
        tiles=[*figures.items()],
        timeline=timeline,
        templates=[_template(one, events) for one in list(found)[:SHOWN_TEMPLATES]],
        more_templates=max(0, len(found) - SHOWN_TEMPLATES),
        keys=top,
        all_keys=all_keys,
        errors=errors,
        sources=sources,
    )


def _named(reply: Any) -> dict[str, Any]:
    """Return a map of either protocol version with text for names."""
    pairs = (
        reply.items() if isinstance(reply, Mapping) else zip(reply[::2], reply[1::2], strict=True)
    )
    return {shown(name): value for name, value in pairs}


def _rows(client: Client, sort: str, limit: int) -> list[KeyRow]:
    from kvclient.page import KeyRow

    rows = []
    for key, raw in client.execute("FIND", "SORT", sort, "LIMIT", limit):
        summary = json.loads(raw)
        counted = summary.get("levels") or summary.get("tags", {}).get("status", {})
        levels = ", ".join(f"{name}: {n:,}" for name, n in _ranked(counted.items()))
        rows.append(
            KeyRow(
                shown(key),
                summary["count"],
                errors_in(summary),
                summary["first"] or "",
                summary["last"] or "",
                levels,
            )
        )
    return rows


def _ranked(counts: Iterable[tuple[str, int]]) -> Sequence[tuple[str, int]]:
    return sorted(counts, key=lambda item: -item[1])[:6]


def _timeline(client: Client) -> Timeline:
    from kvclient.page import Timeline
    from parser.isotime import format_time_ms

    told = _named(client.execute("FIND", "TIMELINE", BUCKETS))
    levels = {shown(name): row for name, row in _named(told["levels"]).items()}
    size = max(map(len, levels.values()), default=0)
    if told["begin_ms"] is None or not size:
        return Timeline(untimed_keys=told["untimed_keys"])
    times = [format_time_ms(told["begin_ms"] + at * told["width_ms"]) for at in range(size + 1)]
    return Timeline(times, levels, told["untimed_keys"])


def _template(one: Any, events: int) -> TemplateRow:
    from kvclient.page import TemplateRow
    from parser.isotime import format_time_ms

    def moment(position: Sequence[Any] | None) -> str:
        return "" if position is None or position[0] is None else format_time_ms(position[0])

    return TemplateRow(
        one.id,
        one.text,
        one.count,
        one.count / events if events else 0.0,
        moment(one.first),
        moment(one.last),
        shown(one.example)[:300],
    )


def _source(reply: Any) -> SourceRow:
    from kvclient.page import SourceRow

    told = _named(reply)
    about, books = _named(told["about"]), _named(told["books"])
    path = about.get("path", b"")
    size = about.get("size")
    return SourceRow(
        shown(path) if path else told["id"].decode(),
        told["bytes"],
        size if isinstance(size, int) and size else None,
        books.get("lines", 0),
        books.get("matched", 0),
        books.get("unparsed", 0),
        books.get("skipped", 0),
        books.get("continued", 0),
    )
