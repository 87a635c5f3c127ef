r"""The store as a file a person can read, written and read as a stream; no server, no sockets.

::

    {"format": "kvstore/1", "keys": {
    "block_123": {"type": "summary", "value": {"count": 20, …}},
    "greeting": {"type": "string", "value": "hello", "expires_at": "2026-12-01T00:00:00Z"},
    "logo": {"type": "string", "value": {"base64": "iVBORw…"}},
    "key \xff": {"key": {"base64": "a2V5IP8="}, "type": "string", "value": ""}
    }}

Bytes that are not UTF-8 appear as ``{"base64": …}``; a key of such bytes is listed under a readable
name and carries its real one in ``key``. The older form ``{"cache": {key: value}, "ttl": {key:
epoch seconds}}`` is read too.

Guarantees: memory holds one entry at a time, never the file; an entry is read whole and checked
before it is handed out; what is wrong is told with its line. JSON is not a streaming format, but
this shape is: names and values are decoded one by one by the standard decoder as they arrive.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final, Literal, TypeAlias

from kvclient.errors import SnapshotError
from parser.isotime import format_time_ms, parse_time_ms
from parser.summary import SummaryError, pack
from parser.summaryjson import from_json

__all__ = ["Deadline", "Entry", "Item", "entry_lines", "read_snapshot"]

FORMAT: Final = "kvstore/1"
CHUNK_CHARS: Final = 256 * 1024
MAX_ENTRY_CHARS: Final = 1 << 30
"""More than any value the server takes, so that a file without an end is noticed at last."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key and all that is known of it."""

    key: bytes
    kind: Literal["string", "summary"]
    value: bytes
    """A string's bytes; a summary as it was read from the server (JSON text) or, from a file,
    packed."""
    deadline_ms: int | None = None
    older: bool = field(default=False, compare=False)
    """From the older form: whether its time is over is told by a `Deadline`, which comes later."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time to live that comes apart from its key, in the older form."""

    key: bytes
    deadline_ms: int


Item: TypeAlias = Entry | Deadline


# --------------------------------------------------------------------------------------- writing


