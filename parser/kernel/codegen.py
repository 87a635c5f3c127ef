"""Writes the source of a kernel: one function, specialised to a format, that reads lines.

The function walks over windows of text. For each it first makes the bitmaps, then takes line after
line: trims it, tries the layouts in their order, and counts the event for its kind and its keys.
A layout that does not fit leaves its block by ``break``. All positions are relative to the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from parser.formats import Format
from parser.kernel.errors import UnsupportedFormatError
from parser.kernel.timegen import TimeWriter
from parser.kernel.writer import Writer
from parser.layout import MAX_KEY_VALUE, Field, KeyRule, Layout, Literal, Mark
from parser.patterns import BYTE_CLASS, CLASS_DELIM, CLASS_DIGIT, CLASS_DOT, CLASS_WORD, JOIN

__all__ = ["Group", "Plan", "generate"]

Ranges = tuple[tuple[int, int], ...]
MAX_TAGS: Final = 3
_FIXED_MAPS: Final = 10


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


_DIGITS: Final = ((48, 57),)
_LETTERS: Final = ((65, 90), (97, 122))
_HEX: Final = ((48, 57), (65, 70), (97, 102))
_ID: Final = ((45, 45), (48, 57), (65, 90), (95, 95), (97, 122))
CLASSES: Final[dict[str, Ranges]] = {
    "alpha": _LETTERS,
    "hex": _HEX,
    "id": _ID,
    "before": ((45, 46), (48, 58), (65, 90), (95, 95), (97, 122)),
    "ip": ((48, 58), (65, 70), (97, 102)),
    "int": ((45, 45), (48, 57)),
}
"""Classes beside those of masking; "before" is what may not stand before a leading capture."""

FIXED_CLASSES: Final[tuple[Ranges, ...]] = (
    _class(CLASS_WORD, CLASS_DIGIT),
    _class(CLASS_DOT),
    _class(CLASS_DIGIT),
    _ranges(list(JOIN)),
    ((65, 70), (97, 102)),
    ((58, 58),),
    ((10, 10),),
)
"""The classes behind the computed bitmaps; see parser/kernel/scan.py."""

CLEAN: Final = bytes(BYTE_CLASS[byte] == CLASS_DELIM and byte not in JOIN for byte in range(256))
"""Bytes that end every token and join: a message between two of them is masked where it stands."""


@dataclass(frozen=True)
class Group:
    """Keys of one prefix and suffix; two groups never make the same key."""

    prefix: bytes
    suffix: bytes


@dataclass
class Plan:
    """What generated code needs from its surroundings."""

    source: str = ""
    maps: int = 0
    memos: int = 0
    groups: list[Group] = field(default_factory=list)
    window_slices: int = 1


def generate(fmt: Format) -> Plan:
    """Write the kernel of a format. Raises UnsupportedFormatError for what only the other can."""
    if fmt.kind != "layout":
        raise UnsupportedFormatError(f"{fmt.kind} is read without a kernel")
    if len(fmt.tags) > MAX_TAGS or len(fmt.numbers) > 15:
        raise UnsupportedFormatError("too many tags or numbers")
    return _Generator(fmt).run()


class _Generator:
    def __init__(self, fmt: Format) -> None:
        self.fmt = fmt
        self.out = Writer()
        self.classes: dict[Ranges, int] = {}
        self.literals: dict[bytes, int] = {}
        self.starts: dict[Ranges, int] = {}
        self.times = TimeWriter(self.out)
        self.plan = Plan()
        self.names = self._names()
        self.whole = _conflict(fmt.keys)

    # ------------------------------------------------------------------------------- the frame

    def run(self) -> Plan:
        """Write everything."""
        searches = self._searches()
        self.out.indent = 3
        self._line()
        joined = Writer(6)
        self._joined(joined)
        size = _line_bytes(self.fmt)
        keys = " + ".join(["8", *(f"size // {_rule_bytes(r) or size}" for r in self.fmt.keys)])
        middles = sum(_middle_bytes(rule, whole=self.whole) for rule in self.fmt.keys)
        plan = self.plan
        plan.source = _FILE.format(
            classes=repr((*FIXED_CLASSES, *self.classes)),
            literals=repr(tuple(self.literals)),
            starts=self._starts(),
            rules="".join(
                _RULE.format(number=number, body=text, locals=self._map_locals("    "))
                for number, text in searches
            ),
            places=" = ".join(f"s_{name} = e_{name}" for name in self.names),
            body=self.out.text(),
            joined=joined.text(),
            keys=keys,
            lines=f"8 + size // {size}",
            words=1 + len(self.fmt.tags),
            slices=1 + sum(len(rule.fields) for rule in self.fmt.keys),
            middles=middles,
            locals=self._map_locals("    "),
        )
        plan.maps = _FIXED_MAPS + len(self.classes) + len(self.literals) + len(self.starts)
        plan.memos = len(self.times.memos)
        return plan

    def _searches(self) -> list[tuple[int, str]]:
        """Write a function for each rule that searches a field."""
        texts = []
        for number, rule in enumerate(self.fmt.keys):
            if rule.pattern:
                self.out = Writer(1)
                self._pattern_rule(rule)
                texts.append((number, self.out.text()))
        self.out = Writer()
        self.times = TimeWriter(self.out)
        return texts

    def _joined(self, out: Writer) -> None:
        """Search a continuation line with the rules that search the content."""
        for number, rule in enumerate(self.fmt.keys):
            if rule.pattern and rule.fields == ("content",) and not rule.fallback:
                out(f"found += rule{number}(a, text, maps, stride, start, stop)")

    def _map(self, ranges: Ranges) -> str:
        """The name of the bitmap of a class."""
        if ranges in FIXED_CLASSES:
            return f"map{3 + FIXED_CLASSES.index(ranges)}"
        number = self.classes.setdefault(ranges, len(self.classes))
        return f"mapc{number}"

    def _byte_map(self, byte: int) -> str:
        return self._map(((byte, byte),))

    def _literal_map(self, text: bytes) -> str:
        number = self.literals.setdefault(text[:4], len(self.literals))
        return f"mapl{number}"

    def _start_map(self, ranges: Ranges) -> str:
        self._map(ranges)
        self._map(CLASSES["before"])
        number = self.starts.setdefault(ranges, len(self.starts))
        return f"maps{number}"

    def _map_locals(self, indent: str) -> str:
        lines = [f"{indent}map{at} = maps + {at} * stride" for at in range(_FIXED_MAPS)]
        at = _FIXED_MAPS
        for prefix, kind in (("c", self.classes), ("l", self.literals), ("s", self.starts)):
            for number in range(len(kind)):
                lines.append(f"{indent}map{prefix}{number} = maps + {at} * stride")
                at += 1
        return "\n".join(lines)

    def _starts(self) -> str:
        lines = []
        before = self._index(CLASSES["before"]) if self.starts else 0
        for number, ranges in enumerate(self.starts):
            into = _FIXED_MAPS + len(self.classes) + len(self.literals) + number
            lines.append(
                f"    start_flags(maps + {self._index(ranges)} * stride, maps + {before} * stride, "
                f"maps + {into} * stride, blocks)"
            )
        return "\n".join(lines)

    def _index(self, ranges: Ranges) -> int:
        if ranges in FIXED_CLASSES:
            return 3 + FIXED_CLASSES.index(ranges)
        return _FIXED_MAPS + self.classes[ranges]

    # ------------------------------------------------------------------------------ one line

    def _names(self) -> list[str]:
        """The fields whose places are needed, "content" first."""
        wanted = {"content", *self.fmt.tags, *self.fmt.numbers}
        if any(self.fmt.level in layout.names for layout in self.fmt.layouts):
            wanted.add(self.fmt.level)
        for rule in self.fmt.keys:
            wanted.update(rule.fields)
        known = sorted({name for layout in self.fmt.layouts for name in layout.names} & wanted)
        return [_identifier(name) for name in known]

    def _line(self) -> None:
        out = self.out
        out("fits = 0")
        for layout in self.fmt.layouts:
            with out.block("while fits == 0:"):
                self._layout(layout)
                out("fits = 1")
        with out.block("if fits == 0:"):
            out("unparsed += 1")
            out("reject(a, origin + line, stop_raw - line)")
            out("st64(a + EVENT, 0)")
            out("line = stop_raw + 1")
            out("continue")
        self._event()

    def _layout(self, layout: Layout) -> None:
        """Match one layout; every way out but the last is a break."""
        out = self.out
        held = {
            _identifier(part.name)
            for part in layout.parts
            if isinstance(part, Field) and part.name != "_"
        }
        if any(isinstance(part, Mark) for part in layout.parts):
            held.add("content")
        for name in self.names:
            if name not in held:
                out(f"s_{name} = -1")
        out("p = start")
        self.times.begin()
        parts = layout.parts
        at = 0
        while at < len(parts):
            part = parts[at]
            if isinstance(part, Literal):
                self._literal(part.text, "p")
            elif isinstance(part, Mark):
                out("s_content = p" if part.begins else "e_content = p")
            elif part.time is not None:
                at = self._time(layout, at)
            elif part.open:
                at = self._open(part, parts, at)
            else:
                self._typed(part)
            at += 1
        if not (isinstance(parts[-1], Field) and parts[-1].open):
            out("if p != stop:", "    break")
        self.times.finish()

    def _time(self, layout: Layout, at: int) -> int:
        """One or more time fields with nothing but literals between them."""
        parts = layout.parts
        last = at
        for further in range(at + 1, len(parts)):
            part = parts[further]
            if isinstance(part, Field) and part.time is not None:
                last = further
            elif not isinstance(part, Literal):
                break
        steps: list[str | bytes] = []
        for part in parts[at : last + 1]:
            if isinstance(part, Literal):
                steps.append(part.text)
            elif isinstance(part, Field) and part.time is not None:
                steps += part.time.steps
                name = _identifier(part.name)
                if name in self.names:
                    raise UnsupportedFormatError("a time is used as a key, a tag or a level")
        whole = sum(isinstance(p, Field) and p.time is not None for p in parts) == sum(
            isinstance(p, Field) and p.time is not None for p in parts[at : last + 1]
        )
        self.times.fields(steps, memo=whole)
        self.out("if p > stop:", "    break")
        return last

    def _literal(self, text: bytes, at: str) -> None:
        """Match a literal at position `at`, move it behind."""
        out = self.out
        stripped = text.rstrip(b" ")
        exact = 0
        for byte in stripped:
            if byte == 32:
                with out.block(f"if ld8(text + {at}{_plus(exact)}) != 32:"):
                    out("break")
                out(f"{at} = skip_spaces(text, {at}{_plus(exact)}, stop)")
                exact = 0
            else:
                with out.block(f"if ld8(text + {at}{_plus(exact)}) != {byte}:"):
                    out("break")
                exact += 1
        if exact:
            out(f"{at} += {exact}")
        # Behind the line there is a space, a tab, a carriage return or the line's end, so that a
        # literal can have matched a byte too far only where it ends in one of them.
        out(f"if {at} > stop:", "    break")
        if len(stripped) < len(text):
            with out.block(f"if {at} < stop:"):
                with out.block(f"if ld8(text + {at}) != 32:"):
                    out("break")
                out(f"{at} += 1")
                with out.block(f"if ld8(text + {at}) == 32:"):
                    out(f"{at} = skip_spaces(text, {at}, stop)")

    def _open(self, part: Field, parts: Sequence[Field | Literal | Mark], at: int) -> int:
        """A field that ends where the next literal stands; return the index of that literal."""
        out = self.out
        following = next(
            (n for n in range(at + 1, len(parts)) if isinstance(parts[n], Literal)), None
        )
        out("b = p")
        if following is None:
            out("p = stop")
            if part.type == "word":
                out(f"if next_set({self._byte_map(32)}, b, stop) < stop:", "    break")
            self._keep(part, "b", "p", parts[at + 1 :])
            return len(parts)
        literal = parts[following]
        assert isinstance(literal, Literal)
        text = literal.text
        if text == b" ":
            out(f"q = min(next_set({self._byte_map(32)}, b, stop), stop)")
            out("if q <= b:", "    break")
            out("p = q")
            with out.block("if p < stop:"):
                out("p += 1")
                with out.block("if ld8(text + p) == 32:"):
                    out("p = skip_spaces(text, p, stop)")
        else:
            self._find(text, minimum=1 if text.startswith(b" ") else 0)
        if part.type == "word":
            out(f"if next_set({self._byte_map(32)}, b, q) < q:", "    break")
        between = parts[at + 1 : following]
        self._keep(part, "b", "q", between)
        return following

    def _find(self, text: bytes, minimum: int) -> None:
        """Find the first place from b on where the literal stands: q; p moves behind it."""
        out = self.out
        leading = text.startswith(b" ")
        core = text.strip(b" ") if leading else text.rstrip(b" ")
        anchor = self._byte_map(core[0])
        out("found = 0", "r = b")
        with out.block("while found == 0:"):
            out(f"q = next_set({anchor}, r, stop)")
            out("if q >= stop:", "    break")
            out("r = q + 1", "p = q")
            if leading:
                with out.block("if q <= b or ld8(text + q - 1) != 32:"):
                    out("continue")
            with out.block("while True:"):
                self._literal(text.lstrip(b" ") if leading else text, "p")
                out("found = 1")
                out("break")
        out("if found == 0:", "    break")
        if leading:
            with out.block("while q > b and ld8(text + q - 1) == 32:"):
                out("q -= 1")
        if minimum:
            out("if q <= b:", "    break")

    def _keep(
        self, part: Field, start: str, end: str, between: Sequence[Field | Literal | Mark]
    ) -> None:
        name = _identifier(part.name)
        if name in self.names and part.name != "_":
            self.out(f"s_{name} = {start}", f"e_{name} = {end}")
        for mark in between:
            if isinstance(mark, Mark):
                self.out(f"s_content = {end}" if mark.begins else f"e_content = {end}")

    def _typed(self, part: Field) -> None:
        """A field that says itself where it ends."""
        out = self.out
        out("b = p")
        start, end = "b", "p"
        match part.type:
            case "int":
                out("r = p")
                with out.block("if ld8(text + r) == 45:"):
                    out("r += 1")
                out(f"p = next_clear({self._map(_DIGITS)}, r, stop)")
                out("if p <= r:", "    break")
            case "hex" | "id" | "alpha":
                out(f"p = next_clear({self._map(CLASSES[part.type])}, p, stop)")
                out("if p <= b:", "    break")
            case "ip":
                out("p = scan_ip(a, text, p, stop)")
                out("if p < 0:", "    break")
            case "sd":
                out("p = scan_data(text, p, stop)")
                out("if p < 0:", "    break")
            case "quoted":
                out("if p >= stop or ld8(text + p) != 34:", "    break")
                out(f"q = next_set({self._byte_map(34)}, p + 1, stop)")
                with out.block(f"if q < stop and next_set({self._byte_map(92)}, p + 1, q) < q:"):
                    out("q = scan_quoted(text, p + 1, stop)")
                out("if q < 0 or q >= stop:", "    break")
                out("b = p + 1", "p = q + 1")
                end = "q"
            case other:
                raise UnsupportedFormatError(f"no field type {other!r} in compiled code")
        self._keep(part, start, end, ())

    # ------------------------------------------------------------------------------ the event

    def _event(self) -> None:
        """Count a line that fits."""
        out = self.out
        out("events += 1")
        out("st64(a + EVENT, events)")
        out("st64(a + EVENT_FIRST, NO_TIME_FIRST if moment == NO_TIME else moment)")
        out("st64(a + EVENT_LAST, NO_TIME_LAST if moment == NO_TIME else moment)")
        out("st64(a + EVENT_OFFSET, origin + line)")
        level = _identifier(self.fmt.level)
        out("level = tag0 = tag1 = tag2 = 0")
        if level in self.names:
            self._word("level", level, 0)
        for at, name in enumerate(self.fmt.tags):
            self._word(f"tag{at}", _identifier(name), at + 1)
        for at, name in enumerate(self.fmt.numbers):
            known = _identifier(name)
            with out.block(f"if s_{known} < 0:"):
                out(f"st64(a + NUMBER_SET, ld64(a + NUMBER_SET) & ~{1 << at})")
            with out.block("else:"):
                out(f"set_number(a, {at}, text + s_{known}, e_{known} - s_{known})")
        out("size = e_content - s_content")
        with out.block(
            "if size <= MAX_MESSAGE_BYTES "
            "and (s_content == 0 or in_class(clean, text + s_content - 1)) "
            "and in_class(clean, text + e_content):"
        ):
            out("pattern = hash_masked(text, map2, s_content, e_content)")
        with out.block("else:"):
            out("pattern = hash_slowly(a, text + s_content, size)")
        out("kind = find_kind(a, pattern, level, tag0, tag1, tag2)")
        out("st64(a + EVENT_KIND, kind)")
        out("found = 0")
        for number, rule in enumerate(self.fmt.keys):
            self._rule(rule, number)
        with out.block("if found != 0:"):
            out("matched += 1")
            out(
                "count_kind(a, kind, ld64(a + EVENT_FIRST), ld64(a + EVENT_LAST), origin + line, "
                "origin + s_content, e_content - s_content)"
            )
        out("st64(a + EVENT_FOUND, found)")
        with out.block("if joins != 0:"):
            out("st64(a + EVENT_EXAMPLE, origin + s_content)")
            out("st64(a + EVENT_EXAMPLE_SIZE, e_content - s_content)")
        out("line = stop_raw + 1")

    def _word(self, into: str, name: str, memo: int) -> None:
        """Intern a level or a tag; the word that was there last time is known at once."""
        out = self.out
        with out.block(f"if s_{name} >= 0:"):
            out(f"size = e_{name} - s_{name}")
            with out.block("if size > 0 and size <= 8:"):
                out(f"w = ld64(text + s_{name}) & shr(-1, 64 - (size << 3))")
                out(
                    f"memo = ld64(a + LEVEL_MEMO) + {memo * 256} + ((w ^ (w >> 3) ^ size) & 7) * 32"
                )
                with out.block("if ld64(memo) == w and ld64(memo + 8) == size:"):
                    out(f"{into} = ld64(memo + 16)")
                with out.block("else:"):
                    out(f"{into} = intern_word(a, text + s_{name}, size)")
                    out("st64(memo, w)", "st64(memo + 8, size)", f"st64(memo + 16, {into})")
            with out.block("else:"):
                out(f"{into} = intern_word(a, text + s_{name}, size)")

    def _group(self, rule: KeyRule) -> int:
        group = Group(b"", b"") if self.whole else Group(rule.names[0], rule.names[-1])
        if len(group.prefix) > 500 or len(group.suffix) > 500:
            raise UnsupportedFormatError("the name of a key is too long")
        if group not in self.plan.groups:
            self.plan.groups.append(group)
        return self.plan.groups.index(group)

    def _rule(self, rule: KeyRule, number: int) -> None:
        out = self.out
        condition = "found == 0" if rule.fallback else "True"
        names = [_identifier(name) for name in rule.fields]
        if any(name not in self.names for name in names):
            return
        condition += "".join(f" and s_{name} >= 0" for name in names if name != "content")
        with out.block(f"if {condition}:"):
            if rule.pattern:
                (name,) = names
                places = f"s_{name}, e_{name}"
                out(f"found += rule{number}(a, text, maps, stride, {places})")
            else:
                self._field_rule(rule, names)

    def _add(self, rule: KeyRule, place: str, size: str) -> None:
        out = self.out
        group = self._group(rule)
        out(f"added = add_key(a, {place}, {size}, {group})")
        with out.block("if added != 0:"):
            out("found += 1")
            if self.fmt.numbers:
                out("add_numbers(a, added - 1)")

    def _field_rule(self, rule: KeyRule, names: list[str]) -> None:
        out = self.out
        valid = " and ".join(f"valid_value(text + s_{name}, e_{name} - s_{name})" for name in names)
        with out.block(f"if {valid}:"):
            if len(names) == 1 and not self.whole:
                (name,) = names
                self._add(rule, f"text + s_{name}", f"e_{name} - s_{name}")
                return
            out("w = ld64(a + SCRATCH)", "size = 0")
            for at, name in enumerate(names):
                if at or self.whole:
                    self._bytes(rule.names[at])
                out(f"copy_bytes(w + size, text + s_{name}, e_{name} - s_{name})")
                out(f"size += e_{name} - s_{name}")
            if self.whole:
                self._bytes(rule.names[-1])
            self._add(rule, "w", "size")

    def _bytes(self, text: bytes) -> None:
        for at, byte in enumerate(text):
            self.out(f"st8(w + size + {at}, {byte})")
        if text:
            self.out(f"size += {len(text)}")

    def _pattern_rule(self, rule: KeyRule) -> None:
        """Search a field for a pattern; every match is a key."""
        out = self.out
        first = rule.pattern[0]
        if isinstance(first, Literal):
            starts = self._literal_map(first.text)
            out(f"q = next_set({starts}, begin, end)")
        else:
            starts = self._start_map(CLASSES[first.type])
            out("q = begin")  # in a text of its own, nothing stands before the first byte
        again = f"q = next_set({starts}, q + 1, end)"
        after = f"q = next_set({starts}, t, end)"
        out("found = 0")
        with out.block("while q < end:"):
            out("t = q", "hit = 0")
            with out.block("while True:"):
                self._match(rule)
                out("hit = 1")
                out("break")
            with out.block("if hit == 0:"):
                out(again)
                out("continue")
            with out.block(f"if z - v <= {MAX_KEY_VALUE}:"):
                if self.whole:
                    out("w = ld64(a + SCRATCH)", "size = 0")
                    self._bytes(rule.names[0])
                    out("copy_bytes(w + size, text + v, z - v)", "size += z - v")
                    self._bytes(rule.names[-1])
                    self._add(rule, "w", "size")
                else:
                    self._add(rule, "text + v", "z - v")
            out(after)

    def _match(self, rule: KeyRule) -> None:
        """Match the pattern at t; v and z become the ends of the value."""
        out = self.out
        captures = [at for at, part in enumerate(rule.pattern) if isinstance(part, Field)]
        for at, part in enumerate(rule.pattern):
            if isinstance(part, Literal):
                known = 4 if at == 0 else 0  # the bitmap has compared so many
                for place, byte in enumerate(part.text):
                    if place >= known:
                        out(f"if ld8(text + t + {place}) != {byte}:", "    break")
                out(f"t += {len(part.text)}")
                out("if t > end:", "    break")
                continue
            if at == captures[0]:
                out("v = t")
            if part.type == "ip":
                out("t = scan_ip(a, text, t, end)")
                out("if t < 0:", "    break")
            else:
                if part.type == "int":
                    out("if t < end and ld8(text + t) == 45:", "    t += 1")
                kind = _DIGITS if part.type == "int" else CLASSES[part.type]
                out("r = t")
                out("if t >= end:", "    break")
                out(f"t = next_clear({self._map(kind)}, t, end)")
                out("if t <= r:", "    break")
            if at == captures[-1]:
                out("z = t")


def _rule_bytes(rule: KeyRule) -> int:
    """The least bytes a match of a rule's pattern takes; 0 for a rule that takes a field."""
    return sum(
        len(part.text) if isinstance(part, Literal) else 1 + 2 * (part.type == "ip")
        for part in rule.pattern
    )


