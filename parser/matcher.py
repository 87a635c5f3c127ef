r"""Finding the lines of a block that a pattern matches, at the speed of searching memory.

Guarantees: the same lines as asking each line by itself (``re.search`` on the line without its
newline). Property-tested.

How it is fast: the block is searched as a whole, with a pattern that was rewritten so that it stays
within a line. A piece of text every match must hold is looked for with ``bytes.find`` before the
regular expression is asked at all. What cannot be rewritten is asked line by line.

Patterns are bytes: ``.`` is one byte. A pattern with non-ASCII characters in it is matched on text.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from parser.errors import PatternError
from parser.rewriting import within_lines

__all__ = ["Matcher", "Span", "compile_pattern"]

_MIN_ASKED: Final = 64
"""A small block says little about what helps."""
_SPECIAL: Final = re.compile(r"[\\.^$*+?{}\[\]()]")

Span: TypeAlias = tuple[int, int]
"""Where a line is in its block: its first byte, and the first byte after its newline."""


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
