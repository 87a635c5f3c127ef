"""``kvcli log stats``: what a log is like, in figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvclient.cli._output import echo_json, table
from kvclient.cli._reading import filter_options, format_options, reading_of
from kvclient.cli._settings import Settings, pass_settings
from kvclient.cli.log._files import Problems, named
from kvclient.text import shown

if TYPE_CHECKING:
    from parser.census import Census


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE…")
@format_options
@filter_options
@click.option("--top", type=click.IntRange(0), default=10, show_default=True, help="How many.")
@pass_settings
def stats(settings: Settings, /, paths: tuple[str, ...], *, top: int, **options: Any) -> None:
    """Count FILEs: lines, levels, rates, time span, the top templates and keys.

    Several files are counted together, large ones by several processes. Keys and templates
    beyond a large number are counted approximately, and then it says so.
    """
    from parser.counting import count_logs

    reading = reading_of(options)
    problems = Problems()
    counted = count_logs(named(paths, problems), reading, problems.add)
    formats = counted.formats
    figures = {"lines": counted.lines, "unparsed": counted.unparsed}
    figures |= _figures(counted.census, top)
    if settings.json or not settings.for_people:
        echo_json({**figures, "formats": {shown(path): why for path, why in formats.items()}})
    else:
        _draw(figures, formats)
    problems.finish()


def _figures(census: Census, top: int) -> dict[str, Any]:
    from parser.isotime import format_time_ms
    from parser.templates import templates

    def moment(ms: int | None) -> str | None:
        return None if ms is None else format_time_ms(ms)

    peak = census.peak()
    found = list(templates(census.patterns))[:top]
    return {
        "events": census.events,
        "first": moment(census.first_ms),
        "last": moment(census.last_ms),
        "span_seconds": census.span_s,
        "per_second": {
            "mean": round(census.mean_per_second, 3),
            "peak": 0 if peak is None else peak[1],
            "peak_second": None if peak is None else moment(peak[0] * 1000),
        },
        "levels": {
            shown(level): {"count": n, "percent": round(percent, 2)}
            for level, n, percent in census.level_shares()
        },
        "templates": [
            {
                "id": one.id,
                "count": one.count,
                "percent": round(100 * one.count / census.events, 2),
                "text": shown(one.text),
            }
            for one in found
        ],
        "keys": [{"key": shown(key), "count": n} for key, n in census.keys.top(top)],
        "different_keys": len(census.keys.counts),
        "without_key": census.keyless,
        "exact": census.keys.exact and census.seconds.exact and not census.other_patterns,
    }


def _draw(figures: dict[str, Any], formats: dict[str, str]) -> None:
    rate = figures["per_second"]
    rows = [
        ["lines", figures["lines"]],
        ["events", figures["events"]],
        ["unparsed", figures["unparsed"]],
        ["from", figures["first"]],
        ["to", figures["last"]],
        ["span", _span(figures["span_seconds"])],
        ["events/s, mean", rate["mean"]],
        ["events/s, peak", f"{rate['peak']:,} at {rate['peak_second']}" if rate["peak"] else None],
        ["keys", figures["different_keys"]],
        ["without a key", figures["without_key"]],
        *([shown(path), why] for path, why in formats.items()),
    ]
    table(rows, ["", ""])
    click.echo()
    levels = [
        [name, one["count"], f"{one['percent']:.2f} %"] for name, one in figures["levels"].items()
    ]
    table(levels, ["level", "events", "share"], right=("events", "share"))
    click.echo()
    found = [
        [one["id"], one["count"], f"{one['percent']:.2f} %", one["text"]]
        for one in figures["templates"]
    ]
    table(found, ["template", "events", "share", "text"], right=("events", "share"))
    click.echo()
    table(
        [[one["key"], one["count"]] for one in figures["keys"]],
        ["key", "events"],
        right=("events",),
    )
    if not figures["exact"]:
        click.echo("so many different keys or templates that rare ones are not exact", err=True)


def _span(seconds: float) -> str:
    whole = int(seconds)
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} days {clock}" if days else clock
