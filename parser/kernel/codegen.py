"""Writes the source of a kernel: a function, specialised to a format, that reads lines.

``run`` walks over windows of text. For each it first makes the bitmaps, then takes line after line:
trims it, tries the layouts in their order, and counts the event for its kind and its keys.
Positions are relative to the window. Layouts, rules and events have functions of their own, because
compiling takes more than proportionally longer for long functions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from parser.format import Format
from parser.kernel.errors import UnsupportedFormatError
from parser.kernel.layoutgen import finished, identifier, layout_function
from parser.kernel.maps import Maps
from parser.kernel.rulegen import Group, RuleWriter
from parser.kernel.writer import Writer

__all__ = ["Plan", "generate"]

MAX_TAGS: Final = 3
MAX_NUMBERS: Final = 15


@dataclass
class Plan:
    """Generated source, and what it needs from its surroundings."""

    source: str
    maps: int
    memos: int
    fields: int
    groups: list[Group] = field(default_factory=list)


def generate(fmt: Format) -> Plan:
    """Write the kernel of a format. Raises UnsupportedFormatError for what it cannot be."""
    if fmt.kind != "layout":
        raise UnsupportedFormatError(f"{fmt.kind} is read without a kernel")
    if len(fmt.tags) > MAX_TAGS or len(fmt.numbers) > MAX_NUMBERS:
        raise UnsupportedFormatError("too many tags or numbers")
    maps = Maps()
    rules = RuleWriter(fmt, maps)
    memos: dict[object, int] = {}
    wanted = _wanted(fmt)
    bodies = [
        layout_function(f"layout{number}", layout, wanted, maps, memos)
        for number, layout in enumerate(fmt.layouts)
    ]
    searches = {
        number: rules.body(rule) for number, rule in enumerate(fmt.keys) if len(rule.fields) == 1
    }
    event = _event(fmt, wanted, rules)
    fits = Writer(3)
    for number in range(len(fmt.layouts)):
        fits("if fits == 0:" if number else "if True:")
        fits(f"    fits = layout{number}(a, text, maps, stride, start, stop)")
    joined = Writer(5)
    for number, rule in enumerate(fmt.keys):
        if rule.pattern and rule.fields == ("content",) and not rule.fallback:
            joined(f"found += rule{number}(a, text, maps, stride, start, stop)")
    source = _FILE.format(
        classifier=maps.classifier,
        starts=maps.start_calls(),
        layouts="\n".join(finished(name, body, maps) for name, body in bodies),
        rules="\n".join(
            _RULE.format(number=number, places=maps.places(body), body=body)
            for number, body in searches.items()
        ),
        event=event,
        fits=fits.text(),
        joined=joined.text(),
        keys=rules.most_keys(),
        lines=rules.most_lines(),
        words=1 + len(fmt.tags),
        slices=rules.slices(),
        middles=rules.middles(),
    )
    return Plan(source, maps.count, len(memos), len(wanted), rules.groups)


def _wanted(fmt: Format) -> list[str]:
    """The fields whose places are needed."""
    used = {"content", fmt.level, *fmt.tags, *fmt.numbers}
    used.update(name for rule in fmt.keys for name in rule.fields)
    return sorted(used & {name for layout in fmt.layouts for name in layout.names})


def _event(fmt: Format, wanted: list[str], rules: RuleWriter) -> str:
    """The body of the function that counts a line that fits."""
    out = Writer(1)
    out("fields = ld64(a + FIELDS)")
    for number, name in enumerate(wanted):
        known = identifier(name)
        out(f"s_{known} = ld64(fields + {16 * number})")
        out(f"e_{known} = ld64(fields + {16 * number + 8})")
    out("level = tag0 = tag1 = tag2 = 0")
    if fmt.level in wanted:
        name = identifier(fmt.level)
        out(f"level = known_word(a, 0, text + s_{name}, e_{name} - s_{name}, s_{name})")
    for at, tag in enumerate(fmt.tags):
        name = identifier(tag)
        out(f"tag{at} = known_word(a, {at + 1}, text + s_{name}, e_{name} - s_{name}, s_{name})")
    for at, number_field in enumerate(fmt.numbers):
        name = identifier(number_field)
        out(f"size = e_{name} - s_{name} if s_{name} >= 0 else 0")
        out(f"set_number(a, {at}, text + s_{name}, size)")
    out("clean = ld64(a + CLEAN_TABLE)", "size = e_content - s_content")
    out("masked = maps + 2 * stride")
    with out.block(
        "if size <= MAX_MESSAGE_BYTES and in_class(clean, text + e_content) "
        "and (s_content == 0 or in_class(clean, text + s_content - 1)):"
    ):
        out("pattern = hash_masked(text, masked, s_content, e_content, ld64(a + PATTERN))")
    with out.block("else:"):
        out("pattern = hash_slowly(a, text + s_content, size)")
    out("kind = find_kind(a, pattern, level, tag0, tag1, tag2)")
    out("begin_event(a, number, kind, offset)")
    out("found = 0")
    for number, rule in enumerate(fmt.keys):
        rules.call(number, rule, out)
    out("st64(a + EVENT_FOUND, found)")
    out("st64(a + EVENT_EXAMPLE, origin + s_content)")
    out("st64(a + EVENT_EXAMPLE_SIZE, e_content - s_content)")
    with out.block("if found != 0:"):
        out("count_event(a)")
    out("return found")
    return out.text()


_RULE: Final = """
@compiled
def rule{number}(a, text, maps, stride, begin, end):
{places}{body}"""

_FILE: Final = '''"""Generated; see parser/kernel/codegen.py."""

import numba

from parser.kernel.runtime import *

classify = make_classifier({classifier})


@compiled
def scan(source, maps, stride, blocks):
    for block in range(blocks):
        classify(source + (block << 6), maps + 3 * stride + (block << 3), stride)
    mask_blocks(maps, stride, blocks)
{starts}

@compiled
def hash_slowly(a, message, size):
    scratch, maps, stride = ld64(a + SCRATCH), ld64(a + SCRATCH_MAPS), SCRATCH_STRIDE
    size = min(size, MAX_MESSAGE_BYTES)
    for at in range(size):
        st8(scratch + at, ld8(message + at))
    for at in range(size, size + 80):
        st8(scratch + at, 10)
    scan(scratch, maps, stride, (size + 64) >> 6)
    return hash_masked(scratch, maps + 2 * stride, 0, size, ld64(a + PATTERN))

{layouts}
{rules}

@compiled
def event(a, text, maps, stride, number, origin, offset):
{event}

@compiled
def long_line(a, text, window, left):
    """A line that is longer than the window: where the next one begins, or 0 for more bitmaps."""
    stop_raw = find_newline(text, window, left)
    start = after_mark(a, text, 0)
    stop = trimmed(text, start, stop_raw)
    start = skip_zeros(text, start, stop)
    if start < stop and stop - start <= MAX_LINE_BYTES:
        st64(a + WINDOW_NOW, stop_raw + 1)
        return 0
    st64(a + LINES, ld64(a + LINES) + 1)
    if start >= stop:
        st64(a + BLANK, ld64(a + BLANK) + 1)
    else:
        st64(a + UNPARSED, ld64(a + UNPARSED) + 1)
        reject(a, ld64(a + AT) - ld64(a + ORIGIN), stop_raw)
        st64(a + EVENT, 0)
    return stop_raw + 1


@compiled
def read_window(a, text, origin, size, maps, stride):
    """Read the lines of a window; return where the first one that is not whole begins."""
    starters = ld64(a + CLASS_TABLE)
    joins = ld64(a + JOINS)
    lines = matched = unparsed = blank = continued = 0
    events = ld64(a + EVENTS)
    newlines = maps + 9 * stride
    line = 0
    while True:
        stop_raw = next_set(newlines, line, size)
        if stop_raw >= size:
            break
        here = line
        line = stop_raw + 1
        lines += 1
        for ahead in range(WINDOW, WINDOW + 192, 64):
            prefetch(text + here + ahead)
        start = here
        if origin + here == 0:
            start = after_mark(a, text, here)
        stop = trimmed(text, start, stop_raw)
        start = skip_zeros(text, start, stop)
        if start >= stop:
            blank += 1
            continue
        if joins != 0 and ld8(starters + ld8(text + here)) & MAY_CONTINUE:
            if stop_raw - here <= MAX_LINE_BYTES and is_continuation(a, text, here, stop_raw):
                if ld64(a + EVENT) == 0:
                    unparsed += 1
                    reject(a, origin + here, stop_raw - here)
                else:
                    continued += 1
                    found = 0
{joined}
                    if found != 0 and ld64(a + EVENT_FOUND) == 0:
                        matched += 1
                        st64(a + EVENT_FOUND, found)
                        count_event(a)
                continue
        fits = 0
        if stop - start <= MAX_LINE_BYTES:
{fits}
        if fits == 0:
            unparsed += 1
            reject(a, origin + here, stop_raw - here)
            st64(a + EVENT, 0)
            continue
        events += 1
        if event(a, text, maps, stride, events, origin, origin + here) != 0:
            matched += 1
    count_notes(a)
    st64(a + EVENTS, events)
    st64(a + LINES, ld64(a + LINES) + lines)
    st64(a + MATCHED, ld64(a + MATCHED) + matched)
    st64(a + UNPARSED, ld64(a + UNPARSED) + unparsed)
    st64(a + BLANK, ld64(a + BLANK) + blank)
    st64(a + CONTINUED, ld64(a + CONTINUED) + continued)
    return line


@numba.njit("int64(int64)", nogil=True, error_model="numpy", cache=CACHE, no_cfunc_wrapper=True)
def run(a):
    """Read lines until the end, or until a table must grow: which one is returned."""
    maps, stride = ld64(a + MAPS), ld64(a + MAPS_STRIDE)
    while ld64(a + AT) < ld64(a + END):
        at = ld64(a + AT)
        text = ld64(a + BUF) + at
        left = ld64(a + END) - at
        size = min(ld64(a + WINDOW_NOW), left)
        if size > window_of(stride):
            return GROW_MAPS
        status = room_for(a, size, {keys}, {lines}, {words}, {slices}, {middles})
        if status != DONE:
            return status
        scan(text, maps, stride, (size + 63) >> 6)
        line = read_window(a, text, at - ld64(a + ORIGIN), size, maps, stride)
        st64(a + WINDOW_NOW, WINDOW)
        if line == 0:
            line = long_line(a, text, size, left)
        st64(a + AT, at + line)
    return DONE
'''
