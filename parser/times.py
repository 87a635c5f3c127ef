"""Times of log lines: ``%strptime`` texts compiled, zones, and years that a log leaves out.

Guarantees: a text either gives one moment in UTC, in whole milliseconds (a finer fraction is cut),
or ``None``; nothing is guessed from the machine's clock or locale. A number in a field must be a
number of that field (no 30th of February); a second may be 60.

The directives, each matched without looking back:

==================  ==============================================================
``%Y %y %j``        exactly 4, 2, 3 digits (``%y``: 69-99 are 1969-1999)
``%m %d %e``        one or two digits
``%H %k %I %M %S``  one or two digits; ``%I`` goes with ``%p`` (AM or PM)
``%b %B %h``        English month name, short, long, short; upper or lower case
``%a %A``           a word, ignored
``%f``              one to nine digits of a fraction
``%z``              ``Z``, ``+hh:mm``, ``+hhmm`` or ``+hh``
``%Z``              a word; ``UTC``, ``GMT`` and ``Z`` are obeyed, others ignored
``%s %Q``           epoch seconds, epoch milliseconds
``%D %F %T %R``     ``%m/%d/%y  %Y-%m-%d  %H:%M:%S  %H:%M``
``iso``             ``2008-11-09T20:35:18.123+01:00``; ``T`` or a space, fraction and zone optional
==================  ==============================================================

A space stands for one or more spaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from parser.errors import TimeFormatError

__all__ = [
    "MONTHS",
    "Clock",
    "TimeFormat",
    "compile_time",
    "guess_time",
    "zone_named",
]

MONTHS: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
_LONG_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAY_MS: Final = 86_400_000
_YEAR_SLACK_MS: Final = _DAY_MS
"""How far a year-less time may lie after the file's modification: clocks and zones differ."""

_TWO: Final = r"(?:[0-9]{2}|[0-9](?![0-9]))"
_ZONE: Final = r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2}|(?!:?[0-9]{2})))"
_DIRECTIVES: Final[Mapping[str, str]] = {
    "Y": r"[0-9]{4}", "y": r"[0-9]{2}", "j": r"[0-9]{3}",
    "m": _TWO, "d": _TWO, "H": _TWO, "I": _TWO, "M": _TWO, "S": _TWO,
    "b": "(?i:" + "|".join(MONTHS) + ")",
    "B": "(?i:" + "|".join(sorted(_LONG_MONTHS, key=len, reverse=True)) + ")",
    "a": r"[A-Za-z]++", "p": r"(?i:am|pm)",
    "f": r"[0-9]{1,9}(?![0-9])",
    "z": _ZONE,
    "Z": r"[A-Za-z]++",
    "s": r"[0-9]{1,12}(?![0-9])", "Q": r"[0-9]{1,15}(?![0-9])",
    "T?": r"[T ]",  # of iso only
    "f?": r"(?:[.,][0-9]{1,9}(?![0-9])|(?![.,][0-9]{1,9}(?![0-9])))",
    "z?": rf"(?:{_ZONE}|(?!Z|[+-][0-9]{{2}}))",
}  # fmt: skip
_SAME: Final = {"e": "d", "k": "H", "h": "b", "A": "a", "L": "f"}
_WHOLE: Final = {"D": "%m/%d/%y", "F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M"}
_ISO: Final = ("Y", b"-", "m", b"-", "d", "T?", "H", b":", "M", b":", "S", "f?", "z?")


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """A compiled ``%strptime`` text: its steps (a str is a directive, bytes are literal)."""

    text: str
    steps: tuple[str | bytes, ...]

    @property
    def pattern(self) -> str:
        """A regular expression, without groups, of what has the shape of this time."""
        return "".join(
            _DIRECTIVES[step] if isinstance(step, str) else _literal_pattern(step)
            for step in self.steps
        )

    def read(self, text: bytes, parts: dict[str, int]) -> bool:
        """Add what the text says to the parts (directive -> number); False when it cannot be."""
        found = _grouped(self).fullmatch(text)
        if found is None:
            return False
        directives = [step for step in self.steps if isinstance(step, str)]
        for directive, word in zip(directives, found.groups(), strict=True):
            if not _read_directive(directive, word.decode("ascii"), parts):
                return False
        return True


@lru_cache(maxsize=256)
def _grouped(form: TimeFormat) -> re.Pattern[bytes]:
    pattern = "".join(
        f"({_DIRECTIVES[step]})" if isinstance(step, str) else _literal_pattern(step)
        for step in form.steps
    )
    return re.compile(pattern.encode("latin-1"))


