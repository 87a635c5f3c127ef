r"""Searching logs for lines, at the speed of searching memory.

Guarantees: the same lines as asking each line by itself (``re.search`` on the line without its
newline), in constant memory, whatever the size of the input. Property-tested.

How it is fast: whole blocks are searched, not lines. For that a pattern must not reach across a
newline, so it is rewritten first: ``[^x]`` becomes ``[^\nx]``, ``\s`` becomes ``[^\S\n]`` and so
on, which changes nothing within a line. (Without it ``[^"]*`` would run to the end of the block
from every place in it.) A piece of text every match must hold is looked for with ``bytes.find``
before the regular expression is asked at all. What cannot be rewritten is asked line by line.

Patterns are bytes: ``.`` is one byte. A pattern with non-ASCII characters in it is matched on text.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from parser.errors import PatternError

__all__ = [
    "BLOCK_BYTES",
    "Matcher",
    "Tally",
    "blocks_of_lines",
    "compile_pattern",
    "count",
    "select",
    "within_lines",
]

BLOCK_BYTES: Final = 1 << 20
"""What is searched at once; large enough that the cost of a block disappears, small enough for the
caches of the processor."""

MAX_LINE_BYTES: Final = 16 << 20
"""A line longer than this is searched in pieces; without a bound it could fill the memory."""

Span: TypeAlias = tuple[int, int]
"""Where a line is in its block: its first byte, and the first byte after its newline."""


@dataclass(slots=True)
class Tally:
    """How many lines were looked at and how many were selected."""

    lines: int = 0
    selected: int = 0

    @property
    def percent(self) -> float:
        """The share of selected lines, 0 when there are no lines."""
        return 100 * self.selected / self.lines if self.lines else 0.0


class Matcher:
    """Finds the lines of a block that a pattern matches. Made by ``compile_pattern``."""

    def __init__(
        self,
        spans: Callable[[bytes], Iterator[Span]],
        how: str,
        count: Callable[[bytes], int] | None = None,
    ) -> None:
        self.spans = spans
        """Yields the matching lines of a block in order."""
        self.how = how
        """How blocks are searched, for people: ``text``, ``regex``, ``text+regex`` or ``lines``."""
        self._count = count

    def count(self, block: bytes) -> int:
        """Return how many lines of the block match."""
        return sum(1 for _ in self.spans(block)) if self._count is None else self._count(block)


def blocks_of_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut chunks so that each ends with a newline; only the last may not."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*held, chunk[:end]])
            held, size = [], 0
        if end < len(chunk):
            held.append(chunk[end:])
            size += len(chunk) - end
            if size > MAX_LINE_BYTES:
                yield b"".join(held)
                held, size = [], 0
    if held:
        yield b"".join(held)


def count(
    chunks: Iterable[bytes],
    matcher: Matcher,
    tally: Tally,
    *,
    invert: bool = False,
    total: bool = True,
) -> None:
    """Count in ``tally`` what ``select`` would select; all lines too if ``total``, at a price."""
    for block in blocks_of_lines(chunks):
        lines = _lines_in(block) if total or invert else 0
        matching = matcher.count(block)
        tally.lines += lines
        tally.selected += lines - matching if invert else matching


def select(
    chunks: Iterable[bytes],
    matcher: Matcher,
    tally: Tally,
    *,
    invert: bool = False,
    total: bool = True,
) -> Iterator[bytes]:
    """Yield the selected lines with their newlines, several at a time, and count them in ``tally``.

    A last line without a newline is given back with one, as grep does.
    """
    for block in blocks_of_lines(chunks):
        lines = _lines_in(block) if total or invert else 0
        tally.lines += lines
        found = list(matcher.spans(block))
        tally.selected += lines - len(found) if invert else len(found)
        pieces = [block[a:b] for a, b in (_others(block, found) if invert else found)]
        if not pieces:
            continue
        if not pieces[-1].endswith(b"\n"):
            pieces.append(b"\n")
        yield b"".join(pieces)


def _lines_in(block: bytes) -> int:
    return block.count(b"\n") + (not block.endswith(b"\n"))


def _others(block: bytes, spans: Iterable[Span]) -> Iterator[Span]:
    """Yield what lies between the matching lines."""
    at = 0
    for start, end in spans:
        if at < start:
            yield at, start
        at = end
    if at < len(block):
        yield at, len(block)


# --------------------------------------------------------------------------------------- patterns


def compile_pattern(pattern: str, *, ignore_case: bool = False, fixed: bool = False) -> Matcher:
    """Return the matcher of a regular expression (Python's), or of plain text when ``fixed``.

    Raises:
        PatternError: the pattern is not a regular expression; says what is wrong and where.
    """
    if "\n" in pattern:
        raise PatternError("a pattern cannot hold a newline: it is searched for within lines")
    texts = [pattern] if fixed else pattern.split("|")
    if fixed or not any(_SPECIAL.search(text) for text in texts):
        needles = [text.encode("utf-8", "surrogateescape") for text in texts]
        if pattern.isascii() or not ignore_case:
            single = needles[0] if len(needles) == 1 and needles[0] else None
            return Matcher(
                _text_spans(needles, ignore_case=ignore_case),
                "text",
                None if single is None else _text_count(single, ignore_case=ignore_case),
            )
    source = re.escape(pattern) if fixed else pattern
    flags = re.IGNORECASE if ignore_case else re.NOFLAG
    try:
        with warnings.catch_warnings(action="ignore"):
            plain = re.compile(source, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"not a regular expression: {error}") from error
    if not source.isascii() or re.search(r"\\[uUN]", source):
        return Matcher(_line_spans(lambda line: plain.search(_as_text(line)) is not None), "lines")
    rewritten = within_lines(source)
    if rewritten is None:
        whole = re.compile(source.encode(), flags)
        return Matcher(_line_spans(lambda line: whole.search(line) is not None), "lines")
    regex = re.compile(rewritten[0].encode(), flags | re.MULTILINE)
    needle = rewritten[1].encode()
    if len(needle) >= 3:
        return Matcher(_both_spans(needle, regex, ignore_case=ignore_case), "text+regex")
    counting = None
    if regex.search(b"\n", 1) is None:  # else it would match behind the last newline
        counting = _regex_count(rewritten[0], flags, regex)
    return Matcher(_regex_spans(regex), "regex", counting)


_MIN_ASKED: Final = 64
"""A small block says little about what helps."""
_SPECIAL: Final = re.compile(r"[\\.^$*+?{}\[\]()]")


def _as_text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _line_spans(matches: Callable[[bytes], bool]) -> Callable[[bytes], Iterator[Span]]:
    def spans(block: bytes) -> Iterator[Span]:
        at = 0
        for line in block.split(b"\n"):
            end = at + len(line) + 1
            if at < len(block) and matches(line):
                yield at, min(end, len(block))
            at = end

    return spans


def _text_spans(needles: list[bytes], *, ignore_case: bool) -> Callable[[bytes], Iterator[Span]]:
    sought = [needle.lower() if ignore_case else needle for needle in needles]

    def spans(block: bytes) -> Iterator[Span]:
        within = block.lower() if ignore_case else block
        return _one(within, sought[0]) if len(sought) == 1 else _any(within, sought)

    return spans


def _text_count(needle: bytes, *, ignore_case: bool) -> Callable[[bytes], int]:
    """Count without asking where the lines begin: half of the cost where most lines match."""
    sought = needle.lower() if ignore_case else needle

    def count_lines(block: bytes) -> int:
        find = (block.lower() if ignore_case else block).find
        found = end = 0
        while (at := find(sought, end)) >= 0:
            found += 1
            end = find(b"\n", at) + 1
            if not end:
                break
        return found

    return count_lines


def _regex_count(
    source: str, flags: re.RegexFlag, regex: re.Pattern[bytes]
) -> Callable[[bytes], int]:
    """Count with one call: each match takes the rest of its line with it.

    Where the last line has no newline, an empty match could come behind it: spans take that one.
    """
    spans = _regex_spans(regex)
    line = re.compile(f"(?:{source})[^\\n]*\\n?".encode(), flags | re.MULTILINE)

    def count_lines(block: bytes) -> int:
        if not block.endswith(b"\n"):
            return sum(1 for _ in spans(block))
        return line.subn(b"", block)[1]

    return count_lines


def _one(block: bytes, needle: bytes) -> Iterator[Span]:
    find, rfind, size = block.find, block.rfind, len(block)
    end = 0
    while end < size and (found := find(needle, end)) >= 0:
        start = rfind(b"\n", end, found) + 1 or end
        end = find(b"\n", found) + 1 or size
        yield start, end


def _any(block: bytes, needles: list[bytes]) -> Iterator[Span]:
    find, rfind, size = block.find, block.rfind, len(block)
    ahead = [(find(needle), needle) for needle in needles]
    while True:
        ahead = [(at, needle) for at, needle in ahead if at >= 0]
        if not ahead:
            return
        found = min(ahead)[0]
        start = rfind(b"\n", 0, found) + 1
        end = find(b"\n", found) + 1 or size
        if start < size:
            yield start, end
        ahead = [(find(needle, end) if at < end else at, needle) for at, needle in ahead]


def _regex_spans(regex: re.Pattern[bytes]) -> Callable[[bytes], Iterator[Span]]:
    def spans(block: bytes) -> Iterator[Span]:
        find, rfind, size = block.find, block.rfind, len(block)
        end = 0
        while end < size and (found := regex.search(block, end)):
            at = found.start()
            if at == size and block.endswith(b"\n"):
                return  # nothing follows the last newline: that is no line
            start = rfind(b"\n", end, at) + 1 or end
            end = find(b"\n", at) + 1 or size
            yield start, end

    return spans


def _both_spans(
    needle: bytes, regex: re.Pattern[bytes], *, ignore_case: bool
) -> Callable[[bytes], Iterator[Span]]:
    candidates = _text_spans([needle], ignore_case=ignore_case)
    alone = _regex_spans(regex)
    helps = True

    def spans(block: bytes) -> Iterator[Span]:
        nonlocal helps
        if not helps:
            yield from alone(block)
            return
        search = regex.search
        asked = 0
        for start, end in candidates(block):
            asked += 1
            # Up to the newline only: `$` also matches where the searched part ends.
            if search(block, start, end - (block[end - 1] == 10)):
                yield start, end
        # A text that is in most lines spares nothing, and asking twice costs more than once.
        helps = asked <= max(len(block) // 1000, _MIN_ASKED)

    return spans


# ------------------------------------------------------------------------------------- rewriting


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
