"""What a kernel cannot do; the interpreter can."""

from __future__ import annotations

from parser.errors import ParserError

__all__ = ["UnsupportedFormatError"]


class UnsupportedFormatError(ParserError):
    """A format for which no kernel is made: engine_for takes the interpreter then."""
