"""Templates written by hand: a file of them, and how a message is found to be one.

In a template ``<*>`` stands for any text, blanks included; runs of blanks are as good as one.
A message that several templates match belongs to the one with the most letters of its own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final

from parser.errors import FormatError

__all__ = ["Pinned", "PinnedTemplates", "Wildcards", "load_templates", "template_id"]

_VALUE: Final = "<*>"
_MAX_FILE_BYTES: Final = 64 << 20
_ID_BYTES: Final = 5
"""Two of a hundred thousand templates share an id with a chance of one in two hundred."""


def template_id(text: str) -> str:
    """Return the id of a template that nobody has named."""
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_ID_BYTES).hexdigest()


class Wildcards:
    """A text with wildcards, ready to be matched. Linear in the message, whatever the text."""

    __slots__ = ("_segments", "literals")

    def __init__(self, text: str) -> None:
        packed = b" ".join(text.encode("utf-8", "surrogateescape").split())
        self._segments = packed.split(_VALUE.encode())
        self.literals = sum(len(segment.replace(b" ", b"")) for segment in self._segments)
        """Bytes of the text that are not wildcard and not blank."""

    @property
    def head(self) -> bytes | None:
        """The first word of every message that matches; None when the text does not fix it."""
        first, blank, _ = self._segments[0].partition(b" ")
        return first if blank or len(self._segments) == 1 else None

    def match(self, message: bytes) -> list[bytes] | None:
        """Return what stands for each wildcard, or None when the message does not match.

        Each wildcard takes as little as it can. That finds a match whenever there is one.
        """
        return self.match_packed(b" ".join(message.split()))

    def match_packed(self, message: bytes) -> list[bytes] | None:
        """``match`` for a message whose runs of blanks are single blanks already."""
        first, last = self._segments[0], self._segments[-1]
        if len(self._segments) == 1:
            return [] if message == first else None
        end = len(message) - len(last)
        if end < len(first) or not message.startswith(first) or not message.endswith(last):
            return None
        values = []
        here = len(first)
        for segment in self._segments[1:-1]:
            found = message.find(segment, here, end)
            if found < 0:
                return None
            values.append(message[here:found])
            here = found + len(segment)
        values.append(message[here:end])
        return values


@dataclass(frozen=True, slots=True)
class Pinned:
    """A template from a file."""

    id: str
    text: str
    wildcards: Wildcards = field(repr=False, compare=False)


class PinnedTemplates:
    """Templates from a file, ready to be matched."""

    def __init__(self, named: Iterable[tuple[str, str]]) -> None:
        ranked = sorted(
            (Pinned(name, text, Wildcards(text)) for name, text in named),
            key=lambda pinned: -pinned.wildcards.literals,
        )
        self._by_head: dict[bytes | None, list[tuple[int, Pinned]]] = {}
        for rank, pinned in enumerate(ranked):
            self._by_head.setdefault(pinned.wildcards.head, []).append((rank, pinned))
        self._len = len(ranked)

    def __len__(self) -> int:
        return self._len

    def match(self, message: bytes) -> Pinned | None:
        """Return the template of a message, None when no template matches it.

        Of several: the one with the most bytes of its own, then the first in the file.
        """
        packed = b" ".join(message.split())
        best: tuple[int, Pinned] | None = None
        for head in (packed.partition(b" ")[0], None):
            for rank, pinned in self._by_head.get(head, ()):
                if best is not None and rank > best[0]:
                    break
                if pinned.wildcards.match_packed(packed) is not None:
                    best = rank, pinned
                    break
        return None if best is None else best[1]


def load_templates(path: str | Path) -> PinnedTemplates:
    """Read a template file: a CSV with a column EventTemplate, or one template a line.

    The CSV may name the templates in a column EventId, as Loghub's files do. Without names, and in
    a plain file, a template's id is the hash of its text. Lines that are empty or begin with ``#``
    do not count in a plain file.

    Raises:
        FormatError: not such a file; names the file and the line.
        OSError: it cannot be read.
    """
    path = Path(path)
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise FormatError(f"{path}: a template file of more than {_MAX_FILE_BYTES >> 20} MiB")
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    header, _, _ = text.partition("\n")
    named: list[tuple[str, str]] = []
    if "EventTemplate" in header and "," in header + ",":
        for row in csv.DictReader(io.StringIO(text, newline="")):
            template = (row.get("EventTemplate") or "").strip()
            if template:
                named.append(
                    ((row.get("EventId") or "").strip() or template_id(template), template)
                )
    else:
        for line in text.splitlines():
            template = line.strip()
            if template and not template.startswith("#"):
                named.append((template_id(template), template))
    if not named:
        raise FormatError(f"{path}: no template in it")
    texts: dict[str, str] = {}
    for name, template in named:
        if texts.setdefault(name, template) != template:
            raise FormatError(f"{path}: two different templates are named {name!r}")
    return PinnedTemplates(texts.items())
