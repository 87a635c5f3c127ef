"""``kvcli templates``: what kinds of events the store has counted; and their texts for others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from kvclient.cli._output import echo_json, table
from kvclient.cli._settings import Settings, open_client, pass_settings
from kvclient.errors import ReplyError, ServerLoading
from kvclient.text import shown

if TYPE_CHECKING:
    from kvclient.client import Client
    from parser.templates import Template, Templates

__all__ = ["EventLine", "event_lines", "fetch_templates", "templates"]

_MAX_PATTERNS_TO_SHOW_A_KEY: Final = 2000
"""A larger catalogue is not fetched to show one key: its events appear pattern by pattern."""


@click.command("templates")
@click.option(
    "--sort",
    "order",
    type=click.Choice(["count", "first", "last"]),
    default="count",
    show_default=True,
    help="Most frequent first, oldest first, or latest first.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Show only the first N of them."
)
@click.option(
    "--templates",
    "template_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Name templates by a file: a CSV with EventId and EventTemplate, or one a line.",
)
@pass_settings
def templates(
    settings: Settings, order: str, limit: int | None, template_file: Path | None
) -> None:
    """Show the templates of all lines counted: how often, since when, an example."""
    with open_client(settings) as client:
        found = fetch_templates(client, template_file)
    total = sum(one.count for one in found)
    ranked = _ranked(found, order)[:limit]
    if settings.json:
        echo_json([_as_json(one, total) for one in ranked])
    elif settings.for_people:
        _draw(ranked, total, len(found))
    else:
        for one in ranked:
            click.echo(f"{one.id}\t{one.count}\t{shown(one.text)}")


def fetch_templates(client: Client, template_file: Path | None = None) -> Templates:
    """Compute the templates of everything the server has counted."""
    from parser.pinned import load_templates
    from parser.templates import rows
    from parser.templates import templates as compute

    pinned = None if template_file is None else load_templates(template_file)
    return compute(rows(_plain(client.execute("PATTERNS"))), pinned)


_HEX_DIGITS: Final = 16


class EventLine(NamedTuple):
    """What a summary says about one kind of event."""

    id: str
    """Of the template; of the pattern where the template is not known."""
    text: str
    n: int


def event_lines(client: Client, events: Mapping[str, int]) -> list[EventLine]:
    """Add up a summary's events by template, most frequent first, with the templates' texts.

    Args:
        client: a client of the server that has the catalogue.
        events: as GET shows them: pattern id as 16 hexadecimal digits -> count.
    """
    lines: dict[str, EventLine] = {}
    for event, (id_, text) in _named(client, events).items():
        n = events[event] + (lines[id_].n if id_ in lines else 0)
        lines[id_] = EventLine(id_, text, n)
    return sorted(lines.values(), key=lambda line: (-line.n, line.text))


def _named(client: Client, events: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    """For each pattern id: id and text of its template, or its own where that is not known."""
    named = {event: (event, event) for event in events}
    ids = [event for event in events if len(event) == _HEX_DIGITS]
    try:
        entries = _plain(client.execute("PATTERNS", *ids)) if ids else []
    except ServerLoading:
        raise
    except ReplyError:  # a server without a catalogue, Redis itself for one
        return named
    found = fetch_templates(client) if entries and _is_small(client) else None
    for event, text, *_ in entries:
        named[event] = event, shown(text)
        if found is not None:
            # A pattern that was folded into a coarser one is asked for by its old id.
            template = found.of_pattern(int(event, 16)) or found.match(text)
            named[event] = template.id, shown(template.text)
    return named


def _is_small(client: Client) -> bool:
    """Whether the catalogue is so small that fetching all of it is not felt."""
    try:
        return int(client.stats().get("patterns", 0)) <= _MAX_PATTERNS_TO_SHOW_A_KEY
    except ServerLoading:
        raise
    except ReplyError:  # a user who may not see figures; the catalogue is most often small
        return True


def _plain(reply: Any) -> list[tuple[Any, ...]]:
    """The entries of PATTERNS, the id as text."""
    return [
        (entry[0].decode("ascii") if isinstance(entry[0], bytes) else entry[0], *entry[1:])
        for entry in reply
    ]


def _ranked(found: Templates, order: str) -> list[Template]:
    if order == "count":
        return list(found)
    if order == "first":
        return sorted(found, key=lambda one: (one.first is None, _when(one.first), one.text))
    return sorted(found, key=lambda one: (one.last is None, *(-n for n in _when(one.last))))


def _when(position: Any) -> tuple[int, int]:
    """Orders positions by time; those of a log without times by where they are in it."""
    if position is None:
        return 0, 0
    return position[0] or 0, position[2]


def _time(position: Any) -> str | None:
    from parser.isotime import format_time_ms

    return None if position is None or position[0] is None else format_time_ms(position[0])


def _as_json(one: Template, total: int) -> dict[str, Any]:
    return {
        "id": one.id,
        "count": one.count,
        "share": round(one.count / total, 6) if total else 0.0,
        "first": _time(one.first),
        "last": _time(one.last),
        "template": shown(one.text),
        "example": shown(one.example),
        "patterns": [f"{key:016x}" for key in one.patterns],
        "pinned": one.pinned,
    }


def _draw(ranked: list[Template], total: int, n: int) -> None:
    rows = [
        (
            one.id,
            one.count,
            f"{100 * one.count / total:.1f} %" if total else "",
            _time(one.first),
            _time(one.last),
            one.text,
            one.example,
        )
        for one in ranked
    ]
    table(
        rows,
        ["id", "count", "share", "first", "last", "template", "example"],
        title=f"{n:,} templates of {total:,} lines",
        right=["count", "share"],
    )
