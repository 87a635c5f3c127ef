"""Events over time: a strip of bars for each level, drawn as SVG, and the same as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvclient.page.data import Timeline
from kvclient.page.markup import section, table, text

__all__ = ["timeline"]

_WIDTH: Final = 960
_LEFT: Final = 8
_STRIP: Final = 54
_FIRST_STRIP: Final = 120
_GAP: Final = 24
_MAX_STRIPS: Final = 8
_TICKS: Final = 5


def timeline(line: Timeline) -> str:
    """Return the section with all levels together first, then one strip for each."""
    if not line.levels:
        return section("time", "Events over time", "<p>No event has a time yet.</p>")
    buckets = len(line.times) - 1
    ranked = sorted(line.levels, key=lambda level: (_rank(level), -sum(line.levels[level]), level))
    total = [sum(row[at] for row in line.levels.values()) for at in range(buckets)]
    strips = [("all events", "all", total)]
    strips += [(level, _kind(level), line.levels[level]) for level in ranked[:_MAX_STRIPS]]
    top = _GAP
    drawn = []
    for number, (name, kind, row) in enumerate(strips):
        height = _FIRST_STRIP if number == 0 else _STRIP
        bars = _bars(name, row, line.times, (top, height))
        most = f"{sum(row):,}, at most {max(row):,} in a bar"
        base = top + height
        drawn.append(
            f'<text class="name" x="{_LEFT}" y="{top - 7}">{text(name)}'
            f'<tspan class="most" dx="8">{most}</tspan></text>'
            f'<line x1="{_LEFT}" x2="{_WIDTH - _LEFT}" y1="{base}" y2="{base}"/>'
            f'<g class="{kind}">{bars}</g>\n'
        )
        top += height + _GAP
    ticks = _ticks(line.times, top - _GAP + 14)
    summed = ", ".join(f"{level} {sum(line.levels[level]):,}" for level in ranked)
    label = f"Events over time, from {line.times[0]} to {line.times[-1]}: {summed}"
    note = (
        "Each key's events are spread evenly from its first to its last one, which is what its "
        "summary knows. A line that names several keys counts for each of them. Every level has "
        "a scale of its own."
    )
    if line.untimed_keys:
        note += f" {line.untimed_keys:,} keys have no times and are not shown."
    body = f"""<figure><div class="wide" tabindex="0" role="region" aria-label="Chart">
<svg class="chart" viewBox="0 0 {_WIDTH} {top}" role="img" aria-label="{text(label)}">
{"".join(drawn)}{ticks}
</svg></div>
<figcaption>{text(note)}</figcaption>
</figure>
<details><summary>The same as a table</summary>{_time_table(line, ranked, total)}</details>"""
    return section("time", "Events over time", body)


def _bars(name: str, row: Sequence[int], times: Sequence[str], place: tuple[int, int]) -> str:
    top, height = place
    most = max(row) or 1
    step = (_WIDTH - 2 * _LEFT) / len(row)
    bars = []
    for at, n in enumerate(row):
        if n:
            tall = max(1.5, height * n / most)  # what is there is seen, however little it is
            bars.append(
                f'<rect x="{_LEFT + at * step:.2f}" y="{top + height - tall:.1f}"'
                f' width="{max(step - 0.6, 0.6):.2f}" height="{tall:.1f}">'
                f"<title>{text(times[at])}: {n:,} {text(name)}</title></rect>"
            )
    return "".join(bars)


def _ticks(times: Sequence[str], y: int) -> str:
    last = len(times) - 1
    ticks = []
    for number in range(_TICKS):
        at = round(last * number / (_TICKS - 1))
        x = _LEFT + (_WIDTH - 2 * _LEFT) * at / last
        anchor = "start" if number == 0 else "end" if number == _TICKS - 1 else "middle"
        label = times[at].replace("T", " ").removesuffix("Z")
        ticks.append(
            f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{label}</text>'
        )
    return "".join(ticks)


def _time_table(line: Timeline, ranked: Sequence[str], total: Sequence[int]) -> str:
    rows = [
        [line.times[at], f"{n:,}", *(f"{line.levels[level][at]:,}" for level in ranked)]
        for at, n in enumerate(total)
        if n
    ]
    return table(["from", "all", *ranked], rows, "Events by time and level", "t" + "n" * 99)


_SEVERE: Final = ("ERR", "FATAL", "CRIT", "ALERT", "EMERG", "SEVERE", "PANIC", "5XX")
_WARN: Final = ("WARN", "4XX")
_QUIET: Final = ("DEBUG", "TRACE", "FINE", "VERBOSE")


def _kind(level: str) -> str:
    name = level.upper()
    if name.startswith(_SEVERE):
        return "error"
    if name.startswith(_WARN):
        return "warn"
    return "quiet" if name.startswith(_QUIET) else "info"


def _rank(level: str) -> int:
    return ("error", "warn", "info", "quiet").index(_kind(level))
