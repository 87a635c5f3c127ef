"""Results on stdout: JSON for programs, values byte for byte, tables for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from kvclient.text import bytes_as_json, shown

__all__ = ["echo_bytes", "echo_json", "table"]


def echo_json(value: Any, *, indent: int | None = None) -> None:
    """Print one JSON value on a line of its own."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=indent, default=_jsonable))


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return bytes_as_json(bytes(value))
    return str(value)


def echo_bytes(data: bytes) -> None:
    """Print a value as it is, byte for byte, and a line end."""
    click.echo(data)


def table(
    rows: Iterable[Sequence[Any]],
    columns: Sequence[str],
    *,
    title: str | None = None,
    right: Sequence[str] = (),
) -> None:
    """Draw a table for people; ``right`` names the columns of numbers.

    Where the screen is too narrow for the columns, each row is a list of its values.
    """
    from rich.table import Table
    from rich.text import Text

    from kvclient.cli._console import Screen

    screen = Screen(highlight=False)
    cells = [[_cell(value) for value in row] for row in rows]
    if len(columns) > 2 and _least_width(cells, columns) > screen.width:
        if title is not None:
            screen.print(Text(title, style="italic"))
        for n, row in enumerate(cells):
            if n:
                screen.print()
            screen.print(Text(row[0], style="bold"), overflow="fold")
            listed = Table.grid(padding=(0, 2))
            listed.add_column(style="dim")
            listed.add_column(overflow="fold")
            for column, cell in zip(columns[1:], row[1:], strict=True):
                listed.add_row(column, Text(cell))
            screen.print(listed)
        return
    drawn = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*[Text(cell) for cell in row])
    screen.print(drawn)


_LEAST_COLUMN: Final = 6
"""A column may be folded to so many characters; narrower, nobody can read it."""


def _least_width(cells: Sequence[Sequence[str]], columns: Sequence[str]) -> int:
    """Return how wide a screen must be for a table that can be read."""
    widths = [
        min(_LEAST_COLUMN, max(len(column), *[len(row[n]) for row in cells], 0))
        for n, column in enumerate(columns)
    ]
    return sum(widths) + 2 * (len(columns) - 1)


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return shown(value) if isinstance(value, str | bytes) else str(value)
