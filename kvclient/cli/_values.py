"""What people type for times: durations such as ``15m``, moments such as ``2h ago`` or ISO-8601."""

from __future__ import annotations

import re
import time
from typing import Final

import click

__all__ = ["duration", "duration_s", "moment", "moment_ms"]

_UNITS: Final = {
    "": 1.0,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw]?)", re.ASCII)
_LONGEST_S: Final = 100 * 365.25 * 86400


def duration_s(text: str) -> float:
    """Read ``90``, ``90s``, ``15m``, ``1h30m``, ``7d`` as seconds. Raises ValueError."""
    at, total = 0, 0.0
    text = text.strip()
    while at < len(text):
        part = _DURATION.match(text, at)
        if part is None:
            break
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if not text or at < len(text):
        raise ValueError("a time is a number of seconds, or such as 90s 15m 2h 7d")
    if not 0 < total <= _LONGEST_S:
        raise ValueError("a time must be more than 0 and less than 100 years")
    return total


def moment_ms(text: str, now_s: float) -> int:
    """Read ISO-8601, ``15m`` or ``15m ago``, ``now`` or epoch seconds as epoch ms."""
    text = text.strip()
    if text == "now":
        return round(now_s * 1000)
    ago = text.removesuffix("ago").strip()
    if ago[-1:] in tuple("smhdw"):
        return round((now_s - duration_s(ago)) * 1000)
    if re.fullmatch(r"\d{9,11}(\.\d+)?", text, re.ASCII):
        return round(float(text) * 1000)
    if re.fullmatch(r"\d{12,14}", text, re.ASCII):
        return int(text)
    from parser.isotime import parse_time_ms

    try:
        return parse_time_ms(text)
    except ValueError:
        raise ValueError("a moment is ISO-8601, epoch seconds, or such as 15m, 2h ago") from None


def duration(text: str) -> float:
    """Option type: seconds."""
    try:
        return duration_s(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from error


def moment(text: str) -> int:
    """Option type: epoch milliseconds."""
    try:
        return moment_ms(text, time.time())
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from error
