"""What a pattern looks like: its words and the punctuation between them.

Two patterns can belong to one template only when they have the same *structure*: the same
punctuation around the same number of words. So whatever is one value to a person must be one word
here, however many bytes, blanks and signs it is written with. This module makes it so, by rules
about writing that hold for any log:

* a path, a URL, ``host.name:<*>`` and a relative path with a dot in it are one value;
* what stands between quotes is one word, and so is an object, ``Name{…}``;
* a date's or a time's words beside numbers (``Mon Jun <*>``, ``<*> PDT``) belong to the value, and
  so does a unit behind a number (``<*> KB``) and a ``<`` or ``~`` before one;
* ``true``, ``null``, ``on`` … as the value of a key or in brackets are a value;
* an empty value (``user=``, ``()``), and one of signs only (``****`` among numbers), is a value;
* values in a row, with blanks or commas or the like between them, are one value, whatever their
  number; a list of words in brackets is one too;
* runs of blanks are as good as one, runs of dots as good as one.

Every word keeps how it was written (``raw``), so nothing is lost to the eye: where all patterns of
a template agree, the template shows it as written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["VALUE", "Shape", "shape"]

VALUE: Final = "<*>"
"""The word that stands for any value; the same text as in a masked message."""

MAX_WORDS: Final = 160
"""What is behind so many words is one value; bounds the work for a pattern."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CALENDAR: Final = _words(
    "Mon Tue Wed Thu Fri Sat Sun Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec "
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April June "
    "July August September October November December"
)
_CLOCK: Final = _words("UTC GMT EST EDT CST CDT MST MDT PST PDT BST IST CET CEST JST AM PM")
_UNITS: Final = _words(
    "B kB KB MB GB TB KiB MiB GiB TiB byte bytes ns us ms s sec secs second seconds "
    "m min mins minute minutes h hr hrs hour hours Hz kHz MHz GHz"
)
_CONSTANTS: Final = _words(
    "true false null none nil yes no on off True False None Null Nil TRUE FALSE NULL "
    "undefined nan NaN enabled disabled"
)
_LIST_GLUE: Final = frozenset(" ,;@|#-")
"""What may stand between two values that are one list."""