def entry_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the file's text piece by piece. A summary's value must be its JSON text."""
    yield f'{{"format": "{FORMAT}", "keys": {{'
    before = "\n"
    for entry in entries:
        yield before + _entry_text(entry)
        before = ",\n"
    yield "\n}}\n"


def _entry_text(entry: Entry) -> str:
    parts: list[str] = []
    try:
        name = entry.key.decode("utf-8")
    except UnicodeDecodeError:
        name = entry.key.decode("utf-8", "backslashreplace")
        parts.append(f'"key": {_text_of(entry.key)}')
    value = entry.value.decode("utf-8") if entry.kind == "summary" else _text_of(entry.value)
    parts += (f'"type": "{entry.kind}"', f'"value": {value}')
    if entry.deadline_ms is not None:
        parts.append(f'"expires_at": "{format_time_ms(entry.deadline_ms)}"')
    return f"{json.dumps(name, ensure_ascii=False)}: {{{', '.join(parts)}}}"


def _text_of(data: bytes) -> str:
    try:
        return json.dumps(data.decode("utf-8"), ensure_ascii=False)
    except UnicodeDecodeError:
        return f'{{"base64": "{base64.b64encode(data).decode("ascii")}"}}'


# --------------------------------------------------------------------------------------- reading


def read_snapshot(file: IO[str]) -> Iterator[Item]:
    """Yield what the file holds. Raises SnapshotError with the line of what is wrong.

    Entries come out before the rest of the file was looked at: whoever must not act on half a file
    reads it twice.
    """
    text = _Text(file)
    try:
        yield from _read(text)
    except UnicodeDecodeError as error:
        raise SnapshotError(f"after line {text.line}: not UTF-8 text") from error


def _read(text: _Text) -> Iterator[Item]:
    if text.peek() != "{":
        raise text.wrong("a snapshot is a JSON object")
    seen: set[str] = set()
    for name in text.members():
        if name in seen:
            raise text.wrong(f"{name!r} is there twice")
        seen.add(name)
        if name == "format":
            _check_format(text)
        elif name == "keys":
            for key in _section(text, name):
                yield _entry(text, key, text.value())
        elif name == "cache":
            for key in _section(text, name):
                yield Entry(_bytes(key), "string", _old_value(text.value()), older=True)
        elif name == "ttl":
            for key in _section(text, name):
                deadline_ms = _old_deadline(text, key, text.value())
                if deadline_ms is not None and "cache" not in seen:
                    raise text.wrong("ttl comes before the keys it is about")
                if deadline_ms is not None:
                    yield Deadline(_bytes(key), deadline_ms)
        else:
            raise text.wrong(f"a snapshot has no part {name!r}")
    if "keys" not in seen and "cache" not in seen:
        raise text.wrong("neither keys nor cache in it")
    if "keys" in seen and "format" not in seen:
        raise text.wrong(f"no format in it; expected {FORMAT!r}")
    text.end()


def _section(text: _Text, name: str) -> Iterator[str]:
    if text.peek() != "{":
        raise text.wrong(f"{name} must be an object")
    return text.members()


def _check_format(text: _Text) -> None:
    found = text.value()
    if found == FORMAT:
        return
    if isinstance(found, str) and re.fullmatch(r"kvstore/\d+", found, re.ASCII):
        raise text.wrong(f"format {found} is newer than this program, which reads {FORMAT}")
    raise text.wrong(f"format {found!r} is not {FORMAT!r}")


def _entry(text: _Text, name: str, value: Any) -> Entry:
    def wrong(what: str) -> SnapshotError:
        return text.wrong(f"key {name!r}: {what}")

    if not isinstance(value, dict):
        raise wrong("expected an object with type and value")
    unknown = value.keys() - {"key", "type", "value", "expires_at"}
    if unknown:
        raise wrong(f"unknown field {min(unknown)!r}")
    if "value" not in value:
        raise wrong("no value")
    try:
        key = _data(value["key"]) if "key" in value else _bytes(name)
        deadline_ms = _deadline(value.get("expires_at"))
        kind = value.get("type")
        if kind == "string":
            return Entry(key, "string", _data(value["value"]), deadline_ms)
        if kind == "summary":
            return Entry(key, "summary", pack(from_json(value["value"])), deadline_ms)
    except (ValueError, SummaryError) as error:
        raise wrong(str(error)) from error
    raise wrong(f"type {kind!r} is neither string nor summary")


def _data(value: Any) -> bytes:
    if isinstance(value, str):
        return _bytes(value)
    if isinstance(value, dict) and value.keys() == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from error
    raise ValueError('expected text or {"base64": …}')


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _deadline(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return parse_time_ms(value)
    except (ValueError, TypeError):
        raise ValueError("expires_at is a time such as 2026-12-01T00:00:00Z") from None


def _old_value(value: Any) -> bytes:
    return _bytes(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _old_deadline(text: _Text, key: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**43:
        raise text.wrong(f"ttl of {key!r}: expected seconds since 1970")
    return round(value * 1000)


class _Text:
    """Text that arrives in chunks, read one JSON value at a time."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._buffer = ""
        self._at = 0
        self._chunk_chars = CHUNK_CHARS
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode
        self.line = 1

    def wrong(self, what: str) -> SnapshotError:
        line = self.line + self._buffer.count("\n", 0, self._at)
        return SnapshotError(f"line {line}: {what}")

    def peek(self) -> str:
        """Return the next character that is no space, "" at the end."""
        while True:
            space = _SPACE.match(self._buffer, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def members(self) -> Iterator[str]:
        """Yield the names of an object's members; the caller takes each value before the next."""
        self._take("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                raise self.wrong("expected a name in quotes")
            name = self.value()
            self._take(":")
            yield name
            if self.peek() == "}":
                self._at += 1
                return
            self._take(",")

    def value(self) -> Any:
        """Return the next value, whole."""
        self.peek()
        wanted = self._chunk_chars
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                whole = len(self._buffer) - error.pos > 8 and "Unterminated" not in error.msg
                if whole or not self._more(wanted):
                    raise self.wrong(f"not JSON: {error.msg}") from error
            except RecursionError as error:
                raise self.wrong("nested too deep") from error
            else:
                # A number may go on in the next chunk: what is here may end in "." or "e+".
                if len(self._buffer) - end > len("e+") or not self._more(wanted):
                    self._at = end
                    return value
            if len(self._buffer) - self._at > MAX_ENTRY_CHARS:
                raise self.wrong("a value without an end")
            wanted *= 2  # so that a long value is not decoded again for each small piece

    def end(self) -> None:
        if self.peek():
            raise self.wrong("something follows the snapshot")

    def _take(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise self.wrong(f"expected {character!r}, found {found or 'the end of the file'!r}")
        self._at += 1

    def _more(self, chars: int = 0) -> bool:
        """Read on, dropping what was used; False at the end."""
        if self._ended:
            return False
        chunk = self._file.read(max(chars, self._chunk_chars))
        if not chunk:
            self._ended = True
            return False
        self.line += self._buffer.count("\n", 0, self._at)
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        return True


_SPACE: Final = re.compile(r"[ \t\r\n]*")
