"""Everything a generated kernel calls, under one roof: it does ``from … import *``."""

from __future__ import annotations

from parser.extract import MAX_LINE_BYTES
from parser.kernel import memory as _memory
from parser.kernel.lines import *  # noqa: F403
from parser.kernel.memory import *  # noqa: F403
from parser.kernel.ops import *  # noqa: F403
from parser.kernel.packing import *  # noqa: F403
from parser.kernel.scan import *  # noqa: F403
from parser.kernel.tables import *  # noqa: F403
from parser.patterns import MAX_MESSAGE_BYTES

globals().update({name: value for name, value in vars(_memory).items() if name.isupper()})
NO_TIME = -(2**63)


@compiled  # noqa: F405
def window_of(stride):
    """How many bytes of text bitmaps of that size cover."""
    return ((stride >> 3) - 2) << 6
