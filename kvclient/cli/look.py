"""Commands that look over many keys: find, top."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from kvclient.cli._failures import fail
from kvclient.cli._output import echo_json, table
from kvclient.cli._settings import Settings, open_client, pass_settings
from kvclient.cli._values import moment
from kvclient.errors import ReplyError
from kvclient.text import shown

if TYPE_CHECKING:
    from kvclient.client import Client
    from kvclient.protocol import Arg

__all__ = ["find", "top"]

FIRST_FIND_S: Final = 600.0
"""The first FIND reads every summary: ten seconds for a million of them, more on a busy machine."""
PAGE_KEYS: Final = 2000
SUMMARIES: Final = 500
"""Read at once: a server disconnects whom it owes too much."""
ERROR_LEVELS: Final = frozenset(
    ["ERROR", "ERR", "FATAL", "CRITICAL", "CRIT", "ALERT", "EMERG", "EMERGENCY", "SEVERE", "PANIC"]
)
HEX_ID_DIGITS: Final = 16


@click.command(short_help="Find keys by what their summaries say.")
@click.argument("pattern", required=False)
@click.option("--level", "levels", multiple=True, metavar="LEVEL", help="ERROR, or WARN,ERROR.")
@click.option("--since", type=moment, metavar="T", help="Something happened at T or later.")
@click.option("--until", type=moment, metavar="T", help="Something happened at T or earlier.")
@click.option("--min-count", type=click.IntRange(0), metavar="N", help="At least N events.")
@click.option("--template", "templates", multiple=True, metavar="ID", help="An event of this kind.")
@click.option("--tag", "tags", multiple=True, metavar="FIELD=VALUE", help="As in status=500.")
@click.option("--text", "texts", multiple=True, metavar="WORD", help="A word of an event's text.")
@click.option("--sort", type=click.Choice(["count", "first", "last", "errors"]), help="Order.")
@click.option("--limit", type=click.IntRange(0), default=100, show_default=True, help="0: all.")
@click.option("--explain", is_flag=True, help="Say how the answer would be found, not what it is.")
@pass_settings
def find(settings: Settings, /, **asked: Any) -> None:
    """Find keys by what their summaries say; all conditions must hold.

    PATTERN is a glob over keys (* ? [abc]). T is ISO-8601, epoch seconds, or such as 15m, 2h, 7d
    (ago). In a pipe, the keys alone, one a line; with --json one object a line.
    """
    with open_client(settings, timeout_s=FIRST_FIND_S) as client:
        reply = client.execute(*find_command(client, asked))
    if asked["explain"]:
        explained = {shown(name): _plain(value) for name, value in dict(reply).items()}
        if settings.for_people:
            table(explained.items(), ["", ""])
        else:
            echo_json(explained)
    elif settings.json:
        for key, value in reply:
            echo_json({"key": shown(key), **json.loads(value)})
    elif settings.for_people:
        _draw([(key, json.loads(value)) for key, value in reply])
    elif reply:
        click.echo(b"\n".join([key for key, _ in reply]))
    if asked["explain"]:
        return
    if not reply:
        fail("nothing found")
    source = click.get_current_context().get_parameter_source("limit")
    if len(reply) == asked["limit"] and source is click.core.ParameterSource.DEFAULT:
        click.echo(f"kvcli: these are the first {len(reply)}; --limit 0 shows all", err=True)


def find_command(client: Client, asked: dict[str, Any]) -> list[Arg]:
    """Return the server's FIND command for what was asked on the command line."""
    args: list[Arg] = ["FIND"]
    if asked["pattern"] is not None:
        args += ("MATCH", asked["pattern"])
    for level in asked["levels"]:
        args += ("LEVEL", level.upper())
    for name in ("since", "until"):
        if asked[name] is not None:
            args += (name.upper(), asked[name])
    if asked["min_count"] is not None:
        args += ("MINCOUNT", asked["min_count"])
    for template in asked["templates"]:
        args += ("TEMPLATE", ",".join(_pattern_ids(client, template)))
    for tag in asked["tags"]:
        field, equals, value = tag.partition("=")
        if not field or not equals:
            raise click.BadParameter(f"{tag!r}: expected FIELD=VALUE", param_hint="--tag")
        args += ("TAG", field, value)
    for text in asked["texts"]:
        args += ("TEXT", text)
    if asked["sort"] is not None:
        args += ("SORT", asked["sort"])
    args += ("LIMIT", asked["limit"])
    if asked["explain"]:
        args.append("EXPLAIN")
    return args


def _pattern_ids(client: Client, name: str) -> list[str]:
    """Return the pattern ids that a pattern's or a template's id stands for."""
    if len(name) == HEX_ID_DIGITS:
        return [name]
    from kvclient.cli._summary import patterns_of_template

    ids = patterns_of_template(client, name)
    if not ids:
        fail(f"no such template: {shown(name)}; kvcli templates lists them")
    return ids


def _plain(value: Any) -> Any:
    return shown(value) if isinstance(value, bytes) else value


NUMBERS: Final = ("events", "errors", "events/s", "bytes")
MAX_VALUES: Final = 5
"""Of a tag that stands in for levels; the rest is a number."""


def _draw(rows: Sequence[tuple[bytes, dict[str, Any]]]) -> None:
    """Draw keys and summaries; the last column is what most of them have: levels, or a tag."""
    names = [name for _, summary in rows for name in ["levels", *summary.get("tags", {})]]
    present = [name for name in names if any(_counts_of(summary, name) for _, summary in rows)]
    what = present[0] if present else "levels"
    if what != "levels" and "status" in present:
        what = "status"
    drawn = [(*_row(key, summary), _told(_counts_of(summary, what))) for key, summary in rows]
    table(drawn, ["key", "events", "errors", "first", "last", what], right=NUMBERS)


