"""How the format of a log is found out: by its first lines.

The format that fits most of them is taken, of equals the one that stands first: own ones, then
those of the table, from the special to the general. Where none fits half of them the lines are
plain. The reason is always said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from parser.format import Format
from parser.formats import BUILTIN
from parser.interpreter import Interpreter

__all__ = ["Detection", "detect"]

_SAMPLE: Final = 200
_ENOUGH: Final = 0.5
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
"""How a file begins that Windows wrote as "Unicode"."""
_READERS: Final[dict[int, Interpreter]] = {}


@dataclass(frozen=True, slots=True)
class Detection:
    """The format that was chosen, and why, as a sentence for people."""

    format: Format
    reason: str


def detect(lines: Sequence[bytes], more: Mapping[str, Format] | None = None) -> Detection:
    """Choose the format that fits most of a log's first lines; the more special one of equals."""
    sample = [line for line in lines[:_SAMPLE] if line.strip(b"\0 \t\r\n")]
    if not sample:
        return Detection(BUILTIN["plain"], "plain: there is no line to look at")
    scores: list[tuple[int, int, Format]] = []
    own = dict(more or {})
    for entry in [*own.values(), *(BUILTIN[name] for name in BUILTIN if name not in own)]:
        if entry is BUILTIN["plain"]:
            continue
        reader = _READERS.get(id(entry)) or Interpreter(entry)
        if BUILTIN.get(entry.name) is entry:
            _READERS[id(entry)] = reader  # a directory may hold thousands of logs
        events = [line for line in sample if entry.starts_event(line)]
        fits = sum(reader.fits(line) for line in events)
        scores.append((fits, len(events), entry))
        if fits == len(events) > 0:
            break  # no other can do better, and of equals the first is chosen
    fits, asked, best = max(scores, key=lambda score: score[0] / max(score[1], 1))
    if fits < max(asked * _ENOUGH, 1):
        if sample[0].startswith(_UTF_16):
            return Detection(
                BUILTIN["plain"],
                "plain: the text is UTF-16; convert it first (iconv -f UTF-16 -t UTF-8)",
            )
        return Detection(
            BUILTIN["plain"],
            f"plain: no known format fits half of the first {len(sample)} lines "
            f"(nearest: {best.name}, {fits} of {asked}); say --format or --layout",
        )
    return Detection(best, f"{best.name}: {fits} of the first {asked} lines have its form")
