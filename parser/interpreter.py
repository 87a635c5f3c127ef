"""Reads lines in plain Python: every format, at once, at some 100,000 lines a second.

This is the definition of what a line means. The compiled kernel must agree with it, and tests hold
the two together. Layouts become regular expressions that match in one way only.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, Final

import msgpack

from parser.extract import (
    MAX_LINE_BYTES,
    MAX_REJECTED,
    MAX_REJECTED_BYTES,
    MAX_WORD_BYTES,
    Event,
    PatternSeen,
    RangeSummary,
    Rejected,
)
from parser.format import Format
from parser.layout import MAX_KEY_VALUE, TYPES, Field, KeyRule, Layout, Literal, Mark
from parser.patterns import mask, pattern_id
from parser.summary import Position, Summary, pack
from parser.times import Clock, TimeFormat, compile_time, guess_time

__all__ = ["Interpreter", "layout_expression"]

BOM: Final = b"\xef\xbb\xbf"
_TRAILING: Final = b" \t\r"
_NUMBER: Final = re.compile(rb"-?[0-9]{1,18}")
_NO_VALUE: Final = (b"", b"-")
_MEMORY: Final = 65_536
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
        self._read = _reader(fmt, self.clock)

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
            if self.joins and last is not None and not self.format.starts_event(raw):
                self.join(last, raw)
                continue
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
        count = _Count(source)
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


# --------------------------------------------------------------------------------------- readers

_Reader = Callable[[bytes], Event | None]


def _reader(fmt: Format, clock: Clock) -> _Reader:
    match fmt.kind:
        case "json":
            return lambda line: _read_json(line, fmt, clock)
        case "logfmt":
            return lambda line: _read_logfmt(line, fmt, clock)
        case "regex":
            return _regex_reader(fmt, clock)
    readers = [_layout_reader(layout, fmt, clock) for layout in fmt.layouts]
    if len(readers) == 1:
        return readers[0]

    def read(line: bytes) -> Event | None:
        for reader in readers:
            event = reader(line)
            if event is not None:
                return event
        return None

    return read


def _layout_reader(layout: Layout, fmt: Format, clock: Clock) -> _Reader:
    match = re.compile(layout_expression(layout), re.DOTALL).fullmatch
    names = [_group_name(part) for part in layout.parts]
    kept = [name for name in names if name is not None]
    times = [
        (at, part.time)
        for at, part in enumerate(part for part in layout.parts if _group_name(part) is not None)
        if isinstance(part, Field) and part.time is not None
    ]
    known: dict[tuple[bytes, ...], tuple[int | None, bool]] = {}

    def read(line: bytes) -> Event | None:
        found = match(line)
        if found is None:
            return None
        values = found.groups()
        moment = None
        if times:
            texts = tuple(values[at] for at, _ in times)
            told = known.get(texts)
            if told is None:
                if len(known) >= _MEMORY:
                    known.clear()
                told = known[texts] = _moment([form for _, form in times], texts, clock)
            moment, valid = told
            if not valid:
                return None
        fields = dict(zip(kept, values, strict=True))
        fields.pop("_", None)
        return Event(moment, fields.get(fmt.level), [], fields["content"], fields)

    return read


def _group_name(part: Field | Literal | Mark) -> str | None:
    """The name under which a part's text is kept, if it is."""
    if isinstance(part, Field) and (part.name != "_" or part.time is not None):
        return part.name
    return "content" if isinstance(part, Mark) and part.begins else None


def _moment(
    forms: list[TimeFormat], texts: tuple[bytes, ...], clock: Clock
) -> tuple[int | None, bool]:
    parts: dict[str, int] = {}
    for form, text in zip(forms, texts, strict=True):
        if not form.read(text, parts):
            return None, False
    return clock.moment(parts)


def layout_expression(layout: Layout) -> bytes:
    """Return the layout as a regular expression with a group for every field that is kept."""
    out = ""
    for at, part in enumerate(layout.parts):
        if isinstance(part, Literal):
            out += _literal(part.text)
        elif isinstance(part, Mark):
            out += "(" if part.begins else ")"
        else:
            grouped = _group_name(part) is not None
            out += _field(part, _next_literal(layout, at), grouped=grouped)
    return out.encode("latin-1")


