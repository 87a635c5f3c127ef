"""What to make of the groups in which errors leave a nursery."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["only_of", "unwrapped"]

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
