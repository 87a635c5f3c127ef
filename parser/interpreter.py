"""Reads lines in plain Python: every format, at once, at some 100,000 lines a second.

This is the definition of what a line means: where an event begins and what continues it, which keys
it has, what is blank and what cannot be read. (How the fields of a line are told is in ``readers``,
what events add up to in ``aggregate``.) The compiled kernel must agree with it, and tests hold the
two together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, tzinfo
from typing import Final

from parser.aggregate import Aggregate
from parser.extract import (
    MAX_LINE_BYTES,
    MAX_REJECTED,
    MAX_REJECTED_BYTES,
    Event,
    RangeSummary,
    Rejected,
)
from parser.format import Format
from parser.layout import MAX_KEY_VALUE, KeyRule
from parser.readers import reader_of
from parser.times import Clock

__all__ = ["Interpreter"]

BOM: Final = b"\xef\xbb\xbf"
_TRAILING: Final = b" \t\r"
_NO_VALUE: Final = (b"", b"-")
_LEVELS: Final = frozenset(
    b"trace debug info information notice warn warning err error crit critical fatal alert emerg "
    b"emergency panic severe failure fine finer finest config verbose audit dpanic wrn inf dbg ftl "
    b"trc 0 1 2 3 4 5 6 7 10 20 30 40 50 60".split()
)


class Interpreter:
    """Reads lines of one format."""

    def __init__(
        self,
        fmt: Format,
        *,
        multiline: bool = False,
        tz: tzinfo = UTC,
        year_hint_ms: int | None = None,
    ) -> None:
        """Continuation lines are joined with `multiline`; see extract.engine_for for the rest."""
        self.format = fmt
        self.joins = multiline and fmt.joins
        hint = time.time_ns() // 1_000_000 if year_hint_ms is None else year_hint_ms
        self.clock = Clock(tz, hint)
        self._read = reader_of(fmt, self.clock)

    def fits(self, line: bytes) -> bool:
        """Whether the line has the form of the format, and its level is a word for a level."""
        event = self._read(clean(line, at_start=False))
        return event is not None and (event.level is None or event.level.lower() in _LEVELS)

    def parse_line(self, line: bytes, offset: int = 0) -> Event | None:
        """Read one line (without its line break); None when it does not have the form."""
        line = clean(line, at_start=offset == 0)
        event = self._read(line) if line and len(line) <= MAX_LINE_BYTES else None
        if event is not None:
            event.offset = offset
            for rule in self.format.keys:
                if not (rule.fallback and event.keys):
                    _add_keys(rule, event.fields, event.keys)
        return event

    def join(self, event: Event, line: bytes) -> None:
        """Add a continuation line: its text, and the keys that patterns find in it."""
        line = clean(line, at_start=False)
        event.more.append(line)
        for rule in self.format.keys:
            if rule.pattern and rule.fields == ("content",) and not rule.fallback:
                _add_keys(rule, {"content": line}, event.keys)

    def events(self, data: bytes | memoryview, offset: int = 0) -> Iterator[Event | Rejected]:
        """Read whole lines: events with their continuation lines, and what is not readable."""
        last: Event | None = None
        for at, line in _lines(data):
            raw = bytes(line)
            stripped = clean(raw, at_start=offset + at == 0)
            if not stripped:
                continue
            event: Event | None = None
            if self.joins and not self.format.starts_event(raw) and len(raw) <= MAX_LINE_BYTES:
                if last is not None:
                    self.join(last, raw)
                    continue
            else:
                event = self.parse_line(raw, offset + at)
            if last is not None:
                yield last
            last = event
            if event is None:
                yield _rejection(self.format, offset + at, raw)
        if last is not None:
            yield last

    def summarize(self, data: bytes | memoryview, *, source: int, offset: int) -> RangeSummary:
        """Count the lines of a range; see extract.Engine."""
        count = Aggregate(source)
        lines = blank = unparsed = continued = events = 0
        rejected: list[Rejected] = []
        event: Event | None = None
        for at, line in _lines(data):
            lines += 1
            raw = bytes(line)
            if not clean(raw, at_start=offset + at == 0):
                blank += 1
                continue
            if self.joins and not self.format.starts_event(raw) and len(raw) <= MAX_LINE_BYTES:
                if event is not None:
                    self.join(event, raw)
                    continued += 1
                    continue
                parsed = None
            else:
                parsed = self.parse_line(raw, offset + at)
            if event is not None:
                count.add(event, self.format)
            event = parsed
            if event is not None:
                events += 1
                continue
            unparsed += 1
            if len(rejected) < MAX_REJECTED:
                rejected.append(_rejection(self.format, offset + at, raw))
        if event is not None:
            count.add(event, self.format)
        return RangeSummary(
            lines,
            count.matched,
            unparsed,
            blank + events - count.matched,
            continued,
            len(count.keys),
            count.packed(),
            count.seen(),
            rejected,
        )


def clean(line: bytes, *, at_start: bool) -> bytes:
    """Return a line without what editors, copies and other systems leave around it."""
    if at_start and line.startswith(BOM):
        line = line[len(BOM) :]
    return line.rstrip(_TRAILING).lstrip(b"\0")


def _lines(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of data with their offsets, without their line breaks."""
    whole = bytes(data)
    at = 0
    while at < len(whole):
        end = whole.find(b"\n", at)
        end = len(whole) if end < 0 else end
        yield at, whole[at:end]
        at = end + 1


def _rejection(fmt: Format, offset: int, line: bytes) -> Rejected:
    reason = f"does not have the form of {fmt.name}"
    if len(line) > MAX_LINE_BYTES:
        reason = f"longer than {MAX_LINE_BYTES} bytes"
    return Rejected(offset, line[:MAX_REJECTED_BYTES], reason)


# ------------------------------------------------------------------------------------------ keys


def _add_keys(rule: KeyRule, fields: dict[str, bytes], keys: list[bytes]) -> None:
    """Add the keys that a rule finds and that are not there yet."""
    if rule.pattern:
        text = fields.get(rule.fields[0])
        if text is None:
            return
        for value in rule.expression.findall(text):
            _add_key(rule.names[0] + value + rule.names[1], len(value), keys)
        return
    key = rule.names[0]
    size = 0
    for name, after in zip(rule.fields, rule.names[1:], strict=True):
        part = fields.get(name)
        if part is None or part in _NO_VALUE:
            return
        size = max(size, len(part))
        key += part + after
    _add_key(key, size, keys)


def _add_key(key: bytes, value_bytes: int, keys: list[bytes]) -> None:
    if 0 < value_bytes <= MAX_KEY_VALUE and key not in keys:
        keys.append(key)
