"""What the server says about itself: INFO for people and exporters of Redis, STATS as a map."""

from __future__ import annotations

from typing import Final

from kvserver import resp
from kvserver.commands.table import CommandTable
from kvserver.figures import info as info_text
from kvserver.figures import stats as all_figures
from kvserver.session import Session

TABLE: Final = CommandTable("server")


@TABLE.command("info", -1, "loading stale", complexity="O(1)")
def info(session: Session, args: list[bytes]) -> bytes:
    """Returns information and statistics about the server, by sections."""
    wanted = [raw.decode("ascii", "replace").lower() for raw in args[1:]]
    return resp.verbatim(session.resp, info_text(session.engine, wanted).encode())


@TABLE.command("stats", 1, "readonly loading stale", complexity="O(number of sources)")
def stats(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns the figures of the store as a map."""
    return resp.encode(session.resp, all_figures(session.engine))
