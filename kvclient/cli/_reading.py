"""Options that say how logs are read and which of their events count, for every command alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvclient.cli._values import moment

if TYPE_CHECKING:
    from parser.filters import Filters
    from parser.run import Reading

__all__ = ["filter_options", "filters_of", "format_options", "reading_of", "workers_option"]

F = TypeVar("F", bound=Callable[..., Any])


def format_options(command: F) -> F:
    """Add the options that say what the lines look like."""
    for option in reversed(
        [
            click.option(
                "--format",
                "format_",
                default="auto",
                show_default=True,
                metavar="NAME",
                help="The format of the lines; see kvcli formats.",
            ),
            click.option(
                "--layout",
                "layouts",
                multiple=True,
                metavar="TEXT",
                help="A format of your own: '<time:%H:%M:%S> <level> <content>'.",
            ),
            click.option(
                "--key",
                "keys",
                multiple=True,
                metavar="RULE",
                help="What keys there are: 'content ~ req-<hex> -> request_{}'.",
            ),
            click.option(
                "--regex", default="", metavar="REGEX", help="Instead of a layout: named groups."
            ),
            click.option(
                "--time-format",
                default="",
                metavar="TEXT",
                help="The %strptime text of a --regex's time.",
            ),
            click.option(
                "--formats-file",
                type=click.Path(exists=True, dir_okay=False),
                metavar="FILE",
                help="Formats of your own, as TOML.",
            ),
            click.option(
                "--multiline",
                type=click.Choice(["auto", "off"]),
                default="auto",
                show_default=True,
                help="Join stack traces to the line before.",
            ),
            click.option(
                "--tz", default="UTC", show_default=True, help="The zone of times that name none."
            ),
        ]
    ):
        command = option(command)
    return command


def filter_options(command: F) -> F:
    """Add the options that say which events count."""
    for option in reversed(
        [
            click.option(
                "--where",
                multiple=True,
                metavar="FIELD=VALUE",
                help="Only events whose field says this; again for the same field: either.",
            ),
            click.option(
                "--since", type=moment, metavar="T", help="Only events at T or later: ISO-8601, 2h."
            ),
            click.option("--until", type=moment, metavar="T", help="Only events at T or earlier."),
            click.option(
                "--level", "levels", multiple=True, metavar="LEVELS", help="As in WARN,ERROR."
            ),
            click.option(
                "--errorcodes",
                is_flag=False,
                flag_value="",
                callback=_checked_codes,
                metavar="[CODES]",
                help="Only events with a status as in 400,404,500; alone: the usual ones.",
            ),
        ]
    ):
        command = option(command)
    return command


def workers_option(command: F) -> F:
    """Add the option that says how many processes read."""
    return click.option(
        "--workers",
        "--threads",
        "workers",
        type=click.IntRange(1, 256),
        metavar="N",
        help="Processes that read.  [default: one for each processor]",
    )(command)


def _checked_codes(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Say at once what is wrong: the option takes the word behind it, even if that is a file."""
    if value:
        from parser.errors import FilterError
        from parser.filters import parse_codes

        try:
            parse_codes(value)
        except FilterError as error:
            raise click.BadParameter(f"{error}; alone, it stands behind the files") from error
    return value


def filters_of(options: dict[str, Any]) -> Filters:
    """Return what the filter options say. Raises a usage error."""
    from parser.errors import FilterError
    from parser.filters import Filters, level_names, parse_codes, parse_where

    codes = options["errorcodes"]
    try:
        return Filters.of(
            where=[parse_where(text) for text in options["where"]],
            since_ms=options["since"],
            until_ms=options["until"],
            levels={name for text in options["levels"] for name in level_names(text)},
            codes=() if codes is None else parse_codes(codes),
        )
    except FilterError as error:
        raise click.UsageError(str(error)) from error


def reading_of(options: dict[str, Any]) -> Reading:
    """Return what the options of both kinds say, as far as the command has them."""
    from parser.errors import ParserError
    from parser.run import Reading, recipes
    from parser.times import zone_named

    if (options["layouts"] or options["regex"]) and options["format_"] != "auto":
        raise click.UsageError("give --format, or --layout, or --regex")
    reading = Reading(
        format=options["format_"],
        layouts=options["layouts"],
        keys=options["keys"],
        regex=options["regex"],
        time_format=options["time_format"],
        formats_file=options["formats_file"] or "",
        multiline=options["multiline"] == "auto",
        tz=options["tz"],
        filters=filters_of(options).message() if "errorcodes" in options else {},
        workers=options.get("workers"),
    )
    try:
        recipes(reading, 0)
        zone_named(reading.tz)
    except ParserError as error:
        raise click.UsageError(str(error)) from error
    return reading
