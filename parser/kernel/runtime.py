"""Everything a generated kernel calls, under one roof: it does ``from … import *``.

So what is imported here and not used here is used there.
"""

from __future__ import annotations

from typing import Final

from parser.extract import MAX_LINE_BYTES  # noqa: F401 - for the generated kernel
from parser.kernel import memory as _memory
from parser.kernel.blocks import *  # noqa: F403 - all of it, for the same
from parser.kernel.keys import *  # noqa: F403 - all of it, for the same
from parser.kernel.lines import *  # noqa: F403 - all of it, for the same
from parser.kernel.memory import *  # noqa: F403 - all of it, for the same
from parser.kernel.ops import *  # noqa: F403 - all of it, for the same
from parser.kernel.packing import *  # noqa: F403 - all of it, for the same
from parser.kernel.scan import *  # noqa: F403 - all of it, for the same
from parser.kernel.tables import *  # noqa: F403 - all of it, for the same
from parser.patterns import MAX_MESSAGE_BYTES  # noqa: F401 - for the generated kernel

# The names of header words and statuses, which are too many to list twice.
globals().update({name: value for name, value in vars(_memory).items() if name.isupper()})
NO_TIME: Final = -(2**63)


@compiled  # noqa: F405 - of ops
def window_of(stride: int) -> int:
    """How many bytes of text bitmaps of that size cover."""
    return ((stride >> 3) - _memory.MAP_SPARE) << 6
