"""The sections of the page that are tables: templates, keys, errors, books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvclient.page.data import KeyRow, PageData, SourceRow
from kvclient.page.markup import Markup, section, table, text

__all__ = ["books", "errors", "keys", "templates"]


def templates(data: PageData) -> str:
    """Return what happens most, each kind of event with a line of it."""
    if not data.templates:
        body = "<p>No line has been counted yet: <code>kvcli ingest FILE</code>.</p>"
        return section("templates", "What happens most", body)
    rows = [
        [
            f"{row.count:,}",
            _bar(row.share),
            Markup(
                f'<code>{text(row.text)}</code><span class="example">{text(row.example)}</span>'
            ),
            row.first,
            row.last,
            row.id,
        ]
        for row in data.templates
    ]
    drawn = table(
        ["events", "share", "template, and a line of it", "first", "last", "id"],
        rows,
        "Templates with most events",
        "nt ttt",
    )
    if data.more_templates:
        drawn += f"<p>{data.more_templates:,} more: <code>kvcli templates</code>.</p>"
    return section("templates", "What happens most", drawn)


def _bar(share: float) -> Markup:
    width = max(0.5, 100 * share)
    return Markup(
        f'<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{width:.1f}" height="8"/></svg> {100 * share:.1f} %'
    )


_KEY_COLUMNS: Final = ("key", "events", "errors", "first", "last", "levels")


def keys(data: PageData) -> str:
    """Return the search, and the keys with most events below it."""
    embedded = len(data.keys)
    of = (
        f"all {embedded:,} keys"
        if embedded >= data.all_keys
        else (f"the {embedded:,} keys with most events, of {data.all_keys:,} in the store")
    )
    if not embedded:
        return section("find", "Keys", "<p>There is no summary in the store.</p>")
    search = f"""<form role="search" id="search">
<label for="q">Search {text(of)}</label>
<input id="q" type="search" autocomplete="off" spellcheck="false" placeholder="block_123">
<output id="found" for="q" aria-live="polite"></output>
</form>
<noscript><p>The search needs JavaScript; the keys with most events are below.</p></noscript>"""
    drawn = table(_KEY_COLUMNS, map(_key_cells, data.keys[:20]), "Keys", " nntt", identity="keys")
    hint = (
        "<p>One key in full: <code>kvcli get KEY</code>. By condition: <code>kvcli find</code>.</p>"
    )
    return section("find", "Keys", search + drawn + hint)


def _key_cells(row: KeyRow) -> list[str]:
    return [row.key, f"{row.count:,}", f"{row.errors:,}", row.first, row.last, row.levels]


def errors(rows: Sequence[KeyRow]) -> str:
    """Return the keys with most errors."""
    if not rows:
        return section("errors", "Most errors", "<p>No key has an error.</p>")
    drawn = table(_KEY_COLUMNS, map(_key_cells, rows), "Keys with most errors", " nntt")
    return section("errors", "Most errors", drawn)


def books(sources: Sequence[SourceRow]) -> str:
    """Return the logs, and whether every line of them is accounted for."""
    if not sources:
        return section("books", "Books", "<p>No log has been counted.</p>")
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
    drawn = table(columns, rows, "Logs and their books", " nnnnnn")
    return section("books", "Books", drawn + note)


def _share(counted: int, size: int | None) -> str:
    return f"{counted:,}" if not size else f"{counted:,} of {max(size, counted):,}"
