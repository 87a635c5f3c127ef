"""A summary as people read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvclient.text import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvclient.cli.templates import EventLine
    from kvclient.client import Client

__all__ = ["draw_summary", "events_of", "patterns_of_template", "span", "summary_view"]


def draw_summary(client: Client, key: str | bytes, summary: dict[str, Any]) -> None:
    """Print the summary as a readable table, with the text of each event's template."""
    from kvclient.cli._console import Screen

    lines = events_of(client, summary)
    Screen(highlight=False).print(summary_view(key, summary, lines))


def events_of(client: Client, summary: dict[str, Any]) -> list[EventLine]:
    """Return the events of a summary by template, most frequent first."""
    events = summary.get("events")
    if not events:
        return []
    from kvclient.cli.templates import event_lines

    return event_lines(client, events)


def patterns_of_template(client: Client, name: str) -> list[str]:
    """Return the pattern ids that belong to a template now; none when there is no such one."""
    from kvclient.cli.templates import fetch_templates

    template = fetch_templates(client).get(name)
    return [] if template is None else [f"{key:016x}" for key in template.patterns]


def summary_view(
    key: str | bytes, summary: dict[str, Any], lines: Sequence[EventLine]
) -> RenderableType:
    """Return what rich draws for a summary."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim")
    head.add_column(overflow="fold")
    count = summary.get("count", 0)
    head.add_row("events", Text(f"{count:,}", style="bold"))
    head.add_row("first", Text(summary.get("first") or "no time"))
    head.add_row("last", Text(_last(summary)))
    if levels := summary.get("levels"):
        head.add_row("levels", _levels(levels))
    for name, values in summary.get("tags", {}).items():
        head.add_row(Text(shown(name)), Text(_counts(values)))
    for name, number in summary.get("numbers", {}).items():
        head.add_row(Text(shown(name)), Text(_number(number)))
    parts: list[RenderableType] = [Text(shown(key), style="bold cyan"), head]
    if lines:
        listed = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        listed.add_column("events", justify="right")
        listed.add_column("template", overflow="fold")
        for line in lines:
            listed.add_row(Text(f"{line.n:,}"), _template(line.text))
        parts += [Text(), listed]
    return Group(*parts)


def _template(text: str) -> Any:
    from rich.text import Text

    drawn = Text(text)
    drawn.highlight_words(["<*>"], style="cyan")
    return drawn


def _last(summary: dict[str, Any]) -> str:
    last = summary.get("last") or "no time"
    if summary.get("first") and summary.get("last"):
        from parser.isotime import parse_time_ms

        took_ms = parse_time_ms(summary["last"]) - parse_time_ms(summary["first"])
        if took_ms > 0:
            last += f"   ({span(took_ms / 1000)} later)"
    return last


def span(seconds: float) -> str:
    """Return a length of time as people say it, in its two largest units."""
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    left = round(seconds)
    said: list[str] = []
    for name, size in units:
        if left >= size or said:
            said.append(f"{left // size} {name}")
            left %= size
    return " ".join(said[:2])


def _levels(levels: dict[str, int]) -> Any:
    from rich.text import Text

    drawn = Text()
    for name, n in sorted(levels.items(), key=lambda item: -item[1]):
        style = {"ERROR": "red", "FATAL": "red", "WARN": "yellow", "WARNING": "yellow"}
        drawn.append(f"{shown(name)} {n:,}  ", style=style.get(name.upper(), ""))
    return drawn


def _counts(values: dict[str, int]) -> str:
    ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{shown(value)} {n:,}" for value, n in ranked[:12]]
    if len(ranked) > 12:
        told.append(f"and {len(ranked) - 12:,} more")
    return "  ".join(told)


def _number(number: dict[str, int]) -> str:
    mean = number["sum"] / number["n"] if number.get("n") else 0
    return f"sum {number['sum']:,}  mean {mean:,.0f}  min {number['min']:,}  max {number['max']:,}"
