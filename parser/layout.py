r"""The language in which a person says what a line looks like, and where keys come from.

A layout is text with fields::

    <date:%y%m%d> <time:%H%M%S> <pid:int> <level> <component>: <content>

``<name>``          up to the first place where the text behind it in the layout stands
``<name:word>``     the same, but holds no space
``<name:int>``      ``-`` and digits            ``<name:hex>``  hexadecimal digits
``<name:ip>``       an IPv4 or IPv6 address     ``<name:id>``   letters, digits, ``_`` and ``-``
``<name:alpha>``    letters
``<name:quoted>``   ``"…"`` with ``\"`` inside; the value is what is between the quotes
``<name:sd>``       structured data of RFC 5424: ``-`` or ``[…]…``
``<name:%…>``       a time, see parser/times.py; also ``iso``, ``epoch``, ``epoch_ms``
``<_>``             any of these without keeping it, such as ``<_:int>``
``<content>``       the message; at the end it is the rest of the line
``<+content>…<-content>``   the message is everything between the two marks

A space stands for one or more spaces, and the one that ends a literal also for the end of the line.
A backslash takes the meaning from the character after it (``\<``, ``\\``); ``\t`` is a tab.
There is no backtracking: the first place where a literal stands is where the field before it ends.
So a layout means the same to a regular expression and to a compiled loop.

A key rule says which text names the entity, and how the entity is called::

    content ~ blk_<int> -> block_{}       every different match in the content is a key
    client -> client_{}                   a field is the key
    host, process -> {}_{}                fields together
    else component -> component_{}        only when no rule before it found a key

In a pattern of a rule ``{}`` is what lies between the start of the first capture and the end of the
last, so ``task_<int>_<int> -> task_{}`` keeps both numbers. A value of ``-``, an empty one and one
longer than MAX_KEY_VALUE is no key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from parser.errors import LayoutError
from parser.times import TimeFormat, compile_time

__all__ = [
    "MAX_KEY_VALUE",
    "TYPES",
    "Field",
    "KeyRule",
    "Layout",
    "Literal",
    "Mark",
    "capture_pattern",
    "parse_key_rule",
    "parse_layout",
]

MAX_KEY_VALUE: Final = 255
"""Bytes of a value that may become a key."""

CONTENT: Final = "content"

IP: Final = (
    r"(?:[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}+"
    r"|(?=[0-9A-Fa-f:]*::|(?:[0-9A-Fa-f]{1,4}:){7})[0-9A-Fa-f:]++)"
)
TYPES: Final = {
    "int": r"-?[0-9]++",
    "hex": r"[0-9A-Fa-f]++",
    "ip": IP,
    "id": r"[0-9A-Za-z_-]++",
    "alpha": r"[A-Za-z]++",
    "quoted": r'"(?:[^"\\]|\\.)*"',
    "sd": r'(?:-|(?:\[(?:[^"\]]|"(?:[^"\\]|\\.)*")*\])+)',
}
"""Types that say themselves where they end, as regular expressions without groups."""

_OPEN_TYPES: Final = frozenset({"", "word"})
_CAPTURES: Final = frozenset({"int", "hex", "ip", "id", "alpha"})
_NAME: Final = r"[A-Za-z_@][A-Za-z0-9_.@-]*"
_FIELD: Final = re.compile(rf"([+-]?)({_NAME})(?::(.+))?", re.DOTALL)
_ESCAPES: Final = {"t": "\t"}


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that must stand there; each space in it is one or more spaces."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Field:
    """A field; `time` is set for the ones that hold a time, `type` is "" for a plain one."""

    name: str
    type: str = ""
    time: TimeFormat | None = None

    @property
    def open(self) -> bool:
        """Whether only what follows says where the field ends."""
        return self.time is None and self.type in _OPEN_TYPES


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the content begins or ends, when it spans several fields."""

    begins: bool


Part = Literal | Field | Mark


