"""What a page is made from: plain figures and texts, nothing of it escaped yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["KeyRow", "PageData", "SourceRow", "TemplateRow", "Timeline"]


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key with what its summary says."""

    key: str
    count: int
    errors: int
    first: str
    last: str
    levels: str


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """A kind of event."""

    id: str
    text: str
    count: int
    share: float
    """Of all events, 0 to 1."""
    first: str
    last: str
    example: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A log and its books."""

    path: str
    bytes: int
    size: int | None
    lines: int
    matched: int
    unparsed: int
    skipped: int
    continued: int

    @property
    def balances(self) -> bool:
        """Whether every line is accounted for."""
        return self.lines == self.matched + self.unparsed + self.skipped + self.continued


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events over time by level."""

    times: Sequence[str] = ()
    """Beginning of each bucket; one more at the end."""
    levels: dict[str, list[int]] = field(default_factory=dict)
    untimed_keys: int = 0


@dataclass(frozen=True, slots=True)
class PageData:
    """Everything on the page."""

    title: str
    made: str
    server: str
    tiles: Sequence[tuple[str, str]]
    timeline: Timeline
    templates: Sequence[TemplateRow]
    more_templates: int
    keys: Sequence[KeyRow]
    """The keys with most events, most first; what the search looks through."""
    all_keys: int
    errors: Sequence[KeyRow]
    sources: Sequence[SourceRow]
