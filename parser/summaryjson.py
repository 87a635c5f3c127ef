"""A summary as JSON: what GET shows, what MERGE and an import take.

Guarantee, property-tested: ``from_json(to_json(s)) == s``, but for names that are not UTF-8: those
come back as they were shown. Of the ground floor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from parser.isotime import format_time_ms, parse_time_ms
from parser.summary import (
    NO_LINE,
    OTHER,
    OTHER_EVENT,
    Position,
    Summary,
    SummaryError,
    checked,
    mapping,
)

__all__ = ["from_json", "to_json"]


def to_json(summary: Summary) -> dict[str, Any]:
    r"""Return the summary as people and other programs read it, ready for ``json.dumps``.

    Empty maps are left out; times are ISO-8601 in UTC; ids are 16 hexadecimal digits; bytes that
    are not UTF-8 appear as ``\\xNN``.
    """
    shown: dict[str, Any] = {
        "count": summary.count,
        "first": _shown_time(summary.first),
        "last": _shown_time(summary.last),
    }
    if summary.levels:
        shown["levels"] = _shown_counts(summary.levels)
    if summary.events:
        shown["events"] = {
            OTHER if event == OTHER_EVENT else f"{event:016x}": n
            for event, n in sorted(summary.events.items())
        }
    if summary.tags:
        shown["tags"] = {
            _shown(name): _shown_counts(values) for name, values in sorted(summary.tags.items())
        }
    if summary.numbers:
        shown["numbers"] = {
            _shown(name): dict(zip(("n", "sum", "min", "max"), value, strict=True))
            for name, value in sorted(summary.numbers.items())
        }
    for name, position in (("first_line", summary.first), ("last_line", summary.last)):
        if position is not None and (position[0] is None or position[1:] != NO_LINE):
            shown[name] = [f"{position[1]:016x}", position[2]]
    return shown


def from_json(text: str | bytes | Mapping[str, Any]) -> Summary:
    """Read what ``to_json`` shows, as text or as the parsed object. Raises SummaryError."""
    try:
        shown = text if isinstance(text, Mapping) else json.loads(text)
        if not isinstance(shown, Mapping):
            raise SummaryError("a summary is a JSON object")
        unknown = set(shown) - _JSON_FIELDS
        if unknown:
            raise SummaryError(f"unknown field {min(unknown)!r}")
        events = {
            OTHER_EVENT if event == OTHER else int(event, 16): n
            for event, n in _map_of(shown, "events").items()
        }
        numbers = {
            name: tuple(value[part] for part in ("n", "sum", "min", "max"))
            for name, value in _map_of(shown, "numbers").items()
        }
        parts = (
            shown.get("count", 0),
            _read_position(shown, "first"),
            _read_position(shown, "last"),
            _map_of(shown, "levels"),
            events,
            _map_of(shown, "tags"),
            numbers,
        )
        return checked(parts)
    except SummaryError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SummaryError(f"not a summary as JSON: {error!r}") from error


_JSON_FIELDS: Final = frozenset(
    ["count", "first", "last", "levels", "events", "tags", "numbers", "first_line", "last_line"]
)


def _shown_time(position: Position | None) -> str | None:
    return None if position is None or position[0] is None else format_time_ms(position[0])


def _shown(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _shown_counts(counts: Mapping[str, int]) -> dict[str, int]:
    return {_shown(name): n for name, n in sorted(counts.items())}


def _map_of(shown: Mapping[str, Any], name: str) -> dict[str, Any]:
    return mapping(shown.get(name), name)


def _read_position(shown: Mapping[str, Any], name: str) -> Position | None:
    time, line = shown.get(name), shown.get(f"{name}_line")
    if time is None and line is None:
        return None
    ms = None if time is None else parse_time_ms(time)
    source, offset = NO_LINE if line is None else (int(line[0], 16), line[1])
    return ms, source, offset
