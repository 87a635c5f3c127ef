"""The patterns seen in all logs: what an event id in a summary stands for.

An entry says: text (the masked message), count (lines), the first and the last position where the
pattern was seen, and one raw line as an example, that of the first position.

Guarantees, property-tested:

* ``merge`` adds counts, takes the earliest first and the latest last position. While the bound has
  not been reached, the catalogue is a function of the lines alone: any partition, any order, any
  number of machines give the same entries.
* Bounded. Over ``max_patterns`` the patterns that crowd most fold into a coarser one: all that
  begin with the same three tokens, then with the same one, then all. A folded pattern stays
  counted: its lines go to the coarser entry (``folded`` says how many patterns it took in), and
  ``resolve`` leads from its id to there. A pattern that holds a hundredth of all lines, and stands
  out from the others, folds only when nothing else is left. Which patterns fold may depend on the
  order in which they came; the sum of all counts never does.
* Replaying ``dump`` gives an equal catalogue.

Templates are computed from the entries by whoever reads them; this module knows nothing of
templates, sockets or clocks. Every operation is synchronous; ``merge`` costs about a microsecond a
pattern, plus about two a held pattern each time that a tenth of the bound has to be freed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from parser.summary import Position

__all__ = ["MAX_PATTERNS", "Catalogue", "Entry", "PatternError"]

MAX_PATTERNS: Final = 10_000
"""Patterns kept unless the caller says otherwise."""

MAX_TEXT_BYTES: Final = 4096
"""A longer text or example is kept cut; its id is still that of the whole text."""

_MAX_U64: Final = 2**64 - 1
_COARSE_HEADS: Final = (3, 1, 0)
"""How many first tokens a coarser pattern keeps, finest first."""
_KEPT_SHARE: Final = 100
"""A pattern with at least one in so many of all lines does not fold …"""
_TIMES_THE_MEAN: Final = 4
"""… if it also has so many times the mean; among few lines every pattern has its hundredth."""
_ALIASES_PER_PATTERN: Final = 10
"""Folded ids remembered for each pattern of the bound; an id beyond is known no more."""


class PatternError(ValueError):
    """What came is not a map of patterns; the message says why."""


@dataclass(slots=True)
class Entry:
    """What is known of one pattern."""

    text: bytes
    count: int
    first: Position | None
    last: Position | None
    example: bytes
    folded: int = 0
    """How many patterns were folded into this one; 0 for a pattern as it was seen."""
    example_at: Position | None = None
    """The first position of what the example came with; or what merged first would decide."""

    def packed(self) -> list[Any]:
        """The entry as plain values, the form in which it is journaled and sent."""
        plain = [self.text, self.count, self.first, self.last, self.example, self.folded]
        if self.example and self.example_at != self.first:
            plain.append(self.example_at)
        return plain


class Catalogue:
    """All patterns, by id."""

    def __init__(self, *, max_patterns: int = MAX_PATTERNS) -> None:
        if max_patterns < 1:
            raise ValueError("max_patterns must be at least 1")
        self.max_patterns = max_patterns
        self.folded_patterns = 0
        """Ids that were folded into a coarser pattern since the catalogue is empty."""
        self.total = 0
        """Lines of all entries."""
        self._entries: dict[int, Entry] = {}
        self._aliases: dict[int, int] = {}
        self._coarse: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    # ------------------------------------------------------------------------------------ changes

    def check(self, patterns: Mapping[Any, Any]) -> dict[int, Entry]:
        """Read patterns that came over the wire, believing nothing.

        Args:
            patterns: id -> [text, count, first position, last position, example]; an id may also
                be sixteen hexadecimal digits, a text a str. Missing trailing parts are empty.

        Raises:
            PatternError: something is not a pattern; the message says what.
        """
        if not isinstance(patterns, Mapping):
            raise PatternError("patterns must be a map")
        return {_pattern_id(key): _entry(parts) for key, parts in patterns.items()}

    def merge(self, patterns: Mapping[Any, Any]) -> list[int]:
        """Add what a range of lines saw; return the ids that entered the catalogue just now.

        All or nothing: raises PatternError as ``check`` does, before anything changes.
        """
        new = []
        for key, seen in self.check(patterns).items():
            if self._add(key, seen):
                new.append(key)
        if len(self._entries) > self.max_patterns:
            self._fold()
            new = [key for key in new if key in self._entries]
        return new

    def restore(self, effect: list[Any]) -> None:
        """Apply one effect of ``dump``."""
        if len(effect) == 3:
            self._alias(_pattern_id(effect[1]), _pattern_id(effect[2]))
            return
        key, entry = _pattern_id(effect[1]), _entry(effect[2:])
        held = self._entries.get(key)
        if held is not None:
            self.total -= held.count
        self._entries[key] = entry
        self.total += entry.count
        if entry.folded:
            self._coarse[entry.text] = key
            self.folded_patterns += entry.folded - (held.folded if held is not None else 0)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._aliases.clear()
        self._coarse.clear()
        self.folded_patterns = 0
        self.total = 0

    # ------------------------------------------------------------------------------------- reading

    def dump(self) -> Iterator[list[Any]]:
        """The shortest history that gives this catalogue."""
        for key, entry in sorted(self._entries.items()):
            yield ["pat", key, *entry.packed()]
        for key, into in sorted(self._aliases.items()):
            yield ["pat", key, into]

    def entries(self, ids: Iterable[int] | None = None) -> Iterator[tuple[int, Entry]]:
        """All entries ordered by id, or those of the ids asked for (a folded id gives its heir)."""
        if ids is None:
            yield from sorted(self._entries.items())
            return
        for key in ids:
            heir = self.resolve(key)
            if heir is not None:
                yield key, self._entries[heir]

    def resolve(self, key: int) -> int | None:
        """The id under which this pattern is counted now, None when it is not known."""
        while key not in self._entries:
            heir = self._aliases.get(key)
            if heir is None:
                return None
            key = heir
        return key

    def statistics(self) -> dict[str, int]:
        """Figures for STATS."""
        return {
            "patterns": len(self._entries),
            "patterns_max": self.max_patterns,
            "patterns_folded": self.folded_patterns,
            "pattern_lines": self.total,
        }

    def check_invariants(self) -> None:
        """Assert what must always hold; for tests."""
        assert self.total == sum(entry.count for entry in self._entries.values())
        assert len(self._entries) <= self.max_patterns
        assert len(self._aliases) <= _ALIASES_PER_PATTERN * self.max_patterns
        assert not self._aliases.keys() & self._entries.keys()
        for text, key in self._coarse.items():
            assert self._entries[key].text == text

    # ------------------------------------------------------------------------------------- folding

    def _add(self, key: int, seen: Entry) -> bool:
        """Count one pattern; whether it is new here."""
        self.total += seen.count
        heir = self.resolve(key)
        if heir is None and self._coarse:
            heir = self._coarse_of(seen.text)
            if heir is not None:
                self._entries[heir].folded += 1
                self.folded_patterns += 1
                self._alias(key, heir)
        if heir is None:
            self._entries[key] = seen
            return True
        _merge_into(self._entries[heir], seen)
        return False

    def _coarse_of(self, text: bytes) -> int | None:
        for head in _COARSE_HEADS:
            coarse = _coarser(text, head)
            if coarse is not None and coarse in self._coarse:
                return self._coarse[coarse]
        return None

    def _alias(self, key: int, into: int) -> None:
        self._aliases[key] = into
        if len(self._aliases) > _ALIASES_PER_PATTERN * self.max_patterns:
            self._aliases.pop(next(iter(self._aliases)))

    def _fold(self) -> None:
        """Free a tenth of the bound: the most crowded groups go first, ties by their text."""
        goal = self.max_patterns - self.max_patterns // 10
        for head in _COARSE_HEADS:
            groups: dict[bytes, list[int]] = {}
            for key, entry in self._entries.items():
                if head == 0 or not self._is_frequent(entry):
                    coarse = _coarser(entry.text, head)
                    if coarse is not None and coarse != entry.text:
                        groups.setdefault(coarse, []).append(key)
            crowds = [(coarse, keys) for coarse, keys in groups.items() if len(keys) > 1]
            crowds.sort(key=lambda item: (-len(item[1]), item[0]))
            for coarse, keys in crowds:
                if len(self._entries) <= goal:
                    return
                over = len(self._entries) - goal + 1
                self._fold_into(coarse, self._rarest(keys, over) if head == 0 else keys)

    def _is_frequent(self, entry: Entry) -> bool:
        """Whether folding the entry would hide much: it stands out from the others."""
        return (
            entry.count * _KEPT_SHARE >= self.total
            and entry.count * len(self._entries) >= _TIMES_THE_MEAN * self.total
        )

    def _rarest(self, keys: list[int], n: int) -> list[int]:
        return sorted(keys, key=lambda key: (self._entries[key].count, key))[:n]

    def _fold_into(self, text: bytes, keys: list[int]) -> None:
        into = int.from_bytes(blake2b(text, digest_size=8).digest(), "big") or 1
        heir = self._entries.get(into) or Entry(text, 0, None, None, b"")
        for key in sorted(keys):
            if key == into:
                continue
            entry = self._entries.pop(key)
            self._coarse.pop(entry.text, None)
            heir.folded += entry.folded or 1
            self.folded_patterns += not entry.folded
            _merge_into(heir, entry)
            self._alias(key, into)
        self._aliases.pop(into, None)
        self._entries[into] = heir
        self._coarse[text] = into


def _coarser(text: bytes, head: int) -> bytes | None:
    """The text with everything behind its first tokens masked; None when nothing is behind."""
    end = 0
    for _ in range(head):
        end = text.find(b" ", end) + 1
        if end == 0:
            return None
    return text[:end] + b"<*>"


def _merge_into(held: Entry, seen: Entry) -> None:
    held.count = min(held.count + seen.count, _MAX_U64)
    if _example_rank(seen) < _example_rank(held):
        held.example, held.example_at = seen.example, seen.example_at
    if _rank_first(seen.first) < _rank_first(held.first):
        held.first = seen.first
    if _rank_last(seen.last) > _rank_last(held.last):
        held.last = seen.last


def _example_rank(entry: Entry) -> tuple[bool, tuple[bool, bool, int, int, int], bytes]:
    """Orders examples: any before none, then by their position, then by their bytes."""
    return not entry.example, _rank_first(entry.example_at), entry.example


def _rank_first(position: Position | None) -> tuple[bool, bool, int, int, int]:
    """Orders by earliest: with a time, without one, without a position."""
    if position is None:
        return True, True, 0, 0, 0
    ms, source, offset = position
    return False, ms is None, ms or 0, source, offset


def _rank_last(position: Position | None) -> tuple[bool, bool, int, int, int]:
    if position is None:
        return False, False, 0, 0, 0
    ms, source, offset = position
    return True, ms is not None, ms or 0, source, offset


def _pattern_id(key: Any) -> int:
    if isinstance(key, bytes):
        key = key.decode("ascii", "replace")
    if isinstance(key, str):
        try:
            key = int(key, 16)
        except ValueError:
            raise PatternError("a pattern id is a number or hexadecimal digits") from None
    if type(key) is not int or not 0 < key <= _MAX_U64:
        raise PatternError("a pattern id is an integer from 1 to 2^64-1")
    return key


_MISSING: Final[list[Any]] = [b"", 0, None, None, b"", 0]


def _entry(parts: Any) -> Entry:
    if isinstance(parts, str | bytes):
        parts = [parts, 0]
    if not isinstance(parts, list | tuple) or not 1 <= len(parts) <= 7:
        raise PatternError("a pattern is [text, count, first, last, example]")
    given = list(parts[:6])
    text, count, first, last, example, folded = given + _MISSING[len(given) :]
    return Entry(
        _bytes(text),
        _number(count),
        _position(first),
        _position(last),
        _bytes(example),
        _number(folded),
        _position(parts[6] if len(parts) > 6 else first),
    )


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    if not isinstance(value, bytes):
        raise PatternError("the text of a pattern must be text")
    return value[:MAX_TEXT_BYTES]


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_U64:
        raise PatternError("a count is an integer from 0 to 2^64-1")
    return value


def _position(value: Any) -> Position | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise PatternError("a position is [epoch ms or nil, source id, offset]")
    ms, source, offset = value
    if ms is not None and (type(ms) is not int or not -(2**63) <= ms < 2**63):
        raise PatternError("a time is in milliseconds")
    return ms, _number(source), _number(offset)
