"""What can go wrong while reading logs, said so that a person can act on it.

Bad *input lines* are never errors: they are counted. These are mistakes in what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = [
    "FilterError",
    "FormatError",
    "LayoutError",
    "ParserError",
    "PatternError",
    "SourceError",
    "TimeFormatError",
    "UnreadableError",
    "only_of",
    "reason_of",
    "unwrapped",
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


_Error = TypeVar("_Error", bound=BaseException)


def only_of(group: BaseExceptionGroup[BaseException], kind: type[_Error]) -> _Error | None:
    """Return the first error in a group if all in it are of that kind, else None."""
    matched, rest = group.split(kind)
    if matched is None or rest is not None:
        return None
    error: BaseException = matched
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, kind)
    return error


@contextmanager
def unwrapped(kind: type[BaseException]) -> Iterator[None]:
    """Let a group of nothing but errors of that kind leave as the first of them.

    An ``except*`` could say so, but what that raises is a group again before Python 3.11.4.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        error = only_of(group, kind)
        if error is None:
            raise
        raise error from None
