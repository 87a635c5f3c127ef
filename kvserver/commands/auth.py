"""Passwords: AUTH, what HELLO AUTH needs, and ACL WHOAMI.

Comparing takes the same time whatever is given: digests of equal length are compared in constant
time, and the name of the user does not shorten the way. A wrong password is answered late (the
longer, the more there were on this connection) and logged without the password; too many of them
end the connection.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from typing import Final

from kvserver import resp
from kvserver.commands.arguments import SYNTAX_ERROR
from kvserver.commands.table import CommandTable, Reply, Work
from kvserver.errors import CommandError
from kvserver.resp import OK, bulk
from kvserver.session import Session

TABLE: Final = CommandTable("connection")

WRONG_PASSWORD: Final = "WRONGPASS invalid username-password pair or user is disabled."  # noqa: S105 - an error text
FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 3.0
MOST_FAILURES: Final = 10

log = logging.getLogger("kvserver")


def password_matches(session: Session, user: bytes, given: bytes) -> bool:
    """Compare in constant time; without a password set, the one user there is needs none."""
    held = session.engine.config.password.encode("utf-8", "surrogateescape")
    right_word = hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(held).digest())
    right_user = hmac.compare_digest(
        hashlib.sha256(user).digest(), hashlib.sha256(b"default").digest()
    )
    return right_user & (right_word | (not held))


def refuse(session: Session) -> Work:
    """Answer a wrong password: late, logged, and not for ever."""
    if not session.engine.config.password:  # there is nothing to guess, only a wrong user
        raise CommandError(WRONG_PASSWORD)
    failures = session.about.get("auth_failures", 0) + 1
    session.about["auth_failures"] = failures
    session.engine.stats.auth_failures += 1
    log.warning("authentication failed (%d) from %s", failures, session.address or "a test")
    yield time.monotonic() + min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (failures - 1))
    if failures >= MOST_FAILURES:
        session.close_after_reply()
    raise CommandError(WRONG_PASSWORD)


def accept(session: Session) -> None:
    """Let a session in."""
    session.authenticated = True
    session.about.pop("auth_failures", None)
    session.retable()


@TABLE.command(
    "auth", -2, "loading stale fast no_auth skip_slowlog", since="1.0.0", complexity="O(1)"
)
def auth(session: Session, args: list[bytes]) -> Reply:
    """Authenticates the connection."""
    if len(args) > 3:
        raise CommandError(SYNTAX_ERROR)
    if len(args) == 2 and not session.engine.config.password:
        raise CommandError(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    user = args[1] if len(args) == 3 else b"default"
    if not password_matches(session, user, args[-1]):
        return refuse(session)
    accept(session)
    return OK


ACL = TABLE.container("acl", "Tells about users; there is one, called default.", "6.0.0")


@ACL.command("whoami", 2, "loading stale fast", since="6.0.0", complexity="O(1)")
def whoami(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns the name of the user of this connection."""
    return bulk(session.user.encode())


@ACL.command("users", 2, "admin loading stale", since="6.0.0", complexity="O(1)")
def users(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns the names of all users: there is one."""
    return resp.bulks([b"default"])
