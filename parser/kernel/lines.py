"""Parts of lines that take more than a flag: addresses, structured data, times, continuations."""

# ruff: noqa: PLR0917 - compiled functions take positional arguments only

from __future__ import annotations

from parser.kernel.memory import (
    AT_START,
    CLASS_TABLE,
    HEX_OR_COLON,
    LETTER,
    LIMIT_MS,
    WORD_BYTE,
    YEAR,
    ZONE,
    ZONE_COUNT,
)
from parser.kernel.ops import compiled, ld8, ld32, ld64, shr

_DAY_MS = 86_400_000
_MIN_MS = -62_135_596_800_000
_MAX_MS = 253_402_300_799_999


@compiled
def skip_spaces(text: int, at: int, end: int) -> int:
    """The first position from `at` that holds no space."""
    while at < end and ld8(text + at) == 32:
        at += 1
    return at


@compiled
def skip_letters(text: int, at: int) -> int:
    """The first position from `at` that holds no ASCII letter."""
    while 97 <= ld8(text + at) | 32 <= 122:
        at += 1
    return at


@compiled
def is_utc(text: int, size: int) -> bool:
    """Whether the word is UTC, GMT or Z."""
    if size == 1:
        return ld8(text) | 32 == 122
    if size != 3:
        return False
    word = (ld32(text) | 0x202020) & 0xFFFFFF
    return word in (0x637475, 0x746D67)


@compiled
def trimmed(text: int, start: int, stop: int) -> int:
    """Where the line ends without the spaces, tabs and carriage returns at its end."""
    while stop > start and ld8(text + stop - 1) in (32, 13, 9):
        stop -= 1
    return stop


@compiled
def after_mark(a: int, text: int, start: int) -> int:
    """Where the text begins, behind a byte order mark if it is the start of the source."""
    if ld64(a + AT_START) != 0 and ld32(text + start) & 0xFFFFFF == 0xBFBBEF:
        return start + 3
    return start


@compiled
def skip_zeros(text: int, start: int, stop: int) -> int:
    """Where the line begins, behind the zeros that a truncated file can leave."""
    while start < stop and ld8(text + start) == 0:
        start += 1
    return start


@compiled
def find_newline(text: int, at: int, end: int) -> int:
    """Where the next line break is."""
    while at < end and ld8(text + at) != 10:
        at += 1
    return at


@compiled
def valid_value(text: int, size: int) -> bool:
    """Whether a field's text can be a key."""
    return size > 0 and size <= 255 and not (size == 1 and ld8(text) == 45)


@compiled
def scan_ip(a: int, text: int, at: int, end: int) -> int:
    """The end of an address that begins at `at`; -1 when there is none."""
    table = ld64(a + CLASS_TABLE)
    if at >= end or not ld8(table + ld8(text + at)) & HEX_OR_COLON:
        return -1
    place = at
    group = 0
    while True:
        digits = 0
        while place < end and digits < 3 and 48 <= ld8(text + place) <= 57:
            digits += 1
            place += 1
        if digits == 0:
            break
        group += 1
        if group == 4:
            return place
        if place >= end or ld8(text + place) != 46:
            break
        place += 1
    stop = at
    double = False
    groups = 0
    size = 0
    while stop < end:
        byte = ld8(text + stop)
        if not ld8(table + byte) & HEX_OR_COLON:
            break
        if byte == 58:
            if stop > at and ld8(text + stop - 1) == 58:
                double = True
            groups = groups + 1 if groups >= 0 and 1 <= size <= 4 else -99
            size = 0
            if groups == 7:
                # Seven groups lead: what follows is an address as well, however it goes on, if
                # at least one byte follows; the colon itself is already one.
                double = True
        else:
            size += 1
        stop += 1
    return stop if double else -1


@compiled
def scan_data(text: int, at: int, end: int) -> int:
    """The end of structured data (RFC 5424) that begins at `at`; -1 when there is none."""
    if at >= end:
        return -1
    if ld8(text + at) == 45:
        return at + 1
    found = -1
    while at < end and ld8(text + at) == 91:
        at += 1
        closed = False
        while at < end and not closed:
            byte = ld8(text + at)
            at += 1
            if byte == 93:
                closed = True
            elif byte == 34:
                quote = scan_quoted(text, at, end)
                if quote < 0:
                    return found
                at = quote + 1
        if not closed:
            return found
        found = at
    return found


@compiled
def scan_quoted(text: int, at: int, end: int) -> int:
    """Where the quotation that begins before `at` ends; -1 when it does not."""
    while at < end:
        byte = ld8(text + at)
        if byte == 34:
            return at
        at += 2 if byte == 92 else 1
    return -1


