"""What can go wrong while reading logs, said so that a person can act on it.

Bad *input lines* are never errors: they are counted. These are mistakes in what was asked for.
"""

from __future__ import annotations

__all__ = [
    "FilterError",
    "FormatError",
    "LayoutError",
    "ParserError",
    "PatternError",
    "SourceError",
    "TimeFormatError",
    "UnreadableError",
    "reason_of",
]


class ParserError(Exception):
    """Base of everything this package raises on purpose."""


class LayoutError(ParserError, ValueError):
    """A layout or a key rule that cannot be understood."""


class TimeFormatError(LayoutError):
    """A ``%strptime`` text with a directive that is not known, or a time zone that is not."""


class FormatError(ParserError, ValueError):
    """An unknown format, or a formats file with a mistake in it."""


class SourceError(ParserError):
    """A source that cannot be read."""


class UnreadableError(SourceError, OSError):
    """A file that was opened, and then could not be read: a broken disk, a share that went away."""


class PatternError(ParserError, ValueError):
    """A pattern to search for that is not a regular expression."""


class FilterError(ParserError, ValueError):
    """A filter that cannot be understood: a time, a level, a ``field=value``."""


def reason_of(error: OSError) -> str:
    """Say what the system said, as a part of a sentence."""
    return (error.strerror or str(error)).lower()
