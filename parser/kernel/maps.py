"""Which bitmaps a kernel needs, and what generated code calls them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from parser.patterns import (
    BYTE_CLASS,
    CLASS_DELIM,
    CLASS_DIGIT,
    CLASS_DOT,
    CLASS_WORD,
    JOIN,
    PATH,
)

__all__ = ["CLASSES", "CLEAN", "DIGITS", "Maps", "Ranges"]

Ranges = tuple[tuple[int, int], ...]
"""A class of bytes, as ranges with both ends."""

_COMPUTED: Final = 3
"""Bitmaps that parser/kernel/scan.py makes from the others: tokens, values, masked bytes."""


def _ranges(members: Sequence[int]) -> Ranges:
    """Write a set of bytes as few ranges."""
    out: list[tuple[int, int]] = []
    for byte in sorted(members):
        if out and out[-1][1] == byte - 1:
            out[-1] = (out[-1][0], byte)
        else:
            out.append((byte, byte))
    return tuple(out)


def _class(*wanted: int) -> Ranges:
    return _ranges([byte for byte in range(256) if BYTE_CLASS[byte] in wanted])


DIGITS: Final = ((48, 57),)
CLASSES: Final[dict[str, Ranges]] = {
    "int": ((45, 45), (48, 57)),
    "hex": ((48, 57), (65, 70), (97, 102)),
    "ip": ((48, 58), (65, 70), (97, 102)),
    "id": ((45, 45), (48, 57), (65, 90), (95, 95), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "before": ((45, 46), (48, 58), (65, 90), (95, 95), (97, 122)),
}
"""The bytes of each type; "before" is what may not stand before a capture that leads a pattern."""

CLEAN: Final = bytes(
    BYTE_CLASS[byte] == CLASS_DELIM and byte not in JOIN + PATH for byte in range(256)
)
"""Bytes that end every token, join and path: a message between two of them is masked where it
stands."""

_FIXED: Final[tuple[Ranges, ...]] = (
    _class(CLASS_WORD, CLASS_DIGIT),
    _class(CLASS_DOT),
    DIGITS,
    _ranges(list(JOIN)),
    ((65, 70), (97, 102)),
    ((58, 58),),
    ((10, 10),),
    ((47, 47),),
    ((61, 61),),
    _ranges(list(PATH)),
)
"""The classes that every kernel has, in the order of parser/kernel/scan.py."""


class Maps:
    """Collects what is asked for; the numbers are settled when everything is written."""

    def __init__(self) -> None:
        """Begin with what masking needs."""
        self._classes: list[Ranges] = list(_FIXED)
        self._literals: list[bytes] = []
        self._starts: list[Ranges] = []

    def of(self, ranges: Ranges) -> str:
        """The bitmap of a class of bytes."""
        if ranges not in self._classes:
            self._classes.append(ranges)
        return f"in{self._classes.index(ranges)}"

    def of_byte(self, byte: int) -> str:
        """The bitmap of one byte."""
        return self.of(((byte, byte),))

    def of_literal(self, text: bytes) -> str:
        """The bitmap of where the first four bytes of a text stand."""
        if text[:4] not in self._literals:
            self._literals.append(text[:4])
        return f"at{self._literals.index(text[:4])}"

    def of_start(self, ranges: Ranges) -> str:
        """The bitmap of where a capture that leads a pattern could begin."""
        self.of(ranges)
        self.of(CLASSES["before"])
        if ranges not in self._starts:
            self._starts.append(ranges)
        return f"to{self._starts.index(ranges)}"

    @property
    def count(self) -> int:
        """How many bitmaps there are, the computed ones included."""
        return _COMPUTED + len(self._classes) + len(self._literals) + len(self._starts)

    @property
    def classifier(self) -> str:
        """The arguments of ops.make_classifier, as source."""
        return f"{tuple(self._classes)!r}, {tuple(self._literals)!r}"

    def _number(self, name: str) -> int:
        kind, number = name[:2], int(name[2:])
        before = {"in": 0, "at": len(self._classes)}
        return _COMPUTED + number + before.get(kind, len(self._classes) + len(self._literals))

    def places(self, text: str) -> str:
        """Assignments, one indentation deep, of the bitmaps that the text uses."""
        names = sorted(set(re.findall(r"\b(?:in|at|to)[0-9]+\b", text)))
        return "".join(f"    {name} = maps + {self._number(name)} * stride\n" for name in names)

    def start_calls(self) -> str:
        """Calls that make the bitmaps of starts."""
        out = ""
        before = self._number(self.of(CLASSES["before"])) if self._starts else 0
        for number, ranges in enumerate(self._starts):
            first, into = self._number(self.of(ranges)), self._number(f"to{number}")
            out += (
                f"    start_flags(maps + {first} * stride, maps + {before} * stride, "
                f"maps + {into} * stride, blocks)\n"
            )
        return out
