"""Writes the functions that find keys, and says how much they can find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from parser.format import Format
from parser.kernel.errors import UnsupportedFormatError
from parser.kernel.layoutgen import identifier
from parser.kernel.maps import CLASSES, DIGITS, Maps
from parser.kernel.writer import Writer
from parser.layout import MAX_KEY_VALUE, Field, KeyRule, Layout, Literal

__all__ = ["Group", "RuleWriter"]

_LONGEST_NAME: Final = 500
_FIRSTS: Final = {
    "int": b"-0123456789",
    "hex": b"0123456789abcdefABCDEF",
    "ip": b"0123456789abcdefABCDEF:",
}


@dataclass(frozen=True)
class Group:
    """Keys of one prefix and suffix. Keys of two groups always differ."""

    prefix: bytes
    suffix: bytes


class RuleWriter:
    """Writes all rules of a format.

    A key is kept without its prefix and suffix where those tell the rules apart. Where two rules
    could make the same key from different values, whole keys are put together and kept.
    """

    def __init__(self, fmt: Format, maps: Maps) -> None:
        """Find out whether whole keys must be kept."""
        self.fmt = fmt
        self.maps = maps
        self.groups: list[Group] = []
        self.whole = _conflict(fmt.keys)
        # Keys can be counted later where they stay in the text and the event adds no numbers.
        together = any(len(rule.fields) > 1 for rule in fmt.keys)
        self.later = not (self.whole or together or fmt.numbers)

    def body(self, rule: KeyRule) -> str:
        """The body of the function of a rule: text[begin:end] -> how many new keys of the event."""
        out = Writer(1)
        out("found = 0")
        if rule.pattern:
            self._search(rule, out)
        else:
            with out.block("if valid_value(text + begin, end - begin):"):
                self._add(rule, out, "text + begin", "end - begin")
        out("return found")
        return out.text()

    def call(self, number: int, rule: KeyRule, out: Writer) -> None:
        """Write the use of a rule for a line that fits; its fields have places s_ and e_."""
        names = [identifier(name) for name in rule.fields]
        conditions = ["found == 0"] if rule.fallback else []
        conditions += [f"s_{name} >= 0" for name in names if name != "content"]
        with out.block(f"if {' and '.join(conditions) or 'True'}:"):
            if len(names) == 1:
                (name,) = names
                out(f"found += rule{number}(a, text, maps, stride, s_{name}, e_{name})")
            else:
                self._together(rule, names, out)

    def _together(self, rule: KeyRule, names: list[str], out: Writer) -> None:
        """A key of several fields: put together, then taken for one field."""
        valid = " and ".join(f"valid_value(text + s_{name}, e_{name} - s_{name})" for name in names)
        with out.block(f"if {valid}:"):
            out("w = ld64(a + SCRATCH)", "size = 0")
            for at, name in enumerate(names):
                if at or self.whole:
                    _bytes(rule.names[at], out)
                out(f"copy_bytes(w + size, text + s_{name}, e_{name} - s_{name})")
                out(f"size += e_{name} - s_{name}")
            if self.whole:
                _bytes(rule.names[-1], out)
            self._add(rule, out, "w", "size", made=True)

    def _add(
        self, rule: KeyRule, out: Writer, place: str, size: str, *, made: bool = False
    ) -> None:
        group = Group(b"", b"") if self.whole else Group(rule.names[0], rule.names[-1])
        if max(len(group.prefix), len(group.suffix)) > _LONGEST_NAME:
            raise UnsupportedFormatError("the name of a key is too long")
        if group not in self.groups:
            self.groups.append(group)
        if self.whole and not made:
            out("w = ld64(a + SCRATCH)", "size = 0")
            _bytes(rule.names[0], out)
            out(f"copy_bytes(w + size, {place}, {size})", f"size += {size}")
            _bytes(rule.names[-1], out)
            place, size = "w", "size"
        if self.later:
            out(f"note_key(a, {place}, {size}, {self.groups.index(group)})", "found += 1")
            return
        out(f"added = add_key(a, {place}, {size}, {self.groups.index(group)})")
        with out.block("if added != 0:"):
            out("found += 1")
            if self.fmt.numbers:
                out("add_numbers(a, added - 1)")

    def _search(self, rule: KeyRule, out: Writer) -> None:
        """Search for a pattern; every match is a key."""
        first = rule.pattern[0]
        if isinstance(first, Literal):
            starts = self.maps.of_literal(first.text)
            out(f"q = next_set({starts}, begin, end)")
        else:
            starts = self.maps.of_start(CLASSES[first.type])
            out("q = begin")  # nothing stands before a field's first byte
        with out.block("while q < end:"):
            out("t = q", "hit = 0")
            with out.block("while True:"):
                self._match(rule, out)
                out("hit = 1", "break")
            with out.block("if hit == 0:"):
                out(f"q = next_set({starts}, q + 1, end)", "continue")
            with out.block(f"if z - v <= {MAX_KEY_VALUE}:"):
                self._add(rule, out, "text + v", "z - v")
            out(f"q = next_set({starts}, t, end)")

    def _match(self, rule: KeyRule, out: Writer) -> None:
        """Match the pattern at t; v and z become the ends of the value."""
        captures = [at for at, part in enumerate(rule.pattern) if isinstance(part, Field)]
        for at, part in enumerate(rule.pattern):
            if isinstance(part, Literal):
                known = 4 if at == 0 else 0  # so many bytes the bitmap has compared
                for place, byte in enumerate(part.text[known:], known):
                    out(f"if ld8(text + t + {place}) != {byte}:", "    break")
                out(f"t += {len(part.text)}", "if t > end:", "    break")
                continue
            if at == captures[0]:
                out("v = t")
            if part.type == "ip":
                out("t = scan_ip(a, text, t, end)", "if t < 0:", "    break")
            else:
                if part.type == "int":
                    out("if t < end and ld8(text + t) == 45:", "    t += 1")
                out("r = t", "if t >= end:", "    break")
                kind = DIGITS if part.type == "int" else CLASSES[part.type]
                out(f"t = next_clear({self.maps.of(kind)}, t, end)")
                out("if t <= r:", "    break")
            if at == captures[-1]:
                out("z = t")

    # --------------------------------------------------------------------------------- bounds

    def most_keys(self) -> str:
        """An expression: how many keys a window of `size` bytes has at most."""
        line = self._line_bytes()
        return " + ".join(["8", *(f"size // {_match_bytes(r) or line}" for r in self.fmt.keys)])

    def most_lines(self) -> str:
        """An expression: how many events a window of `size` bytes has at most."""
        return f"8 + size // {self._line_bytes()}"

    def slices(self) -> int:
        """How often a byte of a line can be copied into a key."""
        return 1 + sum(len(rule.fields) for rule in self.fmt.keys)

    def middles(self) -> int:
        """How many bytes of a key can come from its name."""
        return 8 + sum(
            sum(map(len, rule.names if self.whole else rule.names[1:-1])) for rule in self.fmt.keys
        )

    def _line_bytes(self) -> int:
        return max(min(map(_layout_bytes, self.fmt.layouts)), 1) + 1


def _bytes(text: bytes, out: Writer) -> None:
    for at, byte in enumerate(text):
        out(f"st8(w + size + {at}, {byte})")
    if text:
        out(f"size += {len(text)}")


def _match_bytes(rule: KeyRule) -> int:
    """The least bytes a match of a pattern takes; 0 for a rule that takes fields."""
    return sum(
        len(part.text) if isinstance(part, Literal) else 1 + 2 * (part.type == "ip")
        for part in rule.pattern
    )


def _layout_bytes(layout: Layout) -> int:
    """The least bytes of a line, without its end."""
    return sum(
        len(part.text.rstrip(b" "))
        if isinstance(part, Literal)
        else int(isinstance(part, Field) and part.time is not None)
        for part in layout.parts
    )


def _conflict(rules: Sequence[KeyRule]) -> bool:
    """Whether keys of different groups could have the same bytes."""
    for one in rules:
        for other in rules:
            a, b = (one.names[0], one.names[-1]), (other.names[0], other.names[-1])
            if a == b:
                continue
            if a[0] == b[0]:
                return True
            if b[0].startswith(a[0]):
                first = next((part for part in one.pattern if isinstance(part, Field)), None)
                starts = _FIRSTS.get(first.type) if first is not None else None
                if starts is None or b[0][len(a[0])] in starts:
                    return True
    return False
