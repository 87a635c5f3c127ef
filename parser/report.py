"""The books of a run: what was read, what came of it, what could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from parser.source import Problem

__all__ = ["Report"]


@dataclass(slots=True)
class Report:
    """Grows while a run goes on; ``lines == matched + unparsed + skipped + continued``."""

    lines: int = 0
    matched: int = 0
    unparsed: int = 0
    skipped: int = 0
    continued: int = 0
    new_keys: int = 0
    seconds: float = 0.0
    counted_bytes: int = 0
    """Bytes of the uncompressed sources that this run counted."""
    counted_before_bytes: int = 0
    """Bytes that were in the store already."""
    total_bytes: int = 0
    """Bytes of the files, compressed where they are, that are there to be read."""
    read_bytes: int = 0
    """Of those, what has been read and committed."""
    ranges: int = 0
    pending: int = 0
    retries: int = 0
    workers: int = 0
    interrupted: bool = False
    problems: list[Problem] = field(default_factory=list)
    formats: dict[str, str] = field(default_factory=dict)
    """Path -> which format was chosen and why."""

    def add_books(self, books: dict[str, int]) -> None:
        """Add the books of a range."""
        self.lines += books["lines"]
        self.matched += books["matched"]
        self.unparsed += books["unparsed"]
        self.skipped += books["skipped"]
        self.continued += books.get("continued", 0)

    @property
    def lines_per_second(self) -> int:
        """How fast it went."""
        return round(self.lines / self.seconds) if self.seconds > 0 else 0

    def as_json(self) -> dict[str, Any]:
        """Return the report as one object; what did not happen is left out after the figures."""
        shown: dict[str, Any] = {
            "lines": self.lines,
            "matched": self.matched,
            "unparsed": self.unparsed,
            "skipped": self.skipped,
            "new_keys": self.new_keys,
            "seconds": round(self.seconds, 3),
            "lines_per_second": self.lines_per_second,
        }
        if self.continued:
            shown["continued"] = self.continued
        if self.counted_before_bytes:
            shown["counted_before_bytes"] = self.counted_before_bytes
        if self.interrupted:
            shown["interrupted"] = True
        if self.problems:
            shown["problems"] = [
                {"path": problem.path, "reason": problem.reason} for problem in self.problems
            ]
        return shown
