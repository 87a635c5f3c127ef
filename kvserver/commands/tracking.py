"""Clients that cache what they read: CLIENT TRACKING CACHING GETREDIR TRACKINGINFO."""

from __future__ import annotations

from typing import Final

from kvserver.commands.arguments import SYNTAX_ERROR, integer_argument
from kvserver.commands.clients import CLIENT
from kvserver.commands.table import CommandTable, shown
from kvserver.errors import CommandError
from kvserver.resp import OK, bulk, bulks, integer, mapping, set_of
from kvserver.session import Session
from kvserver.tracking import Mode

TABLE: Final = CommandTable("connection")
"""Empty: all of them are subcommands of CLIENT."""

_QUIET: Final = "noscript loading stale"
_NOT_IN_MODE: Final = "ERR CLIENT CACHING {} is only valid when tracking is enabled in {} mode."
_OVERLAP: Final = (
    "ERR Prefix '{}' overlaps with {} prefix '{}'. Prefixes for a single client must not overlap."
)


@CLIENT.command("tracking", -3, _QUIET, since="6.0.0", complexity="O(N) for N prefixes")
def tracking(session: Session, args: list[bytes]) -> bytes:
    """Turns on or off that this connection is told when keys change that it has read."""
    mode, prefixes, broadcast = _options(session, args[3:])
    word = args[2].upper()
    if word == b"ON":
        _check(session, mode, prefixes, broadcast=broadcast)
        if broadcast and not prefixes:
            prefixes = [b""]
        session.engine.tracking.start(session, mode, prefixes)
    elif word == b"OFF":
        session.engine.tracking.stop(session)
    else:
        raise CommandError(SYNTAX_ERROR)
    return OK


def _options(session: Session, words: list[bytes]) -> tuple[Mode, list[bytes], bool]:
    """Read what stands behind ON or OFF; return it with the prefixes, and whether BCAST is said."""
    mode, prefixes, broadcast = Mode(), [], False
    rest = iter(words)
    for word in rest:
        match word.upper():
            case b"REDIRECT" if (raw := next(rest, None)) is not None:
                if mode.redirect:
                    raise CommandError("ERR A client can only redirect to a single other client")
                mode.redirect = integer_argument(raw)
                if mode.redirect not in session.engine.sessions:
                    raise CommandError("ERR The client ID you want redirect to does not exist")
            case b"PREFIX" if (raw := next(rest, None)) is not None:
                prefixes.append(raw)
            case b"BCAST":
                broadcast = True
            case b"OPTIN":
                mode.optin = True
            case b"OPTOUT":
                mode.optout = True
            case b"NOLOOP":
                mode.noloop = True
            case _:
                raise CommandError(SYNTAX_ERROR)
    return mode, prefixes, broadcast


def _check(session: Session, mode: Mode, prefixes: list[bytes], *, broadcast: bool) -> None:
    """Raise CommandError when options contradict each other, or those of before."""
    before = session.tracking
    if prefixes and not broadcast:
        raise CommandError("ERR PREFIX option requires BCAST mode to be enabled")
    if before is not None and before.broadcast != broadcast:
        raise CommandError(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, "
            "and then re-enabling it with a different mode."
        )
    if broadcast and (mode.optin or mode.optout):
        raise CommandError("ERR OPTIN and OPTOUT are not compatible with BCAST")
    if mode.optin and mode.optout:
        raise CommandError("ERR You can't specify both OPTIN mode and OPTOUT mode")
    if before is not None and ((mode.optin and before.optout) or (mode.optout and before.optin)):
        raise CommandError(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, "
            "and then re-enabling it with a different mode."
        )
    _check_prefixes(session, sorted(before.prefixes) if before is not None else [], prefixes)


def _check_prefixes(session: Session, held: list[bytes], prefixes: list[bytes]) -> None:
    """Raise CommandError when prefixes overlap, or are too many for one client."""
    if len(held) + len(prefixes) > session.engine.config.max_subscriptions:
        raise CommandError("ERR too many prefixes")
    overlapping: set[bytes] = set()
    root: bytes | None = None
    for prefix in sorted(held + prefixes):  # behind each follow those that begin with it
        if root is not None and prefix.startswith(root):
            overlapping |= {root, prefix}
        else:
            root = prefix
    for at, prefix in enumerate(prefixes):
        if prefix in overlapping:  # with one of these, or it would have been the other one's turn
            for others, kind in ((held, "an existing"), (prefixes[at + 1 :], "another provided")):
                for other in others:
                    if prefix.startswith(other) or other.startswith(prefix):
                        raise CommandError(_OVERLAP.format(shown(prefix), kind, shown(other)))


@CLIENT.command("caching", 3, _QUIET, since="6.0.0", complexity="O(1)")
def caching(session: Session, args: list[bytes]) -> bytes:
    """Says whether what the next command reads is tracked, where that has to be said."""
    mode = session.tracking
    if mode is None:
        raise CommandError(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with "
            "OPTIN or OPTOUT mode enabled"
        )
    match args[2].upper():
        case b"YES":
            if not mode.optin:
                raise CommandError(_NOT_IN_MODE.format("YES", "OPTIN"))
        case b"NO":
            if not mode.optout:
                raise CommandError(_NOT_IN_MODE.format("NO", "OPTOUT"))
        case _:
            raise CommandError(SYNTAX_ERROR)
    mode.said = True
    return OK


@CLIENT.command("getredir", 2, _QUIET, since="6.0.0", complexity="O(1)")
def getredir(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns which connection is told instead of this one: 0 for none, -1 if it does not track."""
    return integer(session.tracking.redirect if session.tracking is not None else -1)


@CLIENT.command("trackinginfo", 2, _QUIET, since="6.2.0", complexity="O(1)")
def trackinginfo(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Tells how this connection tracks keys."""
    mode = session.tracking
    flags, redirect, prefixes = [b"off"], -1, []
    if mode is not None:
        redirect, prefixes = mode.redirect, sorted(mode.prefixes)
        flags = [
            flag
            for flag, there in (
                (b"on", True),
                (b"bcast", mode.broadcast),
                (b"optin", mode.optin),
                (b"caching-yes", mode.optin and mode.said),
                (b"optout", mode.optout),
                (b"caching-no", mode.optout and mode.said),
                (b"noloop", mode.noloop),
                (b"broken_redirect", mode.broken),
            )
            if there
        ]
    return mapping(
        session.resp,
        [
            (bulk(b"flags"), set_of(session.resp, [bulk(flag) for flag in flags])),
            (bulk(b"redirect"), integer(redirect)),
            (bulk(b"prefixes"), bulks(prefixes)),
        ],
    )