def _next_literal(layout: Layout, at: int) -> bytes | None:
    for part in layout.parts[at + 1 :]:
        if isinstance(part, Literal):
            return part.text
    return None


def _literal(text: bytes) -> str:
    stripped = text.rstrip(b" ")
    out = re.sub(r"\\ ", " ++", re.escape(stripped.decode("latin-1")))
    return out + (r"(?: ++|\Z)" if len(stripped) < len(text) else "")


def _field(part: Field, until: bytes | None, *, grouped: bool) -> str:
    begin, end = ("(", ")") if grouped else ("(?:", ")")
    if part.time is not None:
        return begin + part.time.pattern + end
    if part.type == "quoted":
        return f'"{begin}{TYPES["quoted"][1:-1]}{end}"'
    if not part.open:
        return begin + TYPES[part.type] + end
    allowed = "[^ ]" if part.type == "word" else "."
    if until is None:
        return f"{begin}{allowed}*+{end}"
    times = "+" if until.startswith(b" ") else "*"
    if until == b" ":
        return f"{begin}[^ ]++{end}"
    return f"{begin}(?:(?!{_literal(until)}){allowed}){times}{end}"


_TIME_NAMES: Final = ("time", "timestamp", "ts", "@timestamp", "datetime", "date", "t")
_LEVEL_NAMES: Final = ("level", "severity", "lvl", "log.level", "levelname", "loglevel", "priority")
_CONTENT_NAMES: Final = ("message", "msg", "content", "log", "event", "text")


def _regex_reader(fmt: Format, clock: Clock) -> _Reader:
    regex = fmt.regex
    assert regex is not None
    form = compile_time(fmt.time_format) if fmt.time_format else None

    def read(line: bytes) -> Event | None:
        found = regex.search(line)
        if found is None:
            return None
        fields = {name: text for name, text in found.groupdict().items() if text is not None}
        stamp = b" ".join(fields[name] for name in ("date", "time") if name in fields)
        stamp = stamp or fields.get("timestamp", b"")
        moment: int | None = None
        if form is not None and stamp:
            moment, valid = _moment([form], (stamp,), clock)
            if not valid:
                return None
        elif stamp:
            moment = guess_time(stamp, clock)
        content = next((fields[name] for name in _CONTENT_NAMES if name in fields), line)
        fields["content"] = content
        return Event(moment, fields.get(fmt.level), [], content, fields)

    return read


def _read_json(line: bytes, fmt: Format, clock: Clock) -> Event | None:
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        shown = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    fields: dict[str, bytes] = {}
    _flatten(shown, "", fields, 0)
    return _structured(line, fields, fmt, clock)


def _flatten(value: dict[str, Any], prefix: str, into: dict[str, bytes], depth: int) -> None:
    for name, item in value.items():
        path = prefix + name
        if isinstance(item, dict) and depth < 8:
            _flatten(item, path + ".", into, depth + 1)
        elif isinstance(item, str):
            into[path] = item.encode("utf-8", "surrogateescape" if _escaped(item) else "replace")
        elif item is not None:
            try:
                into[path] = json.dumps(item, ensure_ascii=False).encode("utf-8", "replace")
            except (ValueError, RecursionError):
                into[path] = b"?"


def _escaped(text: str) -> bool:
    """Whether every surrogate in the text stands for a byte that was not UTF-8."""
    return not any("\ud800" <= char <= "\udc7f" or "\udd00" <= char <= "\udfff" for char in text)


_PAIR: Final = re.compile(
    rb"[ \t]*([A-Za-z_@][0-9A-Za-z_.@/-]*)"
    rb'(?:=("(?:[^"\\]|\\.)*"(?=[ \t]|\Z)|[^ \t"]*))?(?=[ \t]|\Z)'
)
_FIRST_PAIR: Final = re.compile(rb"[ \t]*[A-Za-z_@][0-9A-Za-z_.@/-]*=")
_UNESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