def _literal_pattern(text: bytes) -> str:
    return re.sub(r"(?:\\ )+", " ++", re.escape(text.decode("latin-1")))


@lru_cache(maxsize=256)
def compile_time(text: str) -> TimeFormat:
    """Compile a ``%strptime`` text, or ``iso``. Raises TimeFormatError."""
    if text in {"iso", "iso8601"}:
        return TimeFormat(text, _ISO)
    named = {"epoch": "%s", "epoch_ms": "%Q"}.get(text, text)
    for letter, whole in _WHOLE.items():
        named = named.replace(f"%{letter}", whole)
    steps: list[str | bytes] = []
    literal = b""
    rest = iter(named)
    for char in rest:
        if char != "%":
            literal += char.encode("utf-8")
            continue
        letter = next(rest, "")
        if letter == "%":
            literal += b"%"
            continue
        letter = _SAME.get(letter, letter) if letter != "B" else "B"
        if letter not in _DIRECTIVES:
            raise TimeFormatError(f"%{letter} is not a directive of a time (in {text!r})")
        if literal:
            steps.append(literal)
            literal = b""
        steps.append(letter)
    if literal:
        steps.append(literal)
    if not any(isinstance(step, str) for step in steps):
        raise TimeFormatError(f"no directive in the time {text!r}")
    return TimeFormat(text, tuple(steps))


def _read_directive(directive: str, word: str, parts: dict[str, int]) -> bool:
    match directive:
        case "Y" | "j" | "m" | "d" | "H" | "I" | "M" | "S" | "s" | "Q":
            parts[directive] = int(word)
        case "y":
            parts["Y"] = int(word) + (1900 if int(word) >= 69 else 2000)
        case "b" | "B":
            parts["m"] = MONTHS.index(word[:3].lower()) + 1
        case "p":
            parts["p"] = int(word.lower() == "pm")
        case "f" | "f?":
            if word:
                parts["f"] = int(word.lstrip(".,")[:3].ljust(3, "0"))
        case "z" | "z?":
            return not word or _read_zone(word, parts)
        case "Z":
            if word.upper() in {"UTC", "GMT", "Z"}:
                parts["z"] = 0
    return True