_D: Final = r"\s=:,;()\[\]{}<>\"'`|\#!?&@/\\"
_TOKEN: Final = re.compile(
    rf"""
    (?P<value> <\*>)
    | (?P<path>
        (?: (?<=[\s=:,;("'\[<{{]) | ^ )                       # from the root, home, here; a URL
        (?: [A-Za-z][A-Za-z0-9+.\-]*:// | (?:[A-Za-z]:|~|\.{{1,2}})? [/\\] (?=[^\s,;()\[\]"']) )
        (?: [^\s,;()\[\]"'<>] | <\*> )* (?<![:.])
      | (?<=[A-Z]\ ) / (?=\s)                                  # GET / HTTP
      | (?<=[\s=:,;(\[]) [Nn]/[Aa] (?![^\s=:,;)\]}}."'])
      | (?<![^\s=:,;("'\[<{{])                                 # relative, with a dot somewhere
        (?: [\w\-<*>]+ (?:\.[\w\-<*>]+)+ (?:/[.\w$<*>\-]+)+
          | [\w\-<*>]+ (?:/[\w\-<*>]+)+ (?:\.[\w\-<*>]+)+ (?:/[.\w$<*>\-]+)* )
      | (?<![^\s=:,;("'\[<{{/]) (?:[A-Za-z_\-]+\.)+ [A-Za-z_\-]+ : <\*> )   # host.name:port
    | (?P<quoted> "[^"]*" | (?: (?<=[\s=:,;(\[{{]) | ^ ) '[^']*' (?=[\s,;:)\]}}.]|$) )
    | (?P<blank> \s+)
    | (?P<word> [^{_D}.]+ (?:\.[^{_D}.]+)*)
    | (?P<dots> \.+)
    | (?P<sign> .)
    """,
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    """A word (its text, or VALUE) or the punctuation between words, and how it was written."""

    is_word: bool
    text: str
    raw: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A pattern taken apart. ``len(gaps) == len(words) + 1 == len(raw_words) + 1``."""

    structure: str
    """The punctuation, with a NUL for each word."""
    words: tuple[str, ...]
    raw_words: tuple[str, ...]
    gaps: tuple[str, ...]
    """What stands before, between and behind the words, as written."""


def shape(pattern: str) -> Shape:
    """Take a pattern apart."""
    tokens = _lists(_values(_pieces(pattern)))
    words: list[str] = []
    raw_words: list[str] = []
    gaps = [""]
    structure: list[str] = []
    for position, token in enumerate(tokens):
        if token.is_word and len(words) == MAX_WORDS:
            words.append(VALUE)
            raw_words.append("".join(rest.raw for rest in tokens[position:]))
            structure.append("\0")
            gaps.append("")
            break
        if token.is_word:
            words.append(token.text)
            raw_words.append(token.raw)
            structure.append("\0")
            gaps.append("")
        else:
            structure.append(token.text)
            gaps[-1] += token.raw
    return Shape("".join(structure), tuple(words), tuple(raw_words), tuple(gaps))


def _pieces(pattern: str) -> list[_Token]:
    pieces = []
    for match in _TOKEN.finditer(pattern):
        kind, raw = match.lastgroup, match[0]
        if kind == "word":
            pieces.append(_Token(True, raw, raw))
        elif kind in {"value", "path"}:
            pieces.append(_Token(True, VALUE, raw))
        elif kind == "blank":
            pieces.append(_Token(False, " ", raw))
        elif kind == "dots":
            pieces.append(_Token(False, ".", raw))
        elif kind == "quoted":
            pieces.append(_Token(True, _quoted(raw), raw))
        else:
            pieces.append(_Token(False, raw, raw))
    return pieces


def _quoted(raw: str) -> str:
    """A quoted text as one word: its own values found, its blanks single."""
    inside = "".join(token.text for token in _lists(_values(_pieces(raw[1:-1]))))
    return VALUE if inside == VALUE else f"{raw[0]}{inside}{raw[0]}"


def _values(tokens: list[_Token]) -> list[_Token]:
    """Find the values that are written as words."""
    padding = [_Token(False, "", "")] * 2
    tokens = padding + tokens + padding
    done: list[_Token] = []
    for here in range(2, len(tokens) - 2):
        token = tokens[here]
        before, after = tokens[here - 1].text, tokens[here + 1].text
        if token.is_word:
            if token.text != VALUE and _is_unit(tokens, here, done):
                done[-2:] = [_Token(True, VALUE, done[-2].raw + done[-1].raw + token.raw)]
                continue
            if token.text != VALUE and _is_value(tokens, here):
                token = tokens[here] = _Token(True, VALUE, token.raw)
            if (
                token.text == VALUE
                and before in {"<", "~", ">"}
                and after != ">"
                and tokens[here - 2].text in {"", " "}
            ):
                token = _Token(True, VALUE, done.pop().raw + token.raw)
            done.append(token)
            continue
        done.append(token)
        if token.text == "=" and after in {" ", ""} and before not in {" ", "="}:
            done.append(_Token(True, "", ""))
        elif token.text in {"(", "[", "{"} and after in {")", "]", "}"} and before in {" ", ""}:
            done.append(_Token(True, VALUE, ""))
    return done


def _is_unit(tokens: Sequence[_Token], here: int, done: Sequence[_Token]) -> bool:
    return (
        tokens[here].text in _UNITS
        and tokens[here - 1].text == " "
        and len(done) > 1
        and done[-2].text == VALUE
    )


def _is_value(tokens: Sequence[_Token], here: int) -> bool:
    word = tokens[here].text
    before, after = tokens[here - 1].text, tokens[here + 1].text
    left = tokens[here - 2].text if before in {" ", "/", "-", ","} else ""
    right = tokens[here + 2].text if after in {" ", "/", "-", ","} else ""
    if word in _CALENDAR:
        return VALUE in {left, right} or left in _CALENDAR or right in _CALENDAR
    if word in _CLOCK:
        return left == VALUE
    if word in _CONSTANTS:
        key = tokens[here - 2].text if before == " " else before
        return key in {"=", ":", "(", "["} or (left == VALUE and after in {")", "]", " "})
    in_a_list = left == VALUE and before == " " == after
    return (in_a_list or before == "=") and not any(map(str.isalnum, word))


def _lists(tokens: list[_Token]) -> list[_Token]:
    """Make one value of values in a row, and of a list in brackets."""
    done: list[_Token] = []
    for token in tokens:
        done.append(token)
        if token.is_word and token.text == VALUE:
            start = len(done) - 2
            while start >= 0 and not done[start].is_word and done[start].text in _LIST_GLUE:
                start -= 1
            if 0 <= start < len(done) - 2 and done[start].text == VALUE:
                done[start:] = [_joined(done[start:])]
        elif token.text == "}" and _close_object(done):
            continue
        elif token.text in {")", "]", "}"}:
            start = len(done) - 2
            commas = 0
            while start >= 0 and (done[start].is_word or done[start].text in {" ", ","}):
                commas += done[start].text == ","
                start -= 1
            if commas and start >= 0 and done[start].text in {"(", "[", "{"}:
                done[start + 1 :] = [_joined(done[start + 1 : -1]), token]
    return done


def _close_object(done: list[_Token]) -> bool:
    """Make one word of ``Name{…}``; whether the brace that was just read closes such a one."""
    start = len(done) - 2
    while start > 0 and done[start].text != "{":
        start -= 1
    if start <= 0 or done[start].is_word or not done[start - 1].is_word:
        return False
    name, content = done[start - 1], done[start + 1 : -1]
    held = any(token.is_word and VALUE in token.text for token in content)
    inside = VALUE if held else "".join(token.text for token in content)
    raw = "".join(token.raw for token in done[start - 1 :])
    done[start - 1 :] = [_Token(True, f"{name.text}{{{inside}}}", raw)]
    return True


def _joined(tokens: Sequence[_Token]) -> _Token:
    return _Token(True, VALUE, "".join(token.raw for token in tokens))