def _line_bytes(fmt: Format) -> int:
    """The least bytes a line takes, its line break included."""
    sizes = [
        sum(len(part.text.rstrip(b" ")) for part in layout.parts if isinstance(part, Literal))
        + sum(isinstance(part, Field) and part.time is not None for part in layout.parts)
        for layout in fmt.layouts
    ]
    return max(min(sizes), 1) + 1


def _middle_bytes(rule: KeyRule, *, whole: bool) -> int:
    """The bytes of a key that are neither a value nor kept with its group."""
    return sum(map(len, rule.names if whole else rule.names[1:-1]))


def _conflict(rules: Sequence[KeyRule]) -> bool:
    """Whether keys of different rules could have the same bytes though their values differ."""
    firsts = {
        "int": b"-0123456789",
        "hex": b"0123456789abcdefABCDEF",
        "ip": b"0123456789abcdefABCDEF:",
    }
    for one in rules:
        for other in rules:
            a, b = (one.names[0], one.names[-1]), (other.names[0], other.names[-1])
            if a == b:
                continue
            if a[0] == b[0]:
                return True
            if b[0].startswith(a[0]):
                starts = None
                fields = [part for part in one.pattern if isinstance(part, Field)]
                if fields:
                    starts = firsts.get(fields[0].type)
                if starts is None or b[0][len(a[0])] in starts:
                    return True
    return False


