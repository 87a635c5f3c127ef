"""Formats of one's own, from a TOML file.

What cannot be used is never passed over: every mistake is refused with the file, the format and the
entry it is in.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

from parser.errors import FormatError, LayoutError
from parser.format import Format, make_format

__all__ = ["load_formats_file"]

_OPTIONS: Final = frozenset(
    ["layout", "layouts", "regex", "kind", "time", "keys", "key", "tags", "numbers", "level",
     "title", "example"]
)  # fmt: skip


def load_formats_file(path: str | Path) -> dict[str, Format]:
    """Read own formats from a TOML file with a table ``[formats.NAME]`` each. Raises FormatError.

    Entries: layout or layouts, or regex (with time, a %strptime text), or kind; keys, tags,
    numbers (of a decimal fraction the whole part counts), level, title, example.
    """
    try:
        with Path(path).open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not TOML: {error}") from error
    formats = tables.get("formats")
    if not isinstance(formats, dict) or set(tables) != {"formats"}:
        raise FormatError(f"{path}: expected tables [formats.NAME] and nothing else")
    try:
        return {name: _from_table(name, table) for name, table in formats.items()}
    except (LayoutError, FormatError) as error:
        raise FormatError(f"{path}: {error}") from error


def _from_table(name: str, table: Any) -> Format:
    if not isinstance(table, dict):
        raise FormatError(f"[formats.{name}] must be a table")
    unknown = set(table) - _OPTIONS
    if unknown:
        raise FormatError(f"[formats.{name}] has an unknown entry {min(unknown)!r}")

    def text(entry: str, default: str = "") -> str:
        value = table.get(entry, default)
        if not isinstance(value, str):
            raise FormatError(f"[formats.{name}] {entry} must be text")
        return value

    def texts(*entries: str) -> list[str]:
        found: list[str] = []
        for entry in entries:
            value = table.get(entry, [])
            value = [value] if isinstance(value, str) else value
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise FormatError(f"[formats.{name}] {entry} must be a list of texts")
            found += value
        return found

    return make_format(
        name,
        layouts=texts("layout", "layouts"),
        regex=text("regex"),
        kind=text("kind"),
        time_format=text("time"),
        keys=texts("key", "keys"),
        tags=texts("tags"),
        numbers=texts("numbers"),
        level=text("level", "level"),
        title=text("title"),
        example=text("example"),
    )
