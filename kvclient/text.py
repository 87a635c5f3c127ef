"""Bytes and text as a terminal and JSON can hold them, whatever was in a log."""

from __future__ import annotations

from typing import Any

__all__ = ["bytes_as_json", "shown"]


def shown(value: str | bytes) -> str:
    r"""Return text that cannot harm a terminal: control characters and stray bytes as ``\xNN``."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    text = value.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, f"\\x{ord(character):02x}")


def bytes_as_json(data: bytes) -> Any:
    """Return bytes as JSON can hold them: text when they are UTF-8, else ``{"base64": …}``."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        import base64

        return {"base64": base64.b64encode(data).decode("ascii")}
