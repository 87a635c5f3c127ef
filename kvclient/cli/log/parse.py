"""``kvcli log parse``: each event as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import click

from kvclient.cli._reading import filter_options, format_options, reading_of
from kvclient.cli.log._files import Problems, write_out

if TYPE_CHECKING:
    from parser.events import Log
    from parser.extract import Event, Rejected
    from parser.templates import Templates

MINED_BYTES: Final = 8 << 20
"""Templates are computed from so much of the beginning; what comes later is matched to them."""


@click.command()
@click.argument("path", metavar="FILE")
@format_options
@filter_options
@click.option(
    "--templates",
    "pinned",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Templates written by hand: a CSV with EventId and EventTemplate, or one a line.",
)
def parse(path: str, pinned: str | None, **options: Any) -> None:
    """Print the events of FILE, one JSON object a line; - is standard input.

    Each has time, level, keys, template_id, template, values, content and the fields of the
    format; continuation lines are in "more". A line that cannot be read has "unparsed" and
    "reason" instead; so has one above 1 MiB, of which only the beginning is shown, and not the
    lines that continue it.
    """
    from parser.events import open_log

    reading = reading_of(options)
    problems = Problems()
    with problems.reported(path):
        log = open_log(path, reading)
        log.pieces = problems.guarded(path, log.pieces)
        _print_events(log, pinned)
    problems.finish()


def _print_events(log: Log, pinned: str | None) -> None:
    from parser.extract import Event

    begin: list[Event | Rejected] = []
    events = log.events()
    size = 0
    for event in events:
        begin.append(event)
        size += len(event.content if isinstance(event, Event) else event.data) + 64
        if size > MINED_BYTES:
            break
    found = _templates(begin, pinned)
    write = write_out()
    held: list[bytes] = []
    for line in _lines(chain(begin, events), found):
        held.append(line)
        if len(held) == 256:
            write(b"".join(held))
            held.clear()
    write(b"".join(held))


def _templates(events: list[Event | Rejected], pinned: str | None) -> Templates:
    from parser.census import Census
    from parser.extract import Event
    from parser.pinned import load_templates
    from parser.templates import templates

    census = Census()
    for event in events:
        if isinstance(event, Event):
            census.add(event)
    return templates(census.patterns, None if pinned is None else load_templates(pinned))


def _lines(events: Iterator[Event | Rejected], found: Templates) -> Iterator[bytes]:
    from parser.extract import Event

    dumps = json.JSONEncoder(ensure_ascii=False, separators=(", ", ": ")).encode
    for event in events:
        if isinstance(event, Event):
            told = _told(event, found)
        else:
            told = {"unparsed": _text(event.data), "reason": event.reason, "offset": event.offset}
        yield dumps(told).encode("utf-8", "backslashreplace") + b"\n"


@lru_cache(maxsize=64)
def _time(ms: int) -> str:
    """Format a time; many events share one."""
    from parser.isotime import format_time_ms

    return format_time_ms(ms)


def _told(event: Event, found: Templates) -> dict[str, Any]:
    template = found.match(event.content)
    told: dict[str, Any] = {
        "time": None if event.time_ms is None else _time(event.time_ms),
        "level": None if event.level is None else _text(event.level),
        "keys": [_text(key) for key in event.keys],
        "template_id": template.id,
        "template": _plain(template.text),
        "values": [_text(value) for value in template.values(event.content)],
        "content": _text(event.content),
    }
    for name, value in event.fields.items():
        if name not in told:
            told[name] = _text(value)
    if event.more:
        told["more"] = [_text(line) for line in event.more]
    return told


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _plain(text: str) -> str:
    return _text(text.encode("utf-8", "surrogateescape"))
