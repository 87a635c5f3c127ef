"""Many keys of a dict at once, so that the processor waits for several of them at a time.

A key that nobody used lately costs four misses of the cache: the dict's index, its entry, the key,
the value. Each needs the one before, but those of the next key do not, and a processor that already
sees the next look-up begins it meanwhile. It sees a few hundred instructions ahead, so the loop
must be tight: every key hashed beforehand, and one C function around all look-ups. Nanoseconds a
key among a million keys, for sixteen and more at a time:

==================================  ========  =================
to look up                          all there  63 % of them there
==================================  ========  =================
``map(data.get, keys)``                   680        370
hashed beforehand                         425        270
hashed, and ``itemgetter``                380        325
==================================  ========  =================

==================================  ========  =================
to store                            all there  60 % of them there
==================================  ========  =================
``data.update(zip(keys, values))``        765        650
hashed beforehand                         640        520
hashed, and looked up before              545        520
==================================  ========  =================

Among 10,000 keys, which the cache holds, all of them cost about the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from kvserver.values import Value

__all__ = ["look_up", "store"]

_CACHED_KEYS: Final = 1 << 14
"""Of so few, looking a key up before it is stored gains nothing; a measured dict does so itself."""


def look_up(
    data: dict[bytes, Any], keys: tuple[bytes, ...], *, expect_gaps: bool
) -> tuple[Any, ...] | list[Any]:
    """Return the values of two keys or more, in their order: a tuple, or a list with None in it.

    (Or with an empty value in it.) ``expect_gaps`` says that some of the keys may be missing: that
    costs less when it is known.
    """
    hash(keys)  # each key keeps its hash
    if not expect_gaps and (values := _of_all(data, keys)) is not None:
        return values
    found = list(map(data.get, keys))
    return tuple(found) if all(found) else found


def store(data: dict[bytes, Value], keys: Sequence[bytes], values: Sequence[bytes]) -> None:
    """Make each value that of its key; of a key that is named twice, the last one."""
    keys = tuple(keys)
    hash(keys)
    worth_it = len(keys) > 1 and len(data) > _CACHED_KEYS and type(data) is dict
    before = _of_all(data, keys) if worth_it else None
    data.update(zip(keys, values, strict=True))
    del before  # what nobody else has goes in one loop


def _of_all(data: dict[bytes, Any], keys: tuple[bytes, ...]) -> tuple[Any, ...] | None:
    """Return the values of two keys or more, which were hashed; None when a key is missing."""
    try:
        values: tuple[Any, ...] = itemgetter(*keys)(data)
    except KeyError:
        return None
    return values
