"""What is large goes to the journal before the command that brings it takes effect, in pieces.

A SET of 16 MB in one step is 10 to 60 ms in which nobody else is served, nearly all of it the
journal's. Written ahead (see ``journal.staging``) it is many steps of a fraction of a millisecond
between the commands of others, and when the command runs, its record only names what is there.
Nobody has to wait for it, as nothing has changed until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

from kvserver.commands.table import NEXT_TURN, Reply, Work, completed
from kvserver.journal.staging import PIECE_BYTES
from kvserver.longstring import LongString, String

if TYPE_CHECKING:
    from kvserver.journal.staging import Stage
    from kvserver.journal.writer import Journal
    from kvserver.session import Session

__all__ = ["LARGE_BYTES", "ahead", "large_ones"]

_S = TypeVar("_S", bound=String)

LARGE_BYTES: Final = 1 << 17
"""What brings more bytes is large."""
_LEAST_BYTES: Final = 1 << 12
"""What is shorter costs less in the record of the command."""


def ahead(session: Session, values: Iterable[String], then: Callable[[], Reply]) -> Reply:
    """Return what ``then`` does, called once ``values`` are in the journal, if they are large.

    Only effects with one of these very objects in them name what was written; whatever else
    ``then`` makes is written with them, as ever.
    """
    journal: Journal | None = session.engine.journal
    if journal is None or journal.readonly_reason is not None:
        return then()
    if session.engine.isolation.in_transaction(session):
        return then()  # nobody comes between, so there is nothing to be gained
    large = large_ones(values)
    if sum(map(len, large)) <= LARGE_BYTES:
        return then()
    return _ahead(session, journal, large, then)


def large_ones(values: Iterable[_S]) -> list[_S]:
    """Return those of the values that are worth to be written ahead, if anything is."""
    return [value for value in values if len(value) >= _LEAST_BYTES]


def _ahead(
    session: Session, journal: Journal, values: list[String], then: Callable[[], Reply]
) -> Work:
    stages: list[Stage] = []
    session.about["ahead"] = True
    try:
        for value in values:
            while not journal.may_stage(session):
                yield NEXT_TURN
            stage = journal.staging.begin(session)
            stages.append(stage)
            for piece in _pieces(value):
                stage.write(piece)
                yield None
            stage.stands_for(value)
        session.about.pop("ahead")
        if session.suspended_since is not None:
            # A long write that is isolated may have begun meanwhile: nothing was written yet.
            command, args, _ = session.suspended_since
            yield from session.engine.isolation.let_by(session, command, args)
        return (yield from completed(then()))
    finally:
        session.about.pop("ahead", None)
        for stage in stages:
            stage.release()


def _pieces(value: String) -> Iterator[bytes | memoryview]:
    if isinstance(value, LongString):
        blocks, many = value.blocks, PIECE_BYTES // len(value.blocks[0])
        for start in range(0, len(blocks), many):
            yield b"".join(blocks[start : start + many])
        return
    with memoryview(value) as view:
        for start in range(0, len(view), PIECE_BYTES):
            yield view[start : start + PIECE_BYTES]
