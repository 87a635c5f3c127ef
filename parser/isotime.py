"""Moments as people and other programs write them: ISO-8601, in UTC.

Of the ground floor. How logs write theirs is the business of ``times``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["format_time_ms", "parse_time_ms"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def format_time_ms(ms: int) -> str:
    """Return epoch milliseconds as ISO-8601 in UTC, with milliseconds only when there are any."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    text = text.rjust(19, "0")  # strftime does not pad the year everywhere
    return f"{text}.{ms % 1000:03d}Z" if ms % 1000 else f"{text}Z"


def parse_time_ms(text: str) -> int:
    """Return ISO-8601 text as epoch milliseconds; without a zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)
