"""The report as one HTML page: no network, no other file, nothing executed but its own script.

Guarantees: everything that comes from logs is escaped, in the markup and in the data of the script
(which puts it on the page as text only); a content security policy allows the page's own style and
script by their hashes and nothing else. Without JavaScript everything but the search is there.

Pure: data in, text out.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kvclient.page_style import SCRIPT, STYLE
from kvclient.text import shown

__all__ = ["KeyRow", "PageData", "SourceRow", "TemplateRow", "Timeline", "page"]


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key with what its summary says."""

    key: str
    count: int
    errors: int
    first: str
    last: str
    levels: str


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """A kind of event."""

    id: str
    text: str
    count: int
    share: float
    """Of all events, 0 to 1."""
    first: str
    last: str
    example: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A log and its books."""

    path: str
    bytes: int
    size: int | None
    lines: int
    matched: int
    unparsed: int
    skipped: int
    continued: int

    @property
    def balances(self) -> bool:
        """Whether every line is accounted for."""
        return self.lines == self.matched + self.unparsed + self.skipped + self.continued


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events over time by level."""

    times: Sequence[str] = ()
    """Beginning of each bucket; one more at the end."""
    levels: dict[str, list[int]] = field(default_factory=dict)
    untimed_keys: int = 0


@dataclass(frozen=True, slots=True)
class PageData:
    """Everything on the page."""

    title: str
    made: str
    server: str
    tiles: Sequence[tuple[str, str]]
    timeline: Timeline
    templates: Sequence[TemplateRow]
    more_templates: int
    keys: Sequence[KeyRow]
    """The keys with most events, most first; what the search looks through."""
    all_keys: int
    errors: Sequence[KeyRow]
    sources: Sequence[SourceRow]


