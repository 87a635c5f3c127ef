"""A plain file that is followed: whether it still is its source, and what can be counted of it.

Guarantees:

* It is held open, so what a rename or a deletion takes away from under its name can be read to its
  end.
* Every time it was written to, its beginning is compared with what is known of its source, and so
  are the marks further on; what is not known yet is learnt.
* A last line without its end is not given out, unless it will never have one. The last event of a
  format with continuation lines waits ``HOLD_S`` for them.

No clock and no sink: the moment is passed in. What cannot be read raises UnreadableError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from parser.fingerprint import BEGIN_BYTES, SourceInfo, mark_offsets, same_beginning
from parser.pieces import SAMPLE_BYTES as SAMPLE_LINE_BYTES
from parser.pieces import Piece, cut_pieces
from parser.plan import Planned, RecipeOf
from parser.ranges import boundary
from parser.source import SAMPLE_BYTES, FileState, OpenedFile

__all__ = ["FINAL_S", "HOLD_S", "FollowedFile"]

HOLD_S: Final = 0.4
FINAL_S: Final = 5.0
"""A file that lost its name and does not grow for so long gets no more lines."""

_UNWRITTEN: Final = FileState(0, 0)


@dataclass(eq=False, slots=True)
class FollowedFile:
    """The open file, and how it was when it was last looked at."""

    file: OpenedFile
    planned: Planned
    state: FileState = _UNWRITTEN
    """When it was last looked at."""
    grown_s: float = 0.0
    begin: bytes = b""
    here: bool = True
    """It has a name among those that are followed."""
    lost_s: float | None = None
    """Since when it has lost the name it had; such a file is about to get no more lines."""
    held: bool = False
    """Something at its end waits."""
    tried: tuple[FileState, bool, bool] | None = None
    """How it was when it was last read; unchanged, there is nothing to try."""
    detected_bytes: int = 0
    """How much was there when its format was told."""

    @property
    def info(self) -> SourceInfo:
        """Its source."""
        return self.planned.info

    @property
    def size(self) -> int:
        """How large it was when it was last looked at."""
        return self.state.size

    def is_quiet(self, now: float) -> bool:
        """Tell whether its last event has waited long enough for continuation lines."""
        return now - self.grown_s >= HOLD_S

    def is_final(self, now: float) -> bool:
        """Tell whether nobody writes to it any more."""
        return self.lost_s is not None and now - max(self.lost_s, self.grown_s) >= FINAL_S

    def is_still(self, size: int, learnt: Callable[[int], None]) -> bool:
        """Tell whether the file still is its source, now that it has this size.

        ``learnt`` is told the source when more became known of it.
        """
        if size < self.size:
            return False
        begin = self.file.read_at(0, BEGIN_BYTES)
        if not begin or not same_beginning(self.info.begin, begin):
            return False
        if begin[: len(self.begin)] != self.begin:
            return False
        self.begin = begin
        if len(begin) > len(self.info.begin):
            self.info.begin = begin
            learnt(self.info.id)
        known = self.info.marks
        for offset in mark_offsets(size):
            if offset > self.size or offset not in known:
                mark = self.file.mark_at(offset)
                if mark is None or known.get(offset, mark) != mark:
                    return False
                if offset not in known:
                    known[offset] = mark
                    learnt(self.info.id)
        return True

    def holds(self, end: int) -> bool:
        """Tell whether it begins as it did and reaches to ``end``: what was read is its own."""
        return self.file.read_at(0, len(self.begin)) == self.begin and self.file.size_now() >= end

    def detect_again(self, recipe_of: RecipeOf) -> None:
        """Look at the format again while a log is young: its first line may not say much."""
        if self.detected_bytes < SAMPLE_BYTES and self.size >= 2 * self.detected_bytes:
            self.detected_bytes = self.size
            sample = self.file.read_at(0, SAMPLE_BYTES)
            self.planned.recipe = recipe_of(self.planned.input, sample)

    def pieces(
        self, start: int, stop: int, size: int, *, quiet: bool, to_the_end: bool
    ) -> list[Piece]:
        """Read ``[start, stop)`` as far as there are whole lines; ``size`` is that of the file."""
        data = self.file.read_at(start, stop - start)
        inside = start > 0 and self.file.read_at(start - 1, 1) != b"\n"
        rule = None if quiet or to_the_end else self.planned.recipe.starts_event()
        pieces = _cut(data, start, rule, inside=inside, to_the_end=to_the_end)
        if not pieces and rule is not None and stop < size:  # an event longer than we read at once
            pieces = _cut(data, start, None, inside=inside, to_the_end=False)
        if not pieces and stop < size:  # a line longer than that
            end = boundary(self.file.read_at, stop, start, size)
            if end < size or self.file.read_at(end - 1, 1) == b"\n":
                pieces = [Piece(start, end, start, data[:SAMPLE_LINE_BYTES], too_long=True)]
        return pieces


def _cut(
    data: bytes,
    start: int,
    rule: Callable[[bytes], bool] | None,
    *,
    inside: bool,
    to_the_end: bool,
) -> list[Piece]:
    return list(
        cut_pieces(
            [data],
            start,
            inside_line=inside,
            piece_bytes=len(data) + 1 if to_the_end else 1,
            starts_event=rule,
            to_the_end=to_the_end,
        )
    )