def _read_logfmt(line: bytes, fmt: Format, clock: Clock) -> Event | None:
    if _FIRST_PAIR.match(line) is None:
        return None
    fields: dict[str, bytes] = {}
    at = 0
    while at < len(line):
        pair = _PAIR.match(line, at)
        if pair is None:
            return None
        value = b"true" if pair[2] is None else pair[2]
        if value.startswith(b'"'):
            value = _UNESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]), value[1:-1])
        fields[pair[1].decode("ascii")] = value
        at = pair.end()
    return _structured(line, fields, fmt, clock)


def _structured(line: bytes, fields: dict[str, bytes], fmt: Format, clock: Clock) -> Event:
    moment = None
    for name in _TIME_NAMES:
        if name in fields:
            moment = guess_time(fields[name], clock)
            if moment is not None:
                break
    names = (fmt.level, *_LEVEL_NAMES)
    level = next((fields[name] for name in names if name in fields), None)
    content = next((fields[name] for name in _CONTENT_NAMES if name in fields), line)
    fields["content"] = content
    return Event(moment, level, [], content, fields)


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


# -------------------------------------------------------------------------------------- counting


@dataclass(slots=True)
class _Seen:
    text: bytes
    example: bytes
    first: Position
    last: Position
    count: int = 0


@dataclass(slots=True)
class _Count:
    """Adds up events by key and by pattern."""

    source: int
    matched: int = 0
    keys: dict[bytes, Summary] = field(default_factory=dict)
    patterns: dict[int, _Seen] = field(default_factory=dict)

    def add(self, event: Event, fmt: Format) -> None:
        if not event.keys:
            return
        self.matched += 1
        position = (event.time_ms, self.source, event.offset)
        masked = mask(event.content)
        event_id = pattern_id(masked)
        seen = self.patterns.get(event_id)
        if seen is None:
            seen = _Seen(masked, event.content, position, position)
            self.patterns[event_id] = seen
        seen.count += 1
        seen.first = min(seen.first, position, key=_earlier)
        seen.last = max(seen.last, position, key=_later)
        level = _word(event.level)
        tags = [(name, word) for name in fmt.tags if (word := _word(event.fields.get(name)))]
        numbers = [
            (name, int(text))
            for name in fmt.numbers
            if _NUMBER.fullmatch(text := event.fields.get(name, b""))
        ]
        for key in event.keys:
            held = self.keys.get(key)
            if held is None:
                held = self.keys[key] = Summary(0, position, position)
            assert held.first is not None
            assert held.last is not None
            held.count += 1
            held.first = min(held.first, position, key=_earlier)
            held.last = max(held.last, position, key=_later)
            held.events[event_id] = held.events.get(event_id, 0) + 1
            if level:
                held.levels[level] = held.levels.get(level, 0) + 1
            for name, word in tags:
                words = held.tags.setdefault(name, {})
                words[word] = words.get(word, 0) + 1
            for name, value in numbers:
                _add_number(held, name, value)

    def packed(self) -> bytes:
        packer = msgpack.Packer()
        parts = [packer.pack_array_header(2 * len(self.keys))]
        for key, summary in self.keys.items():
            parts += packer.pack(key), packer.pack(pack(summary))
        return b"".join(parts)

    def seen(self) -> dict[int, PatternSeen]:
        return {
            event_id: PatternSeen(seen.text, seen.count, seen.first, seen.last, seen.example)
            for event_id, seen in self.patterns.items()
        }


def _earlier(position: Position) -> tuple[bool, int, int, int]:
    return position[0] is None, position[0] or 0, position[1], position[2]


def _later(position: Position) -> tuple[bool, int, int, int]:
    return position[0] is not None, position[0] or 0, position[1], position[2]


def _word(text: bytes | None) -> str:
    if text is None or len(text) > MAX_WORD_BYTES:
        return ""
    return text.decode("utf-8", "surrogateescape")


_MIN: Final = -(2**63)
_MAX: Final = 2**63 - 1


def _add_number(summary: Summary, name: str, value: int) -> None:
    n, total, low, high = summary.numbers.get(name, (0, 0, value, value))
    total = max(_MIN, min(total + value, _MAX))
    summary.numbers[name] = (n + 1, total, min(low, value), max(high, value))