def page(data: PageData) -> str:
    """Return the page."""
    rows = [[row.key, row.count, row.errors, row.first, row.last, row.levels] for row in data.keys]
    policy = (
        f"default-src 'none'; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="kvcli report">
<link rel="icon" href="data:,">
<title>{_text(data.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#find">Skip to the search</a>
<header>
<h1>{_text(data.title)}</h1>
<p>{_text(data.server)} · {_text(data.made)}</p>
<dl class="tiles">{"".join(_tile(name, value) for name, value in data.tiles)}</dl>
</header>
<main>
{_timeline(data.timeline)}
{_templates(data)}
{_keys(data)}
{_errors(data.errors)}
{_books(data.sources)}
</main>
<footer><p>Made by <code>kvcli report</code>; it needs no network and sends nothing.</p></footer>
<script type="application/json" id="data">{_script_json(rows)}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def _text(value: Any) -> str:
    return html.escape(shown(str(value)))


def _script_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _tile(name: str, value: str) -> str:
    return f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>"


# ---------------------------------------------------------------------------------------- timeline

_WIDTH: Final = 960
_LEFT: Final = 8
_STRIP: Final = 54
_FIRST_STRIP: Final = 120
_GAP: Final = 24
_MAX_STRIPS: Final = 8
_TICKS: Final = 5


def _timeline(line: Timeline) -> str:
    if not line.levels:
        return _section("time", "Events over time", "<p>No event has a time yet.</p>")
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
            f'<text class="name" x="{_LEFT}" y="{top - 7}">{_text(name)}'
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
<svg class="chart" viewBox="0 0 {_WIDTH} {top}" role="img" aria-label="{_text(label)}">
{"".join(drawn)}{ticks}
</svg></div>
<figcaption>{_text(note)}</figcaption>
</figure>
<details><summary>The same as a table</summary>{_time_table(line, ranked, total)}</details>"""
    return _section("time", "Events over time", body)


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
                f"<title>{_text(times[at])}: {n:,} {_text(name)}</title></rect>"
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
    return _table(["from", "all", *ranked], rows, "Events by time and level", "t" + "n" * 99)


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


# ------------------------------------------------------------------------------------------ tables


def _section(name: str, title: str, body: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{_text(title)}</h2>\n{body}\n</section>'
    )


def _table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str,
    kinds: str = "",
    identity: str = "",
) -> str:
    head = "".join(
        f'<th scope="col"{_class(kinds, at)}>{_text(name)}</th>' for at, name in enumerate(columns)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{_class(kinds, at)}>{_cell(cell)}</td>" for at, cell in enumerate(row))
        + "</tr>\n"
        for row in rows
    )
    name = f' id="{identity}"' if identity else ""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{_text(caption)}">'
        f"<table{name}><caption>{_text(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


class _Markup(str):
    """Is on the page as it stands."""

    __slots__ = ()


def _cell(value: str) -> str:
    return value if isinstance(value, _Markup) else _text(value)


def _class(kinds: str, at: int) -> str:
    kind = kinds[at : at + 1].strip()
    return f' class="{kind}"' if kind else ""


def _templates(data: PageData) -> str:
    if not data.templates:
        body = "<p>No line has been counted yet: <code>kvcli ingest FILE</code>.</p>"
        return _section("templates", "What happens most", body)
    rows = [
        [
            f"{row.count:,}",
            _bar(row.share),
            _Markup(
                f'<code>{_text(row.text)}</code><span class="example">{_text(row.example)}</span>'
            ),
            row.first,
            row.last,
            row.id,
        ]
        for row in data.templates
    ]
    table = _table(
        ["events", "share", "template, and a line of it", "first", "last", "id"],
        rows,
        "Templates with most events",
        "nt ttt",
    )
    if data.more_templates:
        table += f"<p>{data.more_templates:,} more: <code>kvcli templates</code>.</p>"
    return _section("templates", "What happens most", table)


def _bar(share: float) -> _Markup:
    width = max(0.5, 100 * share)
    return _Markup(
        f'<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{width:.1f}" height="8"/></svg> {100 * share:.1f} %'
    )


_KEY_COLUMNS: Final = ("key", "events", "errors", "first", "last", "levels")


def _keys(data: PageData) -> str:
    embedded = len(data.keys)
    of = (
        f"all {embedded:,} keys"
        if embedded >= data.all_keys
        else (f"the {embedded:,} keys with most events, of {data.all_keys:,} in the store")
    )
    if not embedded:
        return _section("find", "Keys", "<p>There is no summary in the store.</p>")
    search = f"""<form role="search" id="search">
<label for="q">Search {_text(of)}</label>
<input id="q" type="search" autocomplete="off" spellcheck="false" placeholder="block_123">
<output id="found" for="q" aria-live="polite"></output>
</form>
<noscript><p>The search needs JavaScript; the keys with most events are below.</p></noscript>"""
    table = _table(_KEY_COLUMNS, map(_key_cells, data.keys[:20]), "Keys", " nntt", identity="keys")
    hint = (
        "<p>One key in full: <code>kvcli get KEY</code>. By condition: <code>kvcli find</code>.</p>"
    )
    return _section("find", "Keys", search + table + hint)


def _key_cells(row: KeyRow) -> list[str]:
    return [row.key, f"{row.count:,}", f"{row.errors:,}", row.first, row.last, row.levels]


def _errors(rows: Sequence[KeyRow]) -> str:
    if not rows:
        return _section("errors", "Most errors", "<p>No key has an error.</p>")
    table = _table(_KEY_COLUMNS, map(_key_cells, rows), "Keys with most errors", " nntt")
    return _section("errors", "Most errors", table)


def _books(sources: Sequence[SourceRow]) -> str:
    if not sources:
        return _section("books", "Books", "<p>No log has been counted.</p>")
    rows = [
        [
            one.path,
            _share(one.bytes, one.size),
            f"{one.lines:,}",
            f"{one.matched:,}",
            f"{one.unparsed:,}",
            f"{one.skipped:,}",
            f"{one.continued:,}",
            "yes" if one.balances else "NO",
        ]
        for one in sources
    ]
    columns = [
        "log",
        "bytes counted",
        "lines",
        "matched",
        "unparsed",
        "skipped",
        "continued",
        "balances",
    ]
    note = "<p>lines = matched + unparsed + skipped + continued, or the books do not balance.</p>"
    table = _table(columns, rows, "Logs and their books", " nnnnnn")
    return _section("books", "Books", table + note)


_BOOKS: Final = ("lines", "matched", "unparsed", "skipped", "continued")


def _share(counted: int, size: int | None) -> str:
    return f"{counted:,}" if not size else f"{counted:,} of {max(size, counted):,}"
