"""Publish and subscribe: SUBSCRIBE PSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE PUBLISH PUBSUB."""

from __future__ import annotations

from kvserver.commands.arguments import help_reply
from kvserver.commands.table import CommandTable
from kvserver.errors import CommandError
from kvserver.glob import compile_glob
from kvserver.resp import NULL, array, bulk, bulks, integer, push
from kvserver.session import Session

TABLE = CommandTable("pubsub")

_FLAGS = "pubsub loading stale"


def _subscribe(session: Session, args: list[bytes], *, pattern: bool) -> bytes:
    word = bulk(b"psubscribe" if pattern else b"subscribe")
    replies = []
    for name in args[1:]:
        count = session.engine.hub.subscribe(session, name, pattern=pattern)
        replies.append(push(session.resp, [word, bulk(name), integer(count)]))
    return b"".join(replies)


def _unsubscribe(session: Session, args: list[bytes], *, pattern: bool) -> bytes:
    hub = session.engine.hub
    word = bulk(b"punsubscribe" if pattern else b"unsubscribe")
    names = args[1:] or hub.names(session, pattern=pattern)
    replies = [
        push(
            session.resp,
            [word, bulk(name), integer(hub.unsubscribe(session, name, pattern=pattern))],
        )
        for name in names
    ]
    if not names:
        replies = [push(session.resp, [word, NULL[session.resp], integer(session.subscribed)])]
    return b"".join(replies)


@TABLE.command("subscribe", -2, _FLAGS, since="2.0.0", complexity="O(N)")
def subscribe(session: Session, args: list[bytes]) -> bytes:
    """Listens to channels."""
    return _subscribe(session, args, pattern=False)


@TABLE.command("psubscribe", -2, _FLAGS, since="2.0.0", complexity="O(N)")
def psubscribe(session: Session, args: list[bytes]) -> bytes:
    """Listens to the channels that match patterns."""
    return _subscribe(session, args, pattern=True)


@TABLE.command("unsubscribe", -1, _FLAGS, since="2.0.0", complexity="O(N)")
def unsubscribe(session: Session, args: list[bytes]) -> bytes:
    """Stops listening to channels, or to all."""
    return _unsubscribe(session, args, pattern=False)


@TABLE.command("punsubscribe", -1, _FLAGS, since="2.0.0", complexity="O(N)")
def punsubscribe(session: Session, args: list[bytes]) -> bytes:
    """Stops listening to the channels that match patterns, or to all such."""
    return _unsubscribe(session, args, pattern=True)


@TABLE.command("publish", 3, "pubsub loading stale fast", since="2.0.0", complexity="O(N+M)")
def publish(session: Session, args: list[bytes]) -> bytes:
    """Sends a message to a channel; returns how many received it."""
    return integer(session.engine.hub.publish(args[1], args[2]))


PUBSUB = TABLE.container("pubsub", "Tells about channels and patterns.", "2.8.0")


@PUBSUB.command("channels", -2, _FLAGS, since="2.8.0", complexity="O(N)")
def channels(session: Session, args: list[bytes]) -> bytes:
    """Returns the channels that somebody listens to."""
    if len(args) > 3:
        raise CommandError(
            "ERR unknown subcommand or wrong number of arguments for "
            f"'{args[1].decode('ascii')}'. Try PUBSUB HELP."
        )
    matches = compile_glob(args[2]) if len(args) == 3 else None
    return bulks(session.engine.hub.channels(matches))


@PUBSUB.command("numsub", -2, _FLAGS, since="2.8.0", complexity="O(N)")
def numsub(session: Session, args: list[bytes]) -> bytes:
    """Returns how many listen to each channel by its name."""
    hub = session.engine.hub
    pairs = [(bulk(name), integer(hub.listeners(name))) for name in args[2:]]
    return array([part for pair in pairs for part in pair])


@PUBSUB.command("numpat", 2, _FLAGS, since="2.8.0", complexity="O(1)")
def numpat(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns how many patterns somebody listens to."""
    return integer(session.engine.hub.statistics()["pubsub_patterns"])


@PUBSUB.command("help", 2, "loading stale", since="6.2.0")
def help_(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows the subcommands."""
    return help_reply("PUBSUB", PUBSUB)
