"""Which patterns are the same event with different values.

``group`` is a pure function of the set of patterns: no order, no history and no counts take part,
so the same patterns give the same templates on every machine. It takes a few tens of microseconds
a pattern.

How it decides
--------------
1. Patterns of one *structure* (``parser.shapes``) make a table: a row for each pattern, a column
   for each word.
2. A column may vary *freely*: a value (``<*>``) occurs in it, or it holds more different words than
   an event has variants. How many are many depends on the place: two behind a noun such as "user";
   more at the head of the message, which tells what it is about; more where the words are states
   (RUNNING, started, waiting), which tell what happened.
3. A table whose varying columns are all free, and no more than its constant words, is one template.
   Any other is split by its column with the fewest different words, the leftmost of several, and
   each part is looked at again.
4. A template that equals another one blank by blank, except where the other has nothing but
   ``<*>``, joins it, given two constant words to recognise it by: a value written with punctuation
   of its own has another structure, but is a value all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from parser.shapes import VALUE, Shape, shape

__all__ = ["group"]

FEW_WORDS: Final = 3
"""A column with more different words than that varies freely …"""
FEW_STATES: Final = 12
"""… and so does one of states, or the first one, with more than that."""
MIN_CONSTANTS: Final = 2
"""Constant words by which a template recognises a pattern of another structure."""

_NOUNS: Final = frozenset(["user", "User", "username", "account", "client", "host", "hostname"])
_STATE: Final = re.compile(r"[A-Z][A-Z_\-]+|[A-Za-z]+(?:ed|ing|able)")
_QUOTES: Final = ("'", '"')


def group(patterns: Iterable[str]) -> dict[str, str]:
    """Return for each pattern the text of its template."""
    tables: dict[str, dict[tuple[str, ...], list[tuple[str, Shape]]]] = {}
    for pattern in sorted(set(patterns)):
        taken = shape(pattern)
        rows = tables.setdefault(taken.structure, {})
        rows.setdefault(taken.words, []).append((pattern, taken))
    members: dict[str, list[str]] = {}
    for structure, rows in sorted(tables.items()):
        for part in _parts(structure, sorted(rows)):
            found = [member for words in part for member in rows[words]]
            text = _text(structure, [taken for _, taken in found])
            members.setdefault(text, []).extend(pattern for pattern, _ in found)
    heirs = _heirs(members)
    return {pattern: heirs.get(text, text) for text, held in members.items() for pattern in held}


# ------------------------------------------------------------------------------ one structure


def _parts(structure: str, rows: list[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Split a table until each part is one template."""
    before = structure.split("\0")
    done = []
    waiting = [(rows, list(range(len(rows[0]))))]
    while waiting:
        rows, columns = waiting.pop()
        found = {column: {row[column] for row in rows} for column in columns}
        varying = {column: words for column, words in found.items() if len(words) > 1}
        if not varying:
            done.append(rows)
            continue
        column = _column_to_split(rows, before, varying)
        if column is None:
            done.append(rows)
            continue
        parts: dict[str, list[tuple[str, ...]]] = {}
        for row in rows:
            parts.setdefault(row[column], []).append(row)
        rest = [other for other in varying if other != column]
        waiting.extend((part, rest) for part in parts.values())
    return done


def _column_to_split(
    rows: Sequence[tuple[str, ...]], before: Sequence[str], varying: Mapping[int, set[str]]
) -> int | None:
    """The column that says that the rows are several events; None when they are one."""
    named = [
        column
        for column, words in varying.items()
        if VALUE not in words and len(words) <= _few(rows[0], before, varying, column)
    ]
    if named:
        return min(named, key=lambda column: (len(varying[column]), column))
    constants = sum(
        1
        for column, word in enumerate(rows[0])
        if column not in varying and word != VALUE and any(map(str.isalpha, word))
    )
    if constants >= len(varying):
        return None
    return min(varying, key=lambda column: (VALUE in varying[column], len(varying[column]), column))


def _few(
    row: Sequence[str], before: Sequence[str], varying: Mapping[int, set[str]], column: int
) -> int:
    """How many different words in this column may still be names of different events."""
    words = varying[column]
    states = sum(1 for word in words if _STATE.fullmatch(word))
    if 2 * states >= len(words):
        return FEW_STATES
    if column == 0:
        return FEW_STATES
    if before[column] == " " and column - 1 not in varying and row[column - 1] in _NOUNS:
        return 1
    return FEW_WORDS


def _text(structure: str, members: Sequence[Shape]) -> str:
    """What all members have in common, as written where they agree."""
    written = structure.split("\0")
    parts = []
    for position, norm in enumerate(written):
        gaps = {member.gaps[position] for member in members}
        parts.append(gaps.pop() if len(gaps) == 1 else norm)
        if position < len(members[0].words):
            words = {member.words[position] for member in members}
            raws = {member.raw_words[position] for member in members}
            parts.append(_word(raws, words))
    return "".join(parts)


def _word(raws: set[str], words: set[str]) -> str:
    if len(raws) == 1:
        return next(iter(raws))
    if len(words) == 1:
        return next(iter(words))
    for quote in _QUOTES:
        if all(len(raw) > 1 and raw[0] == quote == raw[-1] for raw in raws):
            return f"{quote}{VALUE}{quote}"
    return VALUE


# --------------------------------------------------------------------------- several structures


def _heirs(texts: Iterable[str]) -> dict[str, str]:
    """For each template that is a case of a more general one: that one."""
    chunked = {text: tuple(text.split()) for text in texts}
    known: dict[tuple[tuple[int, ...], tuple[str, ...]], list[str]] = {}
    masks: dict[int, set[tuple[int, ...]]] = {}
    for text, chunks in sorted(chunked.items()):
        places = tuple(place for place, chunk in enumerate(chunks) if chunk == VALUE)
        constants = sum(
            1 for chunk in chunks if VALUE not in chunk and any(map(str.isalpha, chunk))
        )
        if places and constants >= MIN_CONSTANTS:
            masks.setdefault(len(chunks), set()).add(places)
            known.setdefault((places, _masked(chunks, places)), []).append(text)
    heirs: dict[str, str] = {}
    for text, chunks in chunked.items():
        own = sum(chunk == VALUE for chunk in chunks)
        candidates = [
            (len(places), general)
            for places in masks.get(len(chunks), ())
            if len(places) > own
            for general in known.get((places, _masked(chunks, places)), ())
        ]
        if candidates:
            heirs[text] = max(candidates)[1]
    return heirs


def _masked(chunks: Sequence[str], places: Sequence[int]) -> tuple[str, ...]:
    masked = list(chunks)
    for place in places:
        masked[place] = VALUE
    return tuple(masked)
