"""Writes the function that matches one layout.

It returns 0 where the line does not fit, and otherwise 1 with the places of the needed fields and
the time in the header. The rules are those of parser/readers.layout_expression, which has one way
to match; so there is never a step back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from parser.kernel.errors import UnsupportedFormatError
from parser.kernel.maps import CLASSES, DIGITS, Maps
from parser.kernel.timegen import TimeWriter
from parser.kernel.writer import Writer
from parser.layout import Field, Layout, Literal, Mark

__all__ = ["identifier", "layout_function"]

Part = Field | Literal | Mark
_FAIL: Final = "    return 0"
_HEAD: Final = """
@compiled
def {name}(a, text, maps, stride, start, stop):
{places}{body}"""


def identifier(name: str) -> str:
    """A field's name as part of a variable's name."""
    return "".join(char if char.isalnum() else f"_{ord(char):x}_" for char in name)


def layout_function(
    name: str, layout: Layout, wanted: Sequence[str], maps: Maps, memos: dict[object, int]
) -> tuple[str, str]:
    """Return the head (to be filled with the places of bitmaps) and the body of the function."""
    writer = _LayoutWriter(layout, wanted, maps, memos)
    return name, writer.write()


def finished(name: str, body: str, maps: Maps) -> str:
    """Return the whole function, now that all bitmaps are known."""
    return _HEAD.format(name=name, body=body, places=maps.places(body))


class _LayoutWriter:
    def __init__(
        self, layout: Layout, wanted: Sequence[str], maps: Maps, memos: dict[object, int]
    ) -> None:
        self.layout = layout
        self.wanted = wanted
        self.maps = maps
        self.out = Writer(1)
        self.times = TimeWriter(self.out, memos)
        self.kept: set[str] = set()

    def write(self) -> str:
        out = self.out
        out("p = start")
        self.times.begin()
        parts = self.layout.parts
        at = 0
        while at < len(parts):
            part = parts[at]
            if isinstance(part, Literal):
                self._literal(part.text, _FAIL)
            elif isinstance(part, Mark):
                self._mark(part, "p")
            elif part.time is not None:
                at = self._time(at)
            elif part.open:
                at = self._open(part, at)
            else:
                self._typed(part)
            at += 1
        if not (isinstance(parts[-1], Field) and parts[-1].open):
            out("if p != stop:", _FAIL)
        self.times.finish()
        out("st64(a + MOMENT, moment)", "fields = ld64(a + FIELDS)")
        for number, name in enumerate(self.wanted):
            if name in self.kept:
                known = identifier(name)
                out(f"st64(fields + {16 * number}, s_{known})")
                out(f"st64(fields + {16 * number + 8}, e_{known})")
            else:
                out(f"st64(fields + {16 * number}, -1)")
        out("return 1")
        return out.text()

    def _keep(self, name: str, start: str, end: str) -> None:
        if name in self.wanted:
            self.kept.add(name)
            known = identifier(name)
            self.out(f"s_{known} = {start}", f"e_{known} = {end}")

    def _mark(self, mark: Mark, place: str) -> None:
        if "content" in self.wanted:
            self.kept.add("content")
            self.out(f"{'s' if mark.begins else 'e'}_content = {place}")

    def _time(self, at: int) -> int:
        """Time fields with nothing but literals between them; return the index of the last."""
        parts = self.layout.parts
        last = at
        for further in range(at + 1, len(parts)):
            part = parts[further]
            if isinstance(part, Field) and part.time is not None:
                last = further
            elif not isinstance(part, Literal):
                break
        steps: list[str | bytes] = []
        fields = 0
        for part in parts[at : last + 1]:
            if isinstance(part, Literal):
                steps.append(part.text)
            elif isinstance(part, Field) and part.time is not None:
                fields += 1
                steps += part.time.steps
                if part.name in self.wanted:
                    raise UnsupportedFormatError("a time is used as a key, a tag or a level")
        self.times.fields(steps, memo=fields == len(self.layout.times))
        self.out("if p > stop:", _FAIL)
        return last

    def _literal(self, text: bytes, fail: str) -> None:
        """Match a literal at p, move p behind it.

        Behind a line stand only spaces, tabs, carriage returns and its end, so that text beyond it
        is matched only by a literal that holds those; then p has gone too far.
        """
        out = self.out
        stripped = text.rstrip(b" ")
        for number, run in enumerate(stripped.split(b" ")):
            if number:
                out("if ld8(text + p) != 32:", fail)
                out("p = skip_spaces(text, p + 1, stop)")
            for at in range(0, len(run), 8):
                piece = run[at : at + 8]
                value = int.from_bytes(piece, "little", signed=len(piece) == 8)
                if len(piece) == 1:
                    out(f"if ld8(text + p) != {value}:", fail)
                elif len(piece) == 8:
                    out(f"if ld64(text + p) != {value}:", fail)
                else:
                    out(f"if ld64(text + p) & {(1 << 8 * len(piece)) - 1} != {value}:", fail)
                out(f"p += {len(piece)}")
        if stripped:
            out("if p > stop:", fail)
        if len(stripped) < len(text):
            with out.block("if p < stop:"):
                out("if ld8(text + p) != 32:", fail)
                out("p += 1")
                with out.block("if ld8(text + p) == 32:"):
                    out("p = skip_spaces(text, p, stop)")

    def _open(self, part: Field, at: int) -> int:
        """A field that ends where the next literal stands; return that literal's index."""
        out, parts, spaces = self.out, self.layout.parts, self.maps.of_byte(32)
        following = next((n for n in range(at, len(parts)) if isinstance(parts[n], Literal)), None)
        out("b = p")
        if following is None:
            out("q = stop", "p = stop")
        else:
            literal = parts[following]
            assert isinstance(literal, Literal)
            if literal.text == b" ":
                out(f"q = min(next_set({spaces}, b, stop), stop)")
                out("if q <= b:", _FAIL)
                out("p = q")
                self._literal(b" ", _FAIL)
            else:
                self._find(literal.text)
        if part.type == "word" and (following is None or parts[following] != Literal(b" ")):
            out(f"if next_set({spaces}, b, q) < q:", _FAIL)
        self._keep(part.name, "b", "q")
        end = len(parts) if following is None else following
        for mark in parts[at + 1 : end]:
            if isinstance(mark, Mark):
                self._mark(mark, "q")
        return end

    def _find(self, text: bytes) -> None:
        """Find the first place from b on where the literal stands: q; p moves behind it."""
        out = self.out
        leading = text.startswith(b" ")
        core = text.lstrip(b" ")
        anchor = self.maps.of_byte(core[0])
        out("found = 0", "r = b")
        with out.block("while found == 0:"):
            out(f"q = next_set({anchor}, r, stop)")
            out("if q >= stop:", _FAIL)
            out("r = q + 1", "p = q")
            if leading:
                out("if q <= b or ld8(text + q - 1) != 32:", "    continue")
            with out.block("while True:"):
                self._literal(core, "    break")
                out("found = 1", "break")
        if leading:
            with out.block("while q > b and ld8(text + q - 1) == 32:"):
                out("q -= 1")
            out("if q <= b:", _FAIL)

    def _typed(self, part: Field) -> None:
        """A field that says itself where it ends."""
        out = self.out
        out("b = p")
        start, end = "b", "p"
        match part.type:
            case "int":
                out("r = p", "if ld8(text + r) == 45:", "    r += 1")
                out(f"p = next_clear({self.maps.of(DIGITS)}, r, stop)")
                out("if p <= r:", _FAIL)
            case "hex" | "id" | "alpha":
                out(f"p = next_clear({self.maps.of(CLASSES[part.type])}, p, stop)")
                out("if p <= b:", _FAIL)
            case "ip":
                out("p = scan_ip(a, text, p, stop)")
                out("if p < 0:", _FAIL)
            case "sd":
                out("p = scan_data(text, p, stop)")
                out("if p < 0:", _FAIL)
            case "quoted":
                out("if p >= stop or ld8(text + p) != 34:", _FAIL)
                out(f"q = next_set({self.maps.of_byte(34)}, p + 1, stop)")
                out(f"if q < stop and next_set({self.maps.of_byte(92)}, p + 1, q) < q:")
                out("    q = scan_quoted(text, p + 1, stop)")
                out("if q < 0 or q >= stop:", _FAIL)
                out("b = p + 1", "p = q + 1")
                end = "q"
            case other:
                raise UnsupportedFormatError(f"no field type {other!r} in compiled code")
        self._keep(part.name, start, end)
