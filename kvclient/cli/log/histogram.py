"""``kvcli log histogram``: events over time by level, drawn in the terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import click

from kvclient.cli._failures import fail
from kvclient.cli._output import echo_json
from kvclient.cli._reading import filter_options, format_options, reading_of
from kvclient.cli._settings import Settings, pass_settings
from kvclient.cli.log._files import Problems
from kvclient.text import shown

if TYPE_CHECKING:
    from parser.census import Timeline

_BAR: Final = "█"
_PARTS: Final = " ▏▎▍▌▋▊▉"
_TIME_CHARS: Final = 20
_LEAST_BAR: Final = 10
_SEVERE: Final = ("EMERG", "ALERT", "FATAL", "CRIT", "PANIC", "SEVERE", "ERR")
_STYLES: Final = (("red", _SEVERE), ("yellow", ("WARN",)), ("dim", ("DEBUG", "TRACE")))


@click.command()
@click.argument("path", metavar="FILE")
@format_options
@filter_options
@click.option(
    "--rows", type=click.IntRange(1, 1000), default=40, show_default=True, help="At most."
)
@pass_settings
def histogram(settings: Settings, /, path: str, *, rows: int, **options: Any) -> None:
    """Draw the events of FILE over time, the worst levels first in each bar.

    --json prints the buckets instead.
    """
    from parser.census import NO_LEVEL, Timeline
    from parser.events import open_log
    from parser.extract import Event

    reading = reading_of(options)
    problems = Problems()
    timeline = Timeline()
    untimed = 0
    with problems.reported(path):
        log = open_log(path, reading)
        log.pieces = problems.guarded(path, log.pieces)
        for event in log.events():
            if isinstance(event, Event):
                level = NO_LEVEL if event.level is None else event.level.decode("utf-8", "replace")
                if event.time_ms is None:
                    untimed += 1
                else:
                    timeline.add(event.time_ms, level)
    if settings.json:
        _print_json(timeline, rows, untimed)
    elif not timeline.buckets:
        problems.finish()
        fail("no event has a time")
    else:
        _draw(timeline, rows, untimed)
    problems.finish()


def _print_json(timeline: Timeline, rows: int, untimed: int) -> None:
    from parser.isotime import format_time_ms

    width, buckets = timeline.rows(rows)
    echo_json(
        {
            "bucket_seconds": width // 1000,
            "buckets": [
                {
                    "time": format_time_ms(at),
                    "count": counts.total(),
                    "levels": {shown(level): n for level, n in sorted(counts.items())},
                }
                for at, counts in buckets
            ],
            "without_time": untimed,
        }
    )


def _draw(timeline: Timeline, rows: int, untimed: int) -> None:
    from rich.text import Text

    from kvclient.cli._console import Screen
    from parser.isotime import format_time_ms

    width, buckets = timeline.rows(rows)
    console = Screen(highlight=False)
    total: Counter[str] = Counter()
    for _, counts in buckets:
        total.update(counts)
    most = max(counts.total() for _, counts in buckets)
    digits = len(f"{most:,}")
    # a screen without room for a bar beside the time has it on a line of its own
    between = " " if console.width >= _TIME_CHARS + 1 + digits + 1 + _LEAST_BAR else "\n"
    before = digits + 1 + (_TIME_CHARS + 1 if between == " " else 0)
    room = max(_LEAST_BAR, min(console.width, 140) - before)
    levels = sorted(total, key=lambda level: (_rank(level), -total[level], level))
    for at, counts in buckets:
        time = f"{format_time_ms(at):{_TIME_CHARS}}{between}"
        line = Text(f"{time}{counts.total():>{digits},} ")
        for level, size in _shares(counts, levels, most, room):
            line.append(size, style=_style(level))
        console.print(line, no_wrap=True, overflow="crop")
    legend = Text(f"a row is {_width(width)}; ")
    for level in levels:
        legend.append(_BAR + " ", style=_style(level))
        legend.append(f"{shown(level)} {total[level]:,}  ")
    console.print(legend)
    if untimed:
        console.print(f"{untimed:,} events without a time are not shown")


def _shares(counts: Counter[str], levels: list[str], most: int, room: int) -> list[tuple[str, str]]:
    """Return the pieces of one bar; what is there is seen, however little it is."""
    pieces: list[tuple[str, str]] = []
    for level in levels:
        if n := counts[level]:
            eighths = max(1, round(8 * room * n / most))
            part = _PARTS[eighths % 8] if eighths % 8 else ""
            pieces.append((level, _BAR * (eighths // 8) + part))
    return pieces


def _rank(level: str) -> int:
    name = level.upper()
    if name.startswith(_SEVERE):
        return 0
    if name.startswith("WARN"):
        return 1
    return 3 if name.startswith(("DEBUG", "TRACE")) else 2


def _style(level: str) -> str:
    for style, names in _STYLES:
        if level.upper().startswith(names):
            return style
    return "cyan"


def _width(ms: int) -> str:
    seconds = ms // 1000
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            n = seconds // size
            return f"{n} {name}{'s' if n > 1 else ''}"
    return f"{seconds} second{'s' if seconds > 1 else ''}"
