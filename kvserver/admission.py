"""What may stand between a client and the handler of a command, whoever the client is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvserver.commands.table import wrong_arity
from kvserver.errors import CommandError

if TYPE_CHECKING:
    from kvserver.commands.table import Command
    from kvserver.session import Session

__all__ = ["admit"]

_WHEN_SUBSCRIBED: Final = frozenset(["ping", "quit", "reset"]) | {
    kind + word for kind in ("", "p", "s") for word in ("subscribe", "unsubscribe")
}


def admit(session: Session, command: Command, args: list[bytes]) -> None:
    """Let a command through, or raise CommandError with the reason why not."""
    if command.wrong_arity(len(args)):
        raise CommandError(wrong_arity(command.name))
    if not session.authenticated and "no_auth" not in command.flags:
        raise CommandError("NOAUTH Authentication required.")
    if session.subscribed and session.resp == 2 and command.name not in _WHEN_SUBSCRIBED:
        raise CommandError(
            f"ERR Can't execute '{command.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
            "PING / QUIT / RESET are allowed in this context"
        )
    for gate in list(session.engine.gates.values()):
        gate(session, command, args)
    if session.queue is not None and "no_multi" in command.flags:
        raise CommandError("ERR Command not allowed inside a transaction")
