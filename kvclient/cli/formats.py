"""``kvcli formats``: the formats of logs that are known by name, with an example of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvclient.cli._failures import fail
from kvclient.cli._output import echo_json
from kvclient.cli._settings import Settings, pass_settings
from kvclient.text import shown

if TYPE_CHECKING:
    from parser.format import Format

__all__ = ["formats"]


@click.command(short_help="List the formats of logs that are known by name.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--formats-file",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Formats of your own, as TOML; they are listed too.",
)
@pass_settings
def formats(settings: Settings, names: tuple[str, ...], formats_file: str | None) -> None:
    """List the formats that --format knows: layout, keys, an example of each."""
    from parser.formats import BUILTIN

    known: dict[str, Format] = dict(BUILTIN)
    if formats_file is not None:
        from parser.formatsfile import load_formats_file

        known.update(load_formats_file(formats_file))
    unknown = [name for name in names if name not in known]
    if unknown:
        fail(f"no such format: {shown(unknown[0])}; there are {', '.join(known)}")
    asked = [known[name] for name in names or known]
    if settings.json:
        echo_json([_as_json(one) for one in asked])
        return
    click.echo("\n\n".join("\n".join(_lines(one)) for one in asked))


def _as_json(one: Format) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": one.title,
        "kind": one.kind,
        "layouts": [layout.text for layout in one.layouts],
        **({"regex": shown(one.regex.pattern)} if one.regex is not None else {}),
        "keys": [rule.text for rule in one.keys],
        "tags": list(one.tags),
        "numbers": list(one.numbers),
        "level": one.level,
        "example": shown(one.example),
    }


def _lines(one: Format) -> list[str]:
    """Return a format as lines for people; the name stands alone, for grep and cut."""
    rows = [("example", shown(one.example))] if one.example else []
    rows += [("layout", layout.text) for layout in one.layouts]
    if one.regex is not None:
        rows.append(("regex", shown(one.regex.pattern)))
    rows += [("key", rule.text) for rule in one.keys]
    for what, fields in (("tags", one.tags), ("numbers", one.numbers)):
        if fields:
            rows.append((what, " ".join(fields)))
    return [
        f"{click.style(one.name, bold=True)}  {one.title}",
        *[f"  {what:<8}{text}" for what, text in rows],
    ]
