"""From inputs to tasks: which source is each, what of it is missing, how is it read.

Guarantees:

* A source is claimed before anything of it is counted, and what is known is read again after the
  claim, so that two runs that meet a log at the same moment count it under one id.
* The tasks of a run cover every byte that the store has not counted, once: two inputs with the
  same content share one source, and the second adds only what the first does not have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from parser.errors import reason_of
from parser.fingerprint import Index, SourceInfo, find, source_id
from parser.ranges import Range, add, cuts, missing
from parser.recipe import Recipe
from parser.sink import Sink
from parser.source import Input, Looked, Problem, look_at

__all__ = ["END_OF_TIME", "Planned", "RecipeOf", "Task", "identify", "tasks_of"]

END_OF_TIME: Final = 2**62
"""The end of a stream whose length nobody knows."""

_MAX_ATTEMPTS: Final = 100

RecipeOf = Callable[[Input, bytes], Recipe]
"""Chooses how to read an input by its beginning. Raises ParserError."""


@dataclass(slots=True)
class Planned:
    """An input that was looked at."""

    input: Input
    content: Looked
    recipe: Recipe
    info: SourceInfo
    seen_ms: int = 0
    """When it was looked at; how long a commit lags behind that is reported."""
    live: bool = False
    """Somebody writes to it: a last line without its end is left for later."""
    read_bytes: int = 0
    """How far a stream has been read, in bytes of the file."""
    try_again: bool = False
    """It was not read to its end, for a reason that may pass."""


@dataclass(slots=True)
class Task:
    """Work for one producer: a nominal range of a file, or a whole stream."""

    id: int
    planned: Planned
    start: int
    """The stretch that is missing; its ends are where lines begin, or the ends of the file."""
    end: int
    cut: Range
    wanted: list[Range] = field(default_factory=list)
    """Of a stream: the stretches that are missing."""
    attempts: int = 0
    sent: list[Range] = field(default_factory=list)
    """What came back so far."""

    @property
    def is_stream(self) -> bool:
        """Whether the input can only be read from its beginning."""
        return self.planned.input.kind != "plain"

    @property
    def bytes(self) -> int:
        """How much of the file it reads, nominally."""
        return self.planned.input.size if self.is_stream else self.cut[1] - self.cut[0]

    def message(self) -> dict[str, Any]:
        """Return the task as a producer reads it."""
        planned = self.planned
        message: dict[str, Any] = {
            "task": self.id,
            "kind": planned.input.kind,
            "path": planned.input.path,
            "source": planned.info.id,
            "recipe": planned.recipe.message(),
        }
        if self.is_stream:
            message["wanted"] = self.wanted
            message["marks"] = sorted(planned.info.marks.items())
        else:
            message["start"], message["end"] = self.start, self.end
            message["cut"] = self.cut
            message["begin"] = planned.content.begin
            message["to_the_end"] = self.end == planned.content.size
            message["live"] = planned.live
        return message

    def rest(self) -> Task | None:
        """Return what is left after the pieces that came back, None when nothing is."""
        if self.is_stream:
            wanted = [
                gap for start, end in self.wanted for gap in missing(add([], self.sent), start, end)
            ]
            return Task(self.id, self.planned, 0, 0, (0, 0), wanted) if wanted else None
        start = max((end for _, end in self.sent), default=self.start)
        if start >= self.cut[1]:
            return None
        low = max(start, self.cut[0])
        return Task(self.id, self.planned, start if self.sent else self.start, self.end,
                    (low, self.cut[1]))  # fmt: skip

    def __str__(self) -> str:
        if self.is_stream:
            return "what is left of it" if self.sent else "all of it"
        return f"bytes {self.cut[0]} to {self.cut[1]}"


async def identify(
    inputs: Iterable[Input],
    sink: Sink,
    recipe_of: RecipeOf,
    stdin: Callable[[], Looked] | None = None,
) -> tuple[list[Planned], list[Problem]]:
    """Look at inputs and find or make their sources. Raises SinkGone."""
    problems: list[Problem] = []
    known = await sink.sources()
    planned: list[Planned] = []
    for found in inputs:
        try:
            content = look_at(found) if stdin is None or found.kind != "stdin" else stdin()
        except OSError as error:
            problems.append(Problem(found.path, reason_of(error)))
            continue
        one = _planned(found, content, recipe_of, problems)
        if one is not None:
            planned.append(one)
    await _settle(planned, known, sink)
    return planned, problems


def _planned(
    found: Input,
    content: Looked,
    recipe_of: RecipeOf,
    problems: list[Problem],
) -> Planned | None:
    if not content.begin:
        why = "is empty" if content.broken is None else str(content.broken)
        problems.append(Problem(found.path, why))
        return None
    recipe = recipe_of(found, content.sample)
    if found.kind == "stdin" and content.size is not None:  # a pipe that has ended already
        recipe = replace(recipe, expected_bytes=content.size)
    content.sample = b""
    return Planned(found, content, recipe, SourceInfo(0))


async def _settle(planned: Sequence[Planned], known: list[SourceInfo], sink: Sink) -> None:
    """Give every planned input the source it is, claiming those that nobody knows."""
    waiting = list(planned)
    for _ in range(_MAX_ATTEMPTS):
        index = Index(known)
        claims: list[SourceInfo] = []
        for one in waiting:
            held = find(index.candidates(one.content.begin), one.content)
            if held is None:
                held = _new_source(one, index.ids)
                index.add(held)
                claims.append(held)
            one.info = held
        if not claims:
            moved = [one.info for one in planned if _refresh(one)]
            if moved:
                await sink.moved(moved)
            return
        await sink.claim(claims)
        # somebody may have been faster, with this id or with another one for the same log: what
        # the store heard of first is what counts, for us and for them
        known = await sink.sources()
    raise AssertionError("a source could not be claimed")


def _refresh(one: Planned) -> bool:
    """Take over what the source is now; return whether it lies elsewhere than before."""
    info, content = one.info, one.content
    info.marks.update(content.marks)
    if len(content.begin) > len(info.begin):
        info.begin = content.begin
    if one.input.kind == "stdin":
        return False
    before = info.path, info.inode
    info.path = os.path.abspath(one.input.path)  # noqa: PTH100 - may hold stray bytes
    info.inode = None if content.inode is None else tuple(content.inode)
    return before != (info.path, info.inode)


def _new_source(one: Planned, taken: set[int]) -> SourceInfo:
    content = one.content
    attempt = 0
    while (source := source_id(content.begin, attempt)) in taken:
        attempt += 1
    path = one.input.path
    return SourceInfo(
        id=source,
        begin=content.begin,
        marks=dict(content.marks),
        path=path if one.input.kind == "stdin" else os.path.abspath(path),  # noqa: PTH100 - may hold stray bytes
        inode=None if content.inode is None else tuple(content.inode),
        size=content.size or 0,
    )


def tasks_of(planned: Sequence[Planned], range_bytes: int) -> list[Task]:
    """Cut what is missing into tasks: streams first, since only they cannot be shared out."""
    tasks: list[Task] = []
    taken: dict[int, list[Range]] = {}
    for one in sorted(planned, key=lambda one: one.content.size or 0, reverse=True):
        # of two copies the longer one comes first, so that the other finds everything taken
        if one.input.kind != "plain":
            continue
        size = one.content.size or 0
        counted = add(one.info.ranges, taken.get(one.info.id, []))
        gaps = missing(counted, 0, size)
        taken[one.info.id] = add(taken.get(one.info.id, []), gaps)
        for start, end in gaps:
            tasks += [Task(0, one, start, end, cut) for cut in cuts(start, end, range_bytes)]
    streams: list[Task] = []
    for one in sorted(planned, key=lambda one: one.input.size, reverse=True):
        if one.input.kind == "plain":
            continue
        counted = add(one.info.ranges, taken.get(one.info.id, []))
        end = END_OF_TIME if one.content.size is None else one.content.size
        wanted = missing(counted, 0, end)
        if not wanted:
            continue
        if one.content.size is not None:
            taken[one.info.id] = add(taken.get(one.info.id, []), wanted)
        streams.append(Task(0, one, 0, 0, (0, 0), wanted))
    files_order = {id(one): n for n, one in enumerate(planned)}
    tasks.sort(key=lambda task: (files_order[id(task.planned)], task.cut))
    return [*streams, *tasks]
