"""The live screen of ``kvcli stats --watch``: what STATS says, with rates, drawn for a terminal.

It shows what it knows by name at the top and everything else below, so that a figure the server
learns tomorrow is there without a change here. A figure that is a plain sum (commands, hits …) also
gets its rate since the last look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

__all__ = ["Dashboard", "flat"]

RATED: Final = ("commands", "hits", "misses", "expired", "evicted", "lines", "matched", "net_")
"""Figures whose last part begins so only grow; how fast is what one wants to see."""
GROUPS: Final = ("journal", "compaction")
LATENCY: Final = "latency_us"
SPARK: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 60


def flat(figures: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested figures as one map of dotted names."""
    rows: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            rows.update(flat(value, f"{prefix}{name}."))
        else:
            rows[f"{prefix}{name}"] = value
    return rows


class Dashboard:
    """Keeps the last look, to tell rates from it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._before: dict[str, Any] = {}
        self._before_s = 0.0
        self._history: deque[float] = deque(maxlen=WIDTH)

    def view(self, figures: dict[str, Any], now_s: float) -> RenderableType:
        """Return the screen for these figures, read at ``now_s`` on a monotonic clock."""
        from rich.console import Group
        from rich.text import Text

        now = flat(figures)
        rates = self._rates(now, now_s)
        busy = rates.get("commands")
        if busy is not None:
            self._history.append(busy)
        title = Text.assemble(("kvstore ", "bold"), (self._address, "cyan"))
        head = Text(f"{busy:,.0f} commands/s  " if busy is not None else "")
        head.append(sparkline(self._history), style="green")
        panels = _Panels(_groups(now, rates), figures.get(LATENCY) or {})
        self._before, self._before_s = now, now_s
        return Group(title, head, panels, Text("q ends", style="dim"))

    def _rates(self, now: dict[str, Any], now_s: float) -> dict[str, float]:
        passed_s = now_s - self._before_s
        if not self._before or passed_s <= 0:
            return {}
        rates: dict[str, float] = {}
        for name, value in now.items():
            before = self._before.get(name)
            rated = name.rpartition(".")[2].startswith(RATED)
            if rated and isinstance(value, int) and isinstance(before, int) and value >= before:
                rates[name] = (value - before) / passed_s
        return rates


Rows = dict[str, tuple[Any, float | None]]


def _groups(now: dict[str, Any], rates: dict[str, float]) -> dict[str, Rows]:
    """Sort figures by what they are about: what their names begin with."""
    groups: dict[str, Rows] = {}
    for name, value in now.items():
        if name.startswith(f"{LATENCY}."):
            continue
        group, dot, rest = name.partition(".")
        if not dot:
            group = next((one for one in GROUPS if name.startswith(f"{one}_")), "server")
            rest = name.removeprefix(f"{group}_")
        elif group.endswith("books") and group != "books":
            continue  # of each source: kvcli sources shows them
        groups.setdefault(group, {})[rest] = (value, rates.get(name))
    return groups


class _Panels:
    """Figures in panels side by side; where the screen is narrower than one, line by line."""

    def __init__(self, groups: dict[str, Rows], latency: dict[str, Any]) -> None:
        self._groups = groups
        self._latency = {name: row for name, row in latency.items() if isinstance(row, dict)}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.columns import Columns
        from rich.panel import Panel

        parts = {name: _figures(rows) for name, rows in self._groups.items()}
        if self._latency:
            parts["latency, µs"] = _latencies(self._latency)
        panels = [
            Panel(part, title=name, title_align="left", expand=False)
            for name, part in parts.items()
        ]
        any_width = options.update_width(1000)
        widths = [console.measure(panel, options=any_width).maximum for panel in panels]
        if max(widths, default=0) <= options.max_width:
            yield Columns(panels)
        else:
            yield from self._lines()

    def _lines(self) -> Iterator[RenderableType]:
        from rich.text import Text

        for group, rows in self._groups.items():
            yield Text(f"\n{group}", style="bold")
            for name, (value, rate) in rows.items():
                more = f"  {rate:,.0f}/s" if rate else ""
                yield Text(f"{name.replace('_', ' ')} {told(name, value)}{more}")
        if self._latency:
            yield Text("\nlatency, µs", style="bold")
        for name, row in self._latency.items():
            told_all = [f"{column} {told(name, value)}" for column, value in row.items()]
            yield Text(f"{name} {' '.join(told_all)}")


def _latencies(rows: dict[str, dict[str, Any]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(style="dim")
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    for _ in columns:
        drawn.add_column(justify="right")
    drawn.add_row("", *[Text(column, style="dim") for column in columns])
    for name, row in rows.items():
        drawn.add_row(Text(name), *[Text(told(name, row.get(column))) for column in columns])
    return drawn


def _figures(rows: Rows) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(style="dim", no_wrap=True)
    drawn.add_column(justify="right", no_wrap=True)
    drawn.add_column(justify="right", style="green", no_wrap=True)
    for name, (value, rate) in rows.items():
        drawn.add_row(
            Text(name.replace("_", " ")),
            Text(told(name, value)),
            Text(f"{rate:,.0f}/s" if rate else ""),
        )
    return drawn


def told(name: str, value: Any) -> str:
    """Return a figure as people read it; its name says its unit."""
    if isinstance(value, bool) or value is None:
        return {None: "-", True: "yes", False: "no"}[value]
    if isinstance(value, list):
        return f"{len(value)} entries"
    if isinstance(value, int | float) and (name.endswith("bytes") or "memory" in name):
        return size_text(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    text = str(value)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def size_text(size: float) -> str:
    """Return bytes with the unit that fits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    raise AssertionError


def sparkline(values: deque[float]) -> str:
    """Return a row of bars, the tallest for the largest value."""
    top = max(values, default=0) or 1
    return "".join(SPARK[min(int(v / top * len(SPARK)), len(SPARK) - 1)] for v in values)
