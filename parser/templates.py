"""Templates: what the patterns of a catalogue have in common, computed whenever they are read.

``templates`` is a pure function of the catalogue (and of a template file, when one is given): no
state, no order. So one worker or eight, a restart, two machines: same ids, same templates; and when
a new pattern makes a template more general, what was counted before moves to it by itself. How
patterns are grouped is told in ``parser.grouping``.

A template's id is a short hash of its text, or the name that a template file gives it. Every
pattern belongs to exactly one template, so the counts of templates add up to the lines counted,
overall and for each key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from parser.grouping import group
from parser.patterns import mask, mask_values, pattern_id
from parser.pinned import PinnedTemplates, Wildcards, template_id
from parser.shapes import VALUE, shape
from parser.summary import Position

__all__ = ["Template", "Templates", "rows", "template_id", "templates"]


@dataclass(slots=True)
class Template:
    """One kind of event."""

    id: str
    text: str
    """Bytes that are not UTF-8 are kept as ``surrogateescape`` does."""
    count: int = 0
    first: Position | None = None
    last: Position | None = None
    example: bytes = b""
    """The message of the first line."""
    patterns: list[int] = field(default_factory=list)
    """Ids of the patterns that are this event, ordered."""
    pinned: bool = False
    """Whether a template file says so."""
    _wildcards: Wildcards | None = field(default=None, repr=False, compare=False)

    def values(self, message: bytes) -> list[bytes]:
        """Return what stands in a message where the template has ``<*>``.

        Where the message is written so differently that this cannot be told (other punctuation),
        the values that masking hides are returned.
        """
        if self._wildcards is None:
            self._wildcards = Wildcards(self.text)
        found = self._wildcards.match(message)
        return mask_values(message)[1] if found is None else found


class Templates:
    """All templates of a catalogue, the most frequent first."""

    def __init__(self, found: Sequence[Template], pinned: PinnedTemplates | None) -> None:
        self._all = sorted(found, key=lambda template: (-template.count, template.text))
        self._pinned = pinned
        self._by_pattern = {key: one for one in self._all for key in one.patterns}
        self._by_id = {one.id: one for one in self._all}
        self._by_structure: dict[str, list[tuple[tuple[str, ...], Template]]] | None = None
        self._guessed: dict[bytes, Template] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Template]:
        return iter(self._all)

    def get(self, id_: str) -> Template | None:
        """Return the template of this id."""
        return self._by_id.get(id_)

    def of_pattern(self, key: int) -> Template | None:
        """Return the template of a pattern by the pattern's id, None when it is not known."""
        return self._by_pattern.get(key)

    def match(self, message: bytes) -> Template:
        """Return the template of a message, or of a masked one.

        A message whose pattern is not in the catalogue belongs to the most special template that
        covers it; when none does, to one of its own, whose count is 0.
        """
        masked = mask(message)
        known = self._by_pattern.get(pattern_id(masked))
        if known is not None:
            return known
        if self._pinned is not None:
            named = self._pinned.match(message)
            if named is not None:
                return self._by_id.get(named.id) or Template(named.id, named.text, pinned=True)
        guessed = self._guessed.get(masked)
        if guessed is None:
            guessed = self._guess(_text(masked))
            if len(self._guessed) < _MAX_GUESSED:
                self._guessed[masked] = guessed
        return guessed

    def of_events(self, events: Mapping[int, int]) -> list[tuple[Template | None, int]]:
        """Add up a summary's events by template, most frequent first.

        Events of patterns that are not known, and those counted as "other", come under None.
        """
        counts: dict[str | None, int] = {}
        for key, n in events.items():
            template = self._by_pattern.get(key)
            name = None if template is None else template.id
            counts[name] = counts.get(name, 0) + n
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0] or ""))
        return [(None if name is None else self._by_id[name], n) for name, n in ranked]

    def _guess(self, masked: str) -> Template:
        if self._by_structure is None:
            self._by_structure = {}
            for one in self._all:
                if not one.pinned:
                    seen = shape(one.text)
                    self._by_structure.setdefault(seen.structure, []).append((seen.words, one))
        own = shape(masked)
        covering = [
            (words.count(VALUE), one.text, one)
            for words, one in self._by_structure.get(own.structure, ())
            if all(a in {VALUE, b} for a, b in zip(words, own.words, strict=True))
        ]
        if covering:
            return min(covering, key=lambda item: item[:2])[2]
        return Template(template_id(masked), masked)


_MAX_GUESSED: Final = 10_000
"""Patterns outside of the catalogue whose template is remembered."""


def templates(
    patterns: Mapping[int, Sequence[Any]], pinned: PinnedTemplates | None = None
) -> Templates:
    """Compute the templates of a catalogue.

    Args:
        patterns: id -> [text, count, first position, last position, example, …], as ranges report
            them and as the catalogue keeps them.
        pinned: templates from a file; a pattern whose example one of them matches belongs to it,
            all others are mined.
    """
    found: dict[tuple[str, bool], Template] = {}
    mined: dict[int, str] = {}
    for key, row in patterns.items():
        named = None if pinned is None else pinned.match(row[4] or row[0])
        if named is None:
            mined[key] = _text(row[0])
        else:
            template = found.setdefault(
                (named.id, True), Template(named.id, named.text, pinned=True)
            )
            _count(template, key, row)
    texts = group(mined.values())
    for key, pattern in mined.items():
        text = texts[pattern]
        template = found.setdefault((text, False), Template(template_id(text), text))
        _count(template, key, patterns[key])
    for template in found.values():
        template.patterns.sort()
    return Templates(list(found.values()), pinned)


def rows(reply: Iterable[Sequence[Any]]) -> dict[int, Sequence[Any]]:
    """Read the reply of PATTERNS: id, text, count, first, last, example; ids as hexadecimal."""
    return {
        int(id_, 16): (text, count, _position(first), _position(last), example)
        for id_, text, count, first, last, example in reply
    }


def _position(shown: Sequence[Any] | None) -> Position | None:
    return None if shown is None else (shown[0], int(shown[1], 16), shown[2])


def _count(template: Template, key: int, row: Sequence[Any]) -> None:
    _, count, first, last, example, *_ = row
    template.patterns.append(key)
    template.count += count
    if not template.example or (_early(first), example) < (
        _early(template.first),
        template.example,
    ):
        template.example = example
    if _early(first) < _early(template.first):
        template.first = (first[0], first[1], first[2])
    if _late(last) > _late(template.last):
        template.last = (last[0], last[1], last[2])


def _early(position: Sequence[Any] | None) -> tuple[bool, bool, int, int, int]:
    if position is None:
        return True, True, 0, 0, 0
    return False, position[0] is None, position[0] or 0, position[1], position[2]


def _late(position: Sequence[Any] | None) -> tuple[bool, bool, int, int, int]:
    if position is None:
        return False, False, 0, 0, 0
    return True, position[0] is not None, position[0] or 0, position[1], position[2]


def _text(pattern: bytes | str) -> str:
    return pattern if isinstance(pattern, str) else pattern.decode("utf-8", "surrogateescape")
