r"""Rewriting a regular expression so that it stays within a line.

Whole blocks can be searched only if a pattern does not reach across a newline: ``[^x]`` becomes
``[^\nx]``, ``\s`` becomes ``[^\S\n]`` and so on, which changes nothing within a line. (Without it
``[^"]*`` would run to the end of the block from every place in it.) What cannot be rewritten is
said to be so, never rewritten to something else. Property-tested.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["within_lines"]


def within_lines(pattern: str) -> tuple[str, str] | None:
    r"""Rewrite a pattern so that it cannot match a newline, for use with MULTILINE.

    Returns:
        the rewritten pattern and a text that every match holds (possibly empty), or None when the
        pattern asks for a newline or sets flags that this rewriting does not follow.
    """
    if r"\B" in pattern:
        return None  # an empty line is a case of its own there
    out: list[str] = []
    literals = _Literals()
    at, depth = 0, 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            escape = pattern[at + 1]
            at += 2
            plain = _ESCAPES.get(escape)
            if plain is not None:
                out.append(plain)
                literals.end()
            elif escape in "x0123456789nuUN":
                if escape not in "123456789" or pattern[at : at + 1].isdigit():
                    return None  # could be a newline, written as a number
                out.append(f"\\{escape}")
                literals.end()
            else:
                out.append(f"\\{escape}")
                if escape.isalpha():
                    literals.end()
                else:
                    literals.add(escape)
        elif char == "[":
            end = _class_end(pattern, at)
            out.append(_class_within(pattern[at:end]))
            literals.end()
            at = end
        elif char == "(":
            special = re.match(r"\((\?(P<\w+>|<?[=!]|[:>]|P=\w+(?=\))))?", pattern[at:])
            assert special is not None
            if special[0] == "(" and pattern[at + 1 : at + 2] == "?":
                return None  # flags, a comment or a condition
            out.append(special[0])
            literals.end()
            depth += 1
            at += len(special[0])
        elif char in "*?" or (char == "{" and _REPEAT.match(pattern, at)):
            times = _REPEAT.match(pattern, at)
            literals.drop_last()
            out.append(char if times is None else times[0])
            at += len(out[-1])
        else:
            out.append(char)
            at += 1
            if char == ")":
                depth -= 1
                literals.end()
            elif char == "|" and not depth:
                literals.forbid()
            elif char in ".^$|+}":
                literals.end()
            elif not depth:
                literals.add(char)
    return "".join(out), literals.longest()


_REPEAT: Final = re.compile(r"\{(\d+(,\d*)?|,\d*)\}")
_ESCAPES: Final = {
    "s": r"[^\S\n]",
    "D": r"[^\d\n]",
    "W": r"[^\w\n]",
    "A": "^",
    "Z": "$",
}
"""What reaches over the end of a line, and what means the same within it."""


class _Literals:
    """Collects the texts that stand in a pattern without choice or repetition."""

    def __init__(self) -> None:
        self._runs = [""]
        self._forbidden = False

    def add(self, char: str) -> None:
        self._runs[-1] += char

    def end(self) -> None:
        self._runs.append("")

    def drop_last(self) -> None:
        self._runs[-1] = self._runs[-1][:-1]
        self.end()

    def forbid(self) -> None:
        self._forbidden = True

    def longest(self) -> str:
        return "" if self._forbidden else max(self._runs, key=len)


def _class_end(pattern: str, at: int) -> int:
    """Return where the class that opens at ``at`` ends."""
    end = at + 1
    if pattern[end : end + 1] == "^":
        end += 1
    if pattern[end : end + 1] == "]":
        end += 1
    while pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    return end + 1


def _class_within(text: str) -> str:
    """Return a class that matches the same, a newline excepted."""
    if text.startswith("[^"):
        rest = text[2:]
        return "[^\\n" + ("\\" + rest if rest[0] in "]-" else rest)
    if "\\" not in text and all(char > "\n" for char in text):
        return text
    return f"(?:(?!\\n){text})"