def _read_zone(word: str, parts: dict[str, int]) -> bool:
    if word == "Z":
        parts["z"] = 0
        return True
    digits = word[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        return False
    parts["z"] = (hours * 3600 + minutes * 60) * (-1 if word[0] == "-" else 1)
    return True


class Clock:
    """Turns the parts of a time into epoch milliseconds, by one zone and one latest moment."""

    def __init__(self, zone: tzinfo = UTC, latest_ms: int | None = None) -> None:
        """Unzoned times are of the zone; year-less ones do not lie after the latest moment."""
        self.local = ZoneTable(zone)
        self.latest_ms = latest_ms if latest_ms is not None else _MAX_MS
        limit = self.latest_ms + _YEAR_SLACK_MS
        self.limit_ms = limit
        self.year = 1970 + limit // 31_556_952_000 + 1  # never too small, corrected below
        while _days(self.year, 1, 1) * _DAY_MS > limit + _DAY_MS:
            self.year -= 1

    def moment(self, parts: Mapping[str, int]) -> tuple[int | None, bool]:
        """Return (epoch ms or None when the parts hold no date, whether the parts can be)."""
        if "Q" in parts:
            return parts["Q"], True
        fraction = parts.get("f", 0)
        if "s" in parts:
            return parts["s"] * 1000 + fraction, True
        hour, minute, second = parts.get("H", 0), parts.get("M", 0), parts.get("S", 0)
        if "I" in parts:
            if not 1 <= parts["I"] <= 12:
                return None, False
            hour = parts["I"] % 12 + 12 * parts.get("p", 0)
        if hour > 23 or minute > 59 or second > 60:
            return None, False
        in_day = (hour * 3600 + minute * 60 + second) * 1000 + fraction
        if "j" in parts:
            month, day = 1, parts["j"]
            if not 1 <= day <= 366 or "Y" not in parts:
                return None, "Y" not in parts
        elif "m" in parts and "d" in parts:
            month, day = parts["m"], parts["d"]
            if not (1 <= month <= 12 and 1 <= day <= _DAYS[month - 1]):
                return None, False
        else:
            return None, True
        if "Y" in parts:
            year = parts["Y"]
            if year < 1 or (month == 2 and day == 29 and not _leap(year)):
                return None, False
            return self._utc(_days(year, month, day) * _DAY_MS + in_day, parts), True
        return self._yearless(month, day, in_day, parts), True

    def _yearless(self, month: int, day: int, in_day: int, parts: Mapping[str, int]) -> int:
        year = self.year
        while True:
            if not (month == 2 and day == 29) or _leap(year):
                moment = self._utc(_days(year, month, day) * _DAY_MS + in_day, parts)
                if moment <= self.limit_ms:
                    return moment
            year -= 1

    def _utc(self, local_ms: int, parts: Mapping[str, int]) -> int:
        offset = parts.get("z")
        offset_ms = self.local.offset_ms(local_ms) if offset is None else offset * 1000
        return max(_MIN_MS, min(local_ms - offset_ms, _MAX_MS))


_MIN_MS: Final = -62_135_596_800_000
_MAX_MS: Final = 253_402_300_799_999


def _leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date of the Gregorian calendar, also before the year 1."""
    shifted = year - (month <= 2)
    era, of_era = divmod(shifted, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


class ZoneTable:
    """The offsets of one zone as a function of local time: where they change, from 1970 to 2069.

    Before and after, the first and the last offset hold. A local time that occurs twice is the
    first of the two. Arrays rather than a tzinfo, so that compiled code can use them too.
    """

    def __init__(self, zone: tzinfo) -> None:
        """Look for every change of the zone's offset."""
        self.since_ms: list[int] = [_MIN_MS]
        self.offsets_ms: list[int] = [_offset_ms(zone, 0)]
        if zone is UTC or isinstance(zone, timezone):
            return
        week = 7 * _DAY_MS
        for start in range(0, 100 * 365 * _DAY_MS, week):
            low, high = start, start + week
            if _offset_ms(zone, high) == self.offsets_ms[-1]:
                continue
            while high - low > 1000:
                middle = (low + high) // 2000 * 1000
                if _offset_ms(zone, middle) == self.offsets_ms[-1]:
                    low = middle
                else:
                    high = middle
            self.since_ms.append(high)
            self.offsets_ms.append(_offset_ms(zone, high))

    def offset_ms(self, local_ms: int) -> int:
        """Return how far local time is ahead of UTC."""
        if len(self.since_ms) == 1:
            return self.offsets_ms[0]
        low, high = 0, len(self.since_ms)
        while high - low > 1:
            middle = (low + high) // 2
            if self.since_ms[middle] <= local_ms:
                low = middle
            else:
                high = middle
        return self.offsets_ms[low]


def _offset_ms(zone: tzinfo, local_ms: int) -> int:
    moment = datetime(1970, 1, 1) + timedelta(milliseconds=local_ms)  # noqa: DTZ001  # it is local
    offset = zone.utcoffset(moment.replace(tzinfo=zone))
    return 0 if offset is None else offset // timedelta(milliseconds=1)


def zone_named(name: str) -> tzinfo:
    """Return the zone of ``UTC``, ``+02:00`` or ``Europe/Berlin``. Raises TimeFormatError."""
    if name.upper() in {"UTC", "Z", "GMT"}:
        return UTC
    parts: dict[str, int] = {}
    if re.fullmatch(_DIRECTIVES["z"], name) and _read_zone(name, parts):
        return timezone(timedelta(seconds=parts["z"]))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise TimeFormatError(
            f"no time zone {name!r}: give UTC, +02:00 or a name such as Europe/Berlin"
        ) from error


_GUESSES: Final = tuple(
    compile_time(text)
    for text in (
        "iso",
        "%d/%b/%Y:%H:%M:%S %z",
        "%b %d %H:%M:%S",
        "%a %b %d %H:%M:%S %Y",
        "%a, %d %b %Y %H:%M:%S %z",
        "%a, %d %b %Y %H:%M:%S %Z",
        "%Y/%m/%d %H:%M:%S",
        "%Y-%m-%d",
        "%y/%m/%d %H:%M:%S",
    )
)
_NUMBER: Final = re.compile(rb"([0-9]{1,19})(?:\.([0-9]{1,9})[0-9]*)?")


def guess_time(text: bytes, clock: Clock) -> int | None:
    """Read a time in one of the usual ways; a number is epoch s, ms, µs or ns by its size."""
    number = _NUMBER.fullmatch(text)
    if number:
        value = int(number[1])
        if value < 100_000_000_000:
            fraction = (number[2] or b"0")[:3].ljust(3, b"0")
            return value * 1000 + int(fraction)
        while value >= 100_000_000_000_000:
            value //= 1000
        return value
    for form in _GUESSES:
        parts: dict[str, int] = {}
        if form.read(text, parts):
            moment, valid = clock.moment(parts)
            if valid and moment is not None:
                return moment
    return None
