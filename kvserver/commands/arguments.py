"""Arguments that many commands share, with the error texts that Redis gives for wrong ones."""

from __future__ import annotations

from typing import Final

from kvserver.errors import CommandError
from kvserver.numbers import parse_int

NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_A_FLOAT: Final = "ERR value is not a valid float"
SYNTAX_ERROR: Final = "ERR syntax error"
TOO_LONG: Final = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
NO_SUCH_KEY: Final = "ERR no such key"


def integer_argument(raw: bytes, error: str = NOT_AN_INTEGER) -> int:
    """Return the 64-bit integer that ``raw`` spells; raises CommandError with ``error``."""
    value = parse_int(raw)
    if value is None:
        raise CommandError(error)
    return value
