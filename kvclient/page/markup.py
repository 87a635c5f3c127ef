"""Pieces of HTML that a page repeats.

Guarantee: what is put into them is escaped, except `Markup` and the body of a section.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from kvclient.text import shown

__all__ = ["Markup", "section", "table", "text"]


def text(value: Any) -> str:
    """Return a value as text that is safe in an element and in an attribute."""
    return html.escape(shown(str(value)))


def section(name: str, title: str, body: str) -> str:
    """Return a part of the page with a heading; ``name`` is its id, ``body`` is markup."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{text(title)}</h2>\n{body}\n</section>'
    )


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str,
    kinds: str = "",
    identity: str = "",
) -> str:
    """Return a table that can be scrolled sideways.

    Args:
        columns: their headings.
        rows: cells in that order; a `Markup` is put in as it is.
        caption: what it shows.
        kinds: the class of each column, a letter each: n for numbers, t for times, or a space.
        identity: its id.
    """
    head = "".join(
        f'<th scope="col"{_class(kinds, at)}>{text(name)}</th>' for at, name in enumerate(columns)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{_class(kinds, at)}>{_cell(cell)}</td>" for at, cell in enumerate(row))
        + "</tr>\n"
        for row in rows
    )
    name = f' id="{identity}"' if identity else ""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}">'
        f"<table{name}><caption>{text(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


class Markup(str):
    """Is on the page as it stands."""

    __slots__ = ()


def _cell(value: str) -> str:
    return value if isinstance(value, Markup) else text(value)


def _class(kinds: str, at: int) -> str:
    kind = kinds[at : at + 1].strip()
    return f' class="{kind}"' if kind else ""
