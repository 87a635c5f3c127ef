"""``kvcli sources`` and ``kvcli lines``: what was counted, and back to the raw lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from kvclient.cli._failures import fail
from kvclient.cli._output import echo_json, table
from kvclient.cli._settings import Settings, open_client, pass_settings
from kvclient.text import bytes_as_json, shown

if TYPE_CHECKING:
    from parser.fingerprint import SourceInfo

__all__ = ["lines", "sources"]


@click.command()
@pass_settings
def sources(settings: Settings) -> None:
    """Show the logs that were counted: where they lie, how much of them, their books."""
    from kvclient.sources import source_of

    with open_client(settings) as client:
        found = [source_of(entry) for entry in client.execute("SOURCES")]
    found = [info for info in found if info.ranges or info.size]
    if not settings.for_people:
        echo_json([_as_json(info) for info in found])
        return
    table(
        [
            (
                info.path,
                f"{info.counted_bytes:,}",
                _share(info),
                info.books.get("lines", 0),
                info.books.get("matched", 0),
                info.books.get("unparsed", 0),
                info.books.get("skipped", 0),
                _time(info.seen_ms),
                f"{info.id:016x}",
            )
            for info in found
        ],
        ["path", "bytes", "of size", "lines", "matched", "unparsed", "skipped", "seen", "id"],
        right=["bytes", "of size", "lines", "matched", "unparsed", "skipped"],
    )


def _share(info: SourceInfo) -> str:
    size = max(info.size, info.counted_bytes)
    # rounded down: 100 % means all of it
    return f"{1000 * info.counted_bytes // size / 10:.1f} %" if size else ""


def _time(ms: int) -> str:
    from parser.isotime import format_time_ms

    return format_time_ms(ms // 1000 * 1000) if ms else ""


def _as_json(info: SourceInfo) -> dict[str, Any]:
    return {
        "id": f"{info.id:016x}",
        "path": shown(info.path),
        "counted_bytes": info.counted_bytes,
        "size": max(info.size, info.counted_bytes),
        "ranges": [list(pair) for pair in info.ranges],
        "books": info.books,
        "last_activity": _time(info.seen_ms) or None,
    }


@click.command()
@click.argument("key")
@click.option("--first", is_flag=True, help="Only the first line.")
@click.option("--last", is_flag=True, help="Only the last line.")
@pass_settings
def lines(settings: Settings, key: str, first: bool, last: bool) -> None:
    """Read the first and the last line of KEY back from the log they came from."""
    from kvclient.sources import LineGone, lines_at, source_of

    wanted = [name for name, asked in (("first", first), ("last", last)) if asked]
    answers: dict[str, Any] = {"key": key}
    problems: list[str] = []
    with open_client(settings) as client:
        summary = _summary(client.execute("GET", key), key)
        for name in wanted or ["first", "last"]:
            place = summary.get(f"{name}_line")
            if place is None:
                problems.append(f"the {name} line of {key} is not known")
                continue
            source, offset = place
            reply = client.execute("SOURCES", source)
            if not reply:
                problems.append(f"the store does not know the log of the {name} line of {key}")
                continue
            try:
                found = lines_at(source_of(reply[0]), [offset])[0]
            except LineGone as error:
                problems.append(f"the {name} line of {key} cannot be read back: {error}")
                continue
            answers[name] = {
                "path": shown(found.path),
                "source": source,
                "offset": offset,
                "line": bytes_as_json(found.line),
            }
            if not settings.json:
                click.echo(found.line)
    if settings.json:
        echo_json(answers)
    if problems:
        fail("; ".join(problems))


def _summary(reply: Any, key: str) -> dict[str, Any]:
    if reply is None:
        fail(f"no key {shown(key)!r}")
    try:
        summary = json.loads(reply)
    except ValueError:
        summary = None
    if not isinstance(summary, dict) or "count" not in summary:
        fail(f"{shown(key)!r} is not a summary")
    return summary