def _row(key: bytes, summary: dict[str, Any]) -> list[Any]:
    first, last = summary["first"] or "", summary["last"] or ""
    return [key, summary["count"], errors_in(summary), first, last]


def _counts_of(summary: dict[str, Any], name: str) -> dict[str, int]:
    if name == "levels":
        return dict(summary.get("levels", {}))
    return dict(summary.get("tags", {}).get(name, {}))


def _told(counts: dict[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f" +{len(ranked) - MAX_VALUES}" if len(ranked) > MAX_VALUES else ""
    return " ".join(f"{name} {n:,}" for name, n in ranked[:MAX_VALUES]) + more


# ------------------------------------------------------------------------------------------- top


@click.command(short_help="Show the keys that have the most of something.")
@click.option(
    "--by",
    type=click.Choice(["count", "errors", "rate", "size"]),
    default="count",
    show_default=True,
    help="Events, errors, events a second of the key's life, or bytes of memory.",
)
@click.option("--limit", "-n", type=click.IntRange(1), default=10, show_default=True, help="Keys.")
@click.option("--match", metavar="PATTERN", help="Only keys that match (* ? [abc]).")
@pass_settings
def top(settings: Settings, by: str, limit: int, match: str | None) -> None:
    """Show the keys that have the most of something."""
    with open_client(settings, timeout_s=FIRST_FIND_S) as client:
        rows = _largest(client, by, limit, match)
    if by in {"errors", "rate"}:
        rows = [row for row in rows if row[1] > 0]
    if not settings.for_people:
        for key, value, summary in rows:
            told = {"key": shown(key), by: round(value, 6) if by == "rate" else value}
            echo_json({**told, "summary": summary} if summary is not None else told)
        return
    if by == "size":
        table([(key, value) for key, value, _ in rows], ["key", "bytes"], right=NUMBERS)
    elif by == "rate":
        drawn = [(key, value, *_row(key, summary or {})[1:5]) for key, value, summary in rows]
        table(drawn, ["key", "events/s", "events", "errors", "first", "last"], right=NUMBERS)
    else:
        _draw([(key, summary or {}) for key, _, summary in rows])


Ranked = tuple[bytes, float, dict[str, Any] | None]


def _largest(client: Client, by: str, limit: int, match: str | None) -> list[Ranked]:
    """Return the keys with the largest values, largest first."""
    if by == "size":
        return _best(_sizes(client, match), limit)
    value_of = {"count": _count, "errors": errors_in, "rate": rate_of}[by]
    if by != "rate":
        try:
            found = client.execute("FIND", "MATCH", match or "*", "SORT", by, "LIMIT", limit)
        except ReplyError as error:
            if "unknown command" not in error.message:
                raise
        else:
            summaries = [(key, json.loads(value)) for key, value in found]
            return [(key, value_of(summary), summary) for key, summary in summaries]
    return _best(_scanned(client, match, value_of), limit)


def _best(rows: Iterator[Ranked], limit: int) -> list[Ranked]:
    """Keep the largest; equal values in the order of their keys, so that the answer is one."""
    best: dict[bytes, Ranked] = {}
    for row in rows:
        best[row[0]] = row
        if len(best) >= 2 * limit + PAGE_KEYS:
            best = {kept[0]: kept for kept in heapq.nsmallest(limit, best.values(), key=_rank)}
    return heapq.nsmallest(limit, best.values(), key=_rank)


def _rank(row: Ranked) -> tuple[float, bytes]:
    return -row[1], row[0]


def _scanned(
    client: Client, match: str | None, value_of: Callable[[dict[str, Any]], float]
) -> Iterator[Ranked]:
    for page in client.scan(match, count=PAGE_KEYS):
        kinds = client.pipeline([("TYPE", key) for key in page])
        keys = [key for key, kind in zip(page, kinds, strict=True) if kind == "summary"]
        for at in range(0, len(keys), SUMMARIES):
            part = keys[at : at + SUMMARIES]
            for key, value in zip(part, client.pipeline([("GET", k) for k in part]), strict=True):
                if value is not None:  # it has not gone since
                    summary = json.loads(value)
                    yield key, value_of(summary), summary


def _sizes(client: Client, match: str | None) -> Iterator[Ranked]:
    for page in client.scan(match, count=PAGE_KEYS):
        replies = client.pipeline([("MEMORY", "USAGE", key) for key in page])
        for key, size in zip(page, replies, strict=True):
            if size is not None:
                yield key, size, None


def _count(summary: dict[str, Any]) -> int:
    return int(summary["count"])


def errors_in(summary: dict[str, Any]) -> int:
    """Return how many events of a summary are errors: by level, else by status 5xx."""
    levels = summary.get("levels")
    if levels:
        return sum(n for name, n in levels.items() if name.upper() in ERROR_LEVELS)
    status = summary.get("tags", {}).get("status", {})
    return sum(n for code, n in status.items() if len(code) == 3 and code.startswith("5"))


def rate_of(summary: dict[str, Any]) -> float:
    """Return events a second from the first to the last; 0 when they span no time."""
    if not summary.get("first") or not summary.get("last"):
        return 0.0
    from parser.isotime import parse_time_ms

    span_ms = parse_time_ms(summary["last"]) - parse_time_ms(summary["first"])
    return float(summary["count"] * 1000 / span_ms) if span_ms > 0 else 0.0