@dataclass(frozen=True)
class Layout:
    """A line's layout; made by parse_layout."""

    text: str
    parts: tuple[Part, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the kept fields, in their order."""
        fields = [part for part in self.parts if isinstance(part, Field) and part.name != "_"]
        names = [part.name for part in fields]
        if any(isinstance(part, Mark) for part in self.parts):
            names.append(CONTENT)
        return tuple(dict.fromkeys(names))

    @cached_property
    def times(self) -> tuple[Field, ...]:
        """The fields that hold a part of the time."""
        return tuple(p for p in self.parts if isinstance(p, Field) and p.time is not None)

    @cached_property
    def anchored(self) -> bool:
        """Whether a line's start tells it from a continuation: a time, number or literal is there.

        Only then can lines be told to continue the one before.
        """
        for part in self.parts:
            if isinstance(part, Literal):
                return not part.text[:1].isspace()
            if isinstance(part, Field):
                return not part.open or len(self.times) > 0
        return False


def parse_layout(text: str) -> Layout:
    """Compile the text of a layout. Raises LayoutError, which says where the mistake is."""
    parts: list[Part] = []
    for kind, word in _pieces(text):
        if kind == "literal":
            parts.append(Literal(re.sub(rb" {2,}", b" ", word.encode("utf-8", "surrogateescape"))))
        else:
            parts.append(_field(word, text))
    _check(parts, text)
    return Layout(text, tuple(parts))


def _pieces(text: str) -> list[tuple[str, str]]:
    """Split into ("literal", text) and ("field", what is between < and >)."""
    pieces: list[tuple[str, str]] = []
    literal = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            literal += _ESCAPES.get(text[at + 1], text[at + 1])
            at += 2
        elif char == "<":
            end = text.find(">", at)
            if end < 0:
                raise LayoutError(f"a field that begins at {at} does not end with '>': {text!r}")
            if literal:
                pieces.append(("literal", literal))
                literal = ""
            pieces.append(("field", text[at + 1 : end]))
            at = end + 1
        elif char == "\n":
            raise LayoutError("a layout describes one line, it cannot hold a line break")
        else:
            literal += char
            at += 1
    if literal:
        pieces.append(("literal", literal))
    return pieces


def _field(word: str, text: str) -> Field | Mark:
    found = _FIELD.fullmatch(word)
    if found is None:
        raise LayoutError(f"<{word}> is not a field: give <name> or <name:type> (in {text!r})")
    sign, name, kind = found[1], found[2], found[3] or ""
    if sign:
        if name != CONTENT or kind:
            raise LayoutError(f"<{word}>: only <+content> and <-content> mark a span")
        return Mark(sign == "+")
    if kind.startswith("%") or kind in {"iso", "iso8601", "epoch", "epoch_ms"}:
        return Field(name, kind, compile_time(kind))
    if kind not in TYPES and kind not in _OPEN_TYPES:
        known = ", ".join(sorted(TYPES)) + ", word, iso, epoch, epoch_ms or a %strptime text"
        raise LayoutError(f"<{word}>: no type {kind!r}; there are {known}")
    return Field(name, kind)


def _check(parts: list[Part], text: str) -> None:
    if not parts:
        raise LayoutError("an empty layout")
    names = [p.name for p in parts if isinstance(p, Field) and p.name != "_"]
    for name in names:
        if names.count(name) > 1:
            raise LayoutError(f"two fields are called {name!r} (in {text!r})")
    marks = [part.begins for part in parts if isinstance(part, Mark)]
    if marks not in ([], [True, False]):
        raise LayoutError(f"<+content> and <-content> come once each, in this order (in {text!r})")
    if marks and CONTENT in names:
        raise LayoutError(f"the content is named twice (in {text!r})")
    if not marks and CONTENT not in names:
        raise LayoutError(f"no <content>: say which part is the message (in {text!r})")
    fields = [part for part in parts if not isinstance(part, Mark)]
    for part, following in pairwise(fields):
        if isinstance(part, Field) and part.open and isinstance(following, Field):
            raise LayoutError(
                f"<{part.name}> and <{following.name}> stand side by side: "
                f"nothing says where the first ends (in {text!r})"
            )


# ------------------------------------------------------------------------------------- key rules


@dataclass(frozen=True)
class KeyRule:
    """One rule; made by parse_key_rule.

    The key is ``names[0] + value + names[1] + …``: one value for a pattern, one for each field
    otherwise.
    """

    text: str
    fields: tuple[str, ...]
    pattern: tuple[Literal | Field, ...]
    names: tuple[bytes, ...]
    fallback: bool = False

    @cached_property
    def expression(self) -> re.Pattern[bytes]:
        """The pattern as a regular expression; group 1 is the value."""
        return re.compile(capture_pattern(self.pattern))


_RULE: Final = re.compile(
    rf"\s*(?P<fallback>else\s+)?(?P<fields>{_NAME}(?:\s*,\s*{_NAME})*)\s*"
    r"(?:~\s*(?P<pattern>.*?\S))?\s*->\s*(?P<name>\S.*?)\s*",
    re.DOTALL,
)


def parse_key_rule(text: str) -> KeyRule:
    """Compile the text of a key rule. Raises LayoutError."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise LayoutError(
            f"not a key rule: {text!r}; write 'content ~ blk_<int> -> block_{{}}' "
            "or 'client -> client_{}'"
        )
    fields = tuple(name.strip() for name in found["fields"].split(","))
    pattern: list[Literal | Field] = []
    if found["pattern"]:
        if len(fields) > 1:
            raise LayoutError(f"a pattern is searched in one field: {text!r}")
        pattern = _rule_pattern(found["pattern"], text)
    name = found["name"].encode("utf-8", "surrogateescape")
    names = tuple(name.split(b"{}"))
    if len(names) - 1 != len(fields):
        raise LayoutError(f"the name must hold {{}} once for each value: {text!r}")
    return KeyRule(text.strip(), fields, tuple(pattern), names, bool(found["fallback"]))


def _rule_pattern(text: str, rule: str) -> list[Literal | Field]:
    pattern: list[Literal | Field] = []
    for kind, word in _pieces(text):
        if kind == "literal":
            pattern.append(Literal(word.encode("utf-8", "surrogateescape")))
            continue
        capture = word.rpartition(":")[2]
        if capture not in _CAPTURES:
            known = ", ".join(f"<{name}>" for name in sorted(_CAPTURES))
            raise LayoutError(f"<{word}> in a key rule: there are {known} (in {rule!r})")
        if pattern and isinstance(pattern[-1], Field):
            raise LayoutError(f"two captures stand side by side (in {rule!r})")
        pattern.append(Field("", capture))
    if not any(isinstance(part, Field) for part in pattern):
        raise LayoutError(f"the pattern captures nothing, such as <int> (in {rule!r})")
    return pattern


def capture_pattern(pattern: tuple[Literal | Field, ...]) -> bytes:
    """Return the regular expression of a rule's pattern, its value as group 1.

    A pattern that begins with a capture begins where no word or number goes on.
    """
    fields = [at for at, part in enumerate(pattern) if isinstance(part, Field)]
    out = "" if isinstance(pattern[0], Literal) else r"(?<![0-9A-Za-z._:-])"
    for at, part in enumerate(pattern):
        out += "(" if at == fields[0] else ""
        if isinstance(part, Field):
            out += TYPES[part.type]
        else:
            out += re.escape(part.text.decode("latin-1"))
        out += ")" if at == fields[-1] else ""
    return out.encode("latin-1")