def _identifier(name: str) -> str:
    """A field's name as part of a variable's name."""
    return "".join(char if char.isalnum() else f"_{ord(char):x}_" for char in name)


def _plus(number: int) -> str:
    return f" + {number}" if number else ""


_RULE: Final = """
@compiled
def rule{number}(a, text, maps, stride, begin, end):
{locals}
{body}    return found

"""

_FILE: Final = '''"""Generated; see parser/kernel/codegen.py."""

import numba

from parser.kernel.runtime import *

classify = make_classifier({classes}, {literals})


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
    return hash_masked(scratch, maps + 2 * stride, 0, size)

{rules}
@numba.njit("int64(int64)", nogil=True, error_model="numpy", cache=CACHE, no_cfunc_wrapper=True)
def run(a):
    buf, limit = ld64(a + BUF), ld64(a + END)
    at = ld64(a + AT)
    maps, stride = ld64(a + MAPS), ld64(a + MAPS_STRIDE)
    clean, starters = ld64(a + CLEAN_TABLE), ld64(a + CLASS_TABLE)
    joins = ld64(a + JOINS)
    lines, matched, unparsed = ld64(a + LINES), ld64(a + MATCHED), ld64(a + UNPARSED)
    blank, continued, events = ld64(a + BLANK), ld64(a + CONTINUED), ld64(a + EVENTS)
    status = DONE
    moment = NO_TIME
    {places} = 0
{locals}
    while at < limit:
        text = buf + at
        origin = at - ld64(a + ORIGIN)
        size = min(ld64(a + WINDOW_NOW), limit - at)
        status = room_for(a, size, {keys}, {lines}, {words}, {slices}, {middles})
        if status != DONE:
            break
        scan(text, maps, stride, (size + 63) >> 6)
        line = 0
        window = size
        while True:
            stop_raw = next_set(map9, line, window)
            if stop_raw >= window:
                break
            start = line
            if origin + line == 0 and ld64(a + AT_START) != 0:
                if ld32(text) & 0xFFFFFF == 0xBFBBEF:
                    start += 3
            stop = trimmed(text, start, stop_raw)
            while start < stop and ld8(text + start) == 0:
                start += 1
            lines += 1
            if start >= stop:
                blank += 1
                line = stop_raw + 1
                continue
            if joins != 0 and ld8(starters + ld8(text + line)) & MAY_CONTINUE:
                if stop_raw - line <= MAX_LINE_BYTES and is_continuation(a, text, line, stop_raw):
                    if ld64(a + EVENT) == 0:
                        unparsed += 1
                        reject(a, origin + line, stop_raw - line)
                    else:
                        continued += 1
                        found = 0
{joined}
                        if found != 0 and ld64(a + EVENT_FOUND) == 0:
                            matched += 1
                            count_event(a)
                        st64(a + EVENT_FOUND, ld64(a + EVENT_FOUND) + found)
                    line = stop_raw + 1
                    continue
            if stop - start > MAX_LINE_BYTES:
                unparsed += 1
                reject(a, origin + line, stop_raw - line)
                st64(a + EVENT, 0)
                line = stop_raw + 1
                continue
{body}
        st64(a + WINDOW_NOW, WINDOW)
        if line == 0:
            # A line that is longer than the window.
            stop_raw = find_newline(text, window, limit - at)
            start = 3 if origin == 0 and ld64(a + AT_START) != 0 and ld32(text) & 0xFFFFFF == 0xBFBBEF else 0
            stop = trimmed(text, start, stop_raw)
            while start < stop and ld8(text + start) == 0:
                start += 1
            if start < stop and stop - start <= MAX_LINE_BYTES:
                st64(a + WINDOW_NOW, stop_raw + 1)
                status = GROW_MAPS
                if stop_raw + 1 > window_of(stride):
                    break
                status = DONE
                continue
            lines += 1
            if start >= stop:
                blank += 1
            else:
                unparsed += 1
                reject(a, origin, stop_raw)
                st64(a + EVENT, 0)
            line = stop_raw + 1
        at += line
    st64(a + AT, at)
    st64(a + LINES, lines)
    st64(a + MATCHED, matched)
    st64(a + UNPARSED, unparsed)
    st64(a + BLANK, blank)
    st64(a + CONTINUED, continued)
    st64(a + EVENTS, events)
    return status
'''
