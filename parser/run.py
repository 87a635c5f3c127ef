"""One run over everything a command line names, into any sink.

This is the door to the package for a program: expand the paths, find out what each is, read what
the sink does not have, report. A signal (Ctrl-C, SIGTERM) ends the run cleanly; a second one at
once.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import trio

from parser.consumer import OnCommit
from parser.format import Format, make_format
from parser.formats import format_named
from parser.groups import unwrapped
from parser.pipeline import RANGE_BYTES, Pipeline, now_ms
from parser.plan import Planned, RecipeOf, identify
from parser.recipe import Recipe
from parser.report import Report
from parser.sink import Sink, SinkGone
from parser.source import (
    SAMPLE_BYTES,
    STDIN,
    Input,
    Looked,
    Problem,
    expand,
    inspect,
    look_at_stream,
)
from parser.spawn import Started
from parser.streams import BLOCK_BYTES, decompress, kind_of

__all__ = ["Reading", "recipes", "run"]

COMPRESSION: Final = 10
"""How much longer a compressed log is, about."""

_RESTS_MS: Final = 1000
"""A file that has not grown for so long has its last line."""

_DAY_MS: Final = 86_400_000
_MAX_ROUNDS: Final = 5
_MAX_CHOSEN: Final = 1000
_FIRST_BLOCK_S: Final = 1.0  # a pipe that is slower than this is taken as it comes


@dataclass(frozen=True, slots=True)
class Reading:
    """How sources are read; what the options of a command line say."""

    format: str = "auto"
    layouts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    regex: str = ""
    time_format: str = ""
    formats_file: str = ""
    multiline: bool = True
    """Join continuation lines to their event, where the format can tell them."""
    tz: str = "UTC"
    filters: dict[str, Any] = field(default_factory=dict)
    workers: int | None = None
    range_bytes: int = RANGE_BYTES


def recipes(
    reading: Reading, expected_bytes: int, chosen: dict[str, str] | None = None
) -> RecipeOf:
    """Return how each input is to be read; notes in ``chosen`` which format was taken and why.

    Raises FormatError or LayoutError when the options say what cannot be.
    """
    more: dict[str, Format] = {}
    if reading.formats_file:
        from parser.formatsfile import load_formats_file

        more = load_formats_file(reading.formats_file)
    fixed: Format | None = None
    if reading.layouts or reading.regex:
        fixed = make_format(
            "custom",
            layouts=reading.layouts,
            regex=reading.regex,
            time_format=reading.time_format,
            keys=reading.keys,
        )
    elif reading.format != "auto":
        fixed = format_named(reading.format, more)

    def recipe_of(found: Input, sample: bytes) -> Recipe:
        if fixed is None:
            from parser.detection import detect

            detection = detect(sample.split(b"\n")[:200], more)
            fmt, reason = detection.format, detection.reason
        else:
            fmt, reason = fixed, f"{fixed.name}: as asked"
        if reading.keys and not reading.layouts and not reading.regex:
            fmt = _with_keys(fmt, reading.keys)
        if chosen is not None and len(chosen) < _MAX_CHOSEN:
            chosen[found.path] = reason
        return Recipe(
            fmt,
            multiline=reading.multiline,
            tz=reading.tz,
            # the end of that day: files of one day share an engine
            year_hint_ms=-(-(found.mtime_ms or now_ms()) // _DAY_MS) * _DAY_MS,
            expected_bytes=expected_bytes,
            filters=reading.filters,
        )

    return recipe_of


def _with_keys(fmt: Format, keys: Sequence[str]) -> Format:
    from parser.recipe import message_of_format, read_format

    return read_format({**message_of_format(fmt), "keys": list(keys)})


def expected_bytes(inputs: Sequence[Input], workers: int | None) -> int:
    """Return about how many bytes one process will read."""
    total = 0
    for found in inputs:
        if found.kind == "stdin":
            return 1 << 40
        total += found.size * (1 if found.kind == "plain" else COMPRESSION)
    return total // max(workers or 1, 1)


async def run(
    paths: Sequence[str],
    sink: Sink,
    reading: Reading | None = None,
    *,
    report: Report | None = None,
    on_commit: OnCommit | None = None,
    on_ready: Callable[[Report], None] | None = None,
    catch_signals: bool = True,
    spare: list[Started] | None = None,
) -> Report:
    """Read everything the paths name into the sink.

    The report is the one passed in, if any, and grows while the run goes on. ``spare`` are
    producers that were started already, see ``spawn``. Raises SinkGone when the sink went away,
    ParserError when the options cannot be; what was committed stays.
    """
    reading = reading or Reading()
    report = report if report is not None else Report()
    started = time.monotonic()
    inputs, problems = expand(paths)
    report.problems += problems
    piped: dict[str, bytes] = {}

    def stdin() -> Looked:
        looked, piped[STDIN] = look_at_stdin()
        return looked

    recipe_of = recipes(reading, expected_bytes(inputs, reading.workers), report.formats)
    planned, problems = await identify(inputs, sink, recipe_of, stdin)
    report.problems += problems
    await _notice_writers(planned)
    make = partial(
        Pipeline,
        sink=sink,
        workers=reading.workers,
        range_bytes=reading.range_bytes,
        report=report,
        on_commit=on_commit,
        spare=spare,
    )
    retries = sink.retries
    pipeline = make(planned, stdin_prefix=piped.get(STDIN, b""))
    if on_ready is not None:
        on_ready(report)
    try:
        await _go(pipeline, catch_signals=catch_signals)
        for _ in range(_MAX_ROUNDS):
            if sink.retries == retries or report.interrupted:
                break
            # the sink was away: it may have come back without what it had not on disk yet
            retries, counted_before = sink.retries, report.counted_before_bytes
            files = [found for found in inputs if found.kind != "stdin"]
            pipeline = make((await identify(files, sink, recipe_of))[0])
            report.counted_before_bytes = counted_before
            if pipeline.over:
                break
            await _go(pipeline, catch_signals=catch_signals)
    finally:
        report.seconds = time.monotonic() - started
    return report


async def _go(pipeline: Pipeline, *, catch_signals: bool) -> None:
    with unwrapped(SinkGone):
        async with trio.open_nursery() as nursery:
            if catch_signals:
                await nursery.start(_stop_on_signal, pipeline, nursery.cancel_scope)
            await pipeline.run()
            nursery.cancel_scope.cancel()


async def _notice_writers(planned: Sequence[Planned]) -> None:
    """Find out which files are being written to, if they end in the middle of a line.

    Half a line may hold half a key, so a last line without its end is left for the next run if
    somebody is just writing it. A file that rests is read to its end.
    """
    fresh = [
        one
        for one in planned
        if one.input.kind == "plain"
        and not one.content.ended
        and now_ms() - one.input.mtime_ms < _RESTS_MS
    ]
    if not fresh:
        return
    newest = max(one.input.mtime_ms for one in fresh)
    await trio.sleep(max(newest + _RESTS_MS - now_ms(), 0) / 1000)
    for one in fresh:
        found = inspect(one.input.path)
        one.live = not isinstance(found, Problem) and found.size > (one.content.size or 0)


async def _stop_on_signal(
    pipeline: Pipeline,
    scope: trio.CancelScope,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if pipeline.report.interrupted:
                scope.cancel()
            pipeline.stop()


def look_at_stdin() -> tuple[Looked, bytes]:
    """Look at what a pipe brings first; returns it too, since it can be read only once."""
    raw = bytearray()

    def blocks() -> Iterator[bytes]:
        deadline = time.monotonic() + _FIRST_BLOCK_S
        while len(raw) < SAMPLE_BYTES:
            wait_s = max(deadline - time.monotonic(), 0.0) if raw else None
            ready, _, _ = select.select([0], [], [], wait_s)
            if not ready:
                raise _MoreToCome
            block = os.read(0, BLOCK_BYTES)
            if not block:
                return
            raw.extend(block)
            yield block
        raise _MoreToCome

    got: list[bytes] = []
    ended = True
    try:
        got.extend(blocks())
    except _MoreToCome:
        ended = False
        got = [bytes(raw)]
    kind = kind_of(bytes(raw[:8]))
    looked = look_at_stream(STDIN, None, decompress(kind, got))
    if not ended:
        looked.size = looked.broken = None
    return looked, bytes(raw)


class _MoreToCome(Exception):
    """The pipe has not ended."""