@compiled
def is_continuation(a: int, text: int, start: int, end: int) -> bool:
    """Whether a line (not empty, with its spaces at the end) continues the one before."""
    table = ld64(a + CLASS_TABLE)
    byte = ld8(text + start)
    if byte in (32, 9):
        at = start
        while at < end and ld8(text + at) in (32, 9):
            at += 1
        return at < end and ld8(text + at) != 13
    size = end - start
    if byte == 46:
        return (
            size >= 5
            and ld32(text + start) == 0x202E2E2E  # "... "
            and 48 <= ld8(text + start + 4) <= 57
        )
    if not ld8(table + byte) & LETTER:
        return False
    head, tail = 0x6220646573756143, 0x203A7962  # "Caused b"   # "by: "
    if size >= 11 and ld64(text + start) == head and ld32(text + start + 7) == tail:
        return True
    head, tail = 0x7373657270707553, 0x203A6465  # "Suppress"   # "ed: "
    if size >= 12 and ld64(text + start) == head and ld32(text + start + 8) == tail:
        return True
    head, tail = 0x6361626563617254, 0x28206B63  # "Tracebac"   # "ck ("
    if size >= 11 and ld64(text + start) == head and ld32(text + start + 7) == tail:
        return True
    at = start
    while at < end and ld8(table + ld8(text + at)) & WORD_BYTE:
        at += 1
    if at < end and ld8(text + at) not in (58, 13, 32):
        return False
    size = at - start
    if size > 5 and ld8(text + at - 5) == 69 and ld32(text + at - 4) == 0x726F7272:
        return True  # Error
    if size > 9 and ld8(text + at - 9) == 69 and ld64(text + at - 8) == 0x6E6F697470656378:
        return True  # Exception
    return (
        size > 9 and ld8(text + at - 9) == 84 and ld64(text + at - 8) == 0x656C6261776F7268
    )  # Throwable


# ------------------------------------------------------------------------------------------ times


@compiled
def days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date."""
    shifted = year - (1 if month <= 2 else 0)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@compiled
def is_leap(year: int) -> bool:
    """Whether the year has a 29th of February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


@compiled
def is_day(year: int, month: int, day: int) -> bool:
    """Whether there is such a day; year 0 for one that is left out."""
    if month < 1 or month > 12 or day < 1 or day > 31:
        return False
    if month == 2:
        return day <= 28 or (day == 29 and (year == 0 or is_leap(year)))
    return day <= 30 or month not in (4, 6, 9, 11)


@compiled
def zone_offset(a: int, local_ms: int) -> int:
    """How far local time is ahead of UTC."""
    since = ld64(a + ZONE)
    count = ld64(a + ZONE_COUNT)
    low, high = 0, count
    while high - low > 1:
        middle = shr(low + high, 1)
        if ld64(since + (middle << 3)) <= local_ms:
            low = middle
        else:
            high = middle
    return ld64(since + ((count + low) << 3))


@compiled
def in_range(moment: int) -> int:
    """The moment, or the nearest one there is."""
    return max(_MIN_MS, min(moment, _MAX_MS))


@compiled
def yearless(a: int, month: int, day: int, in_day: int, zoned: int, offset_ms: int) -> int:
    """The latest moment of such a date that does not lie too far after the file's time."""
    year = ld64(a + YEAR)
    limit = ld64(a + LIMIT_MS)
    while True:
        if month != 2 or day != 29 or is_leap(year):
            local = days(year, month, day) * _DAY_MS + in_day
            moment = in_range(local - (offset_ms if zoned else zone_offset(a, local)))
            if moment <= limit:
                return moment
        year -= 1


@compiled
def month_named(text: int) -> int:
    """The month whose first three letters these are; 0 when it is none."""
    name = (ld8(text) | 32) | (ld8(text + 1) | 32) << 8 | (ld8(text + 2) | 32) << 16
    names = (
        0x6E616A, 0x626566, 0x72616D, 0x727061, 0x79616D, 0x6E756A,
        0x6C756A, 0x677561, 0x706573, 0x74636F, 0x766F6E, 0x636564,
    )  # fmt: skip
    month = 0
    for at in range(12):
        if names[at] == name:
            month = at + 1
    return month


@compiled
def two_digits(text: int) -> int:
    """One or two digits: value * 4 + how many; 0 when there is none."""
    tens = ld8(text) - 48
    if tens < 0 or tens > 9:
        return 0
    ones = ld8(text + 1) - 48
    if ones < 0 or ones > 9:
        return tens * 4 + 1
    return (tens * 10 + ones) * 4 + 2


@compiled
def digits_run(text: int, most: int) -> int:
    """How many digits stand here, counted up to `most` + 1."""
    count = 0
    while count <= most and 48 <= ld8(text + count) <= 57:
        count += 1
    return count


@compiled
def number(text: int, count: int) -> int:
    """The number that so many digits are."""
    value = 0
    for at in range(count):
        value = value * 10 + ld8(text + at) - 48
    return value


@compiled
def milliseconds(text: int, count: int) -> int:
    """The milliseconds of a fraction of so many digits."""
    value = number(text, min(count, 3))
    for _ in range(count, 3):
        value *= 10
    return value


@compiled
def zone_size(text: int) -> int:
    """How long the zone is that stands here (Z, +hh, +hhmm, +hh:mm); 0 when there is none."""
    sign = ld8(text)
    if sign == 90:
        return 1
    if sign not in (43, 45) or digits_run(text + 1, 1) < 2:
        return 0
    if ld8(text + 3) == 58 and digits_run(text + 4, 1) == 2:
        return 6
    if digits_run(text + 3, 1) == 2:
        return 5
    return 3


@compiled
def zone_value(text: int, size: int) -> int:
    """The offset in ms of a zone of that size; a day and more when it cannot be."""
    if size == 1:
        return 0
    hours = number(text + 1, 2)
    minutes = 0 if size == 3 else number(text + size - 2, 2)
    if hours > 23 or minutes > 59:
        return _DAY_MS
    offset = (hours * 3600 + minutes * 60) * 1000
    return -offset if ld8(text) == 45 else offset
