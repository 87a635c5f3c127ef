"""Publish and subscribe: SUBSCRIBE PSUBSCRIBE SSUBSCRIBE, PUBLISH SPUBLISH, PUBSUB."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from kvserver.commands.arguments import help_reply
from kvserver.commands.table import CommandTable, Reply, Work
from kvserver.errors import CommandError
from kvserver.glob import compile_glob
from kvserver.hub import Kind
from kvserver.resp import NULL, array, bulk, bulks, integer, push
from kvserver.session import Session

TABLE = CommandTable("pubsub")

SLICE_NAMES = 256
"""Subscriptions that a long command changes before it looks at the time."""
_Change: TypeAlias = Callable[[Session, bytes, Kind], int]
_FLAGS = "pubsub loading stale"

_SHARD_KEYS = (1, -1, 1)
"""Redis lets clients take channels of shards for keys, to find the server that has them."""

_WORDS = {
    Kind.CHANNEL: (b"subscribe", b"unsubscribe"),
    Kind.PATTERN: (b"psubscribe", b"punsubscribe"),
    Kind.SHARD_CHANNEL: (b"ssubscribe", b"sunsubscribe"),
}


def _subscribe(session: Session, args: list[bytes], kind: Kind) -> Reply:
    return _for_each(session, args[1:], kind, _WORDS[kind][0], session.engine.hub.subscribe)


def _unsubscribe(session: Session, args: list[bytes], kind: Kind) -> Reply:
    hub = session.engine.hub
    word = _WORDS[kind][1]
    names = args[1:] or hub.names(session, kind)
    if not names:
        count = integer(hub.count(session, kind))
        return push(session.resp, [bulk(word), NULL[session.resp], count])
    return _for_each(session, names, kind, word, hub.unsubscribe)


def _for_each(
    session: Session, names: list[bytes], kind: Kind, word: bytes, change: _Change
) -> Reply:
    """Change a subscription after the other, and tell of each."""
    if len(names) <= SLICE_NAMES or session.about.get("exec"):
        return _told(session, names, kind, word, change)
    return _in_slices(session, names, kind, word, change)


def _in_slices(
    session: Session, names: list[bytes], kind: Kind, word: bytes, change: _Change
) -> Work:
    for start in range(0, len(names), SLICE_NAMES):
        told = _told(session, names[start : start + SLICE_NAMES], kind, word, change)
        if not session.silent:
            session.push(told)  # at once, because messages of these channels may follow
        yield None
    return b""


def _told(session: Session, names: list[bytes], kind: Kind, word: bytes, change: _Change) -> bytes:
    replies = [
        push(session.resp, [bulk(word), bulk(name), integer(change(session, name, kind))])
        for name in names
    ]
    return b"".join(replies)


@TABLE.command("subscribe", -2, _FLAGS, since="2.0.0", complexity="O(N)")
def subscribe(session: Session, args: list[bytes]) -> Reply:
    """Listens to channels."""
    return _subscribe(session, args, Kind.CHANNEL)


@TABLE.command("psubscribe", -2, _FLAGS, since="2.0.0", complexity="O(N)")
def psubscribe(session: Session, args: list[bytes]) -> Reply:
    """Listens to the channels that match patterns."""
    return _subscribe(session, args, Kind.PATTERN)


@TABLE.command("ssubscribe", -2, _FLAGS, keys=_SHARD_KEYS, since="7.0.0", complexity="O(N)")
def ssubscribe(session: Session, args: list[bytes]) -> Reply:
    """Listens to channels of shards."""
    if session.about.get("exec"):
        raise CommandError("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
    return _subscribe(session, args, Kind.SHARD_CHANNEL)


@TABLE.command("unsubscribe", -1, _FLAGS, since="2.0.0", complexity="O(N)")
def unsubscribe(session: Session, args: list[bytes]) -> Reply:
    """Stops listening to channels, or to all."""
    return _unsubscribe(session, args, Kind.CHANNEL)


@TABLE.command("punsubscribe", -1, _FLAGS, since="2.0.0", complexity="O(N)")
def punsubscribe(session: Session, args: list[bytes]) -> Reply:
    """Stops listening to the channels that match patterns, or to all such."""
    return _unsubscribe(session, args, Kind.PATTERN)


@TABLE.command("sunsubscribe", -1, _FLAGS, keys=_SHARD_KEYS, since="7.0.0", complexity="O(N)")
def sunsubscribe(session: Session, args: list[bytes]) -> Reply:
    """Stops listening to channels of shards, or to all such."""
    return _unsubscribe(session, args, Kind.SHARD_CHANNEL)


@TABLE.command("publish", 3, "pubsub loading stale fast", since="2.0.0", complexity="O(N+M)")
def publish(session: Session, args: list[bytes]) -> bytes:
    """Sends a message to a channel; returns how many received it."""
    return integer(session.engine.hub.publish(args[1], args[2]))


@TABLE.command(
    "spublish",
    3,
    "pubsub loading stale fast",
    keys=(1, 1, 1),
    since="7.0.0",
    complexity="O(N)",
)
def spublish(session: Session, args: list[bytes]) -> bytes:
    """Sends a message to a channel of a shard; returns how many received it."""
    return integer(session.engine.hub.publish_to_shard(args[1], args[2]))


PUBSUB = TABLE.container("pubsub", "Tells about channels and patterns.", "2.8.0")


def _channels(session: Session, args: list[bytes], kind: Kind) -> bytes:
    if len(args) > 3:
        raise CommandError(
            "ERR unknown subcommand or wrong number of arguments for "
            f"'{args[1].decode('ascii')}'. Try PUBSUB HELP."
        )
    matches = compile_glob(args[2]) if len(args) == 3 else None
    return bulks(session.engine.hub.channels(kind, matches))


def _listeners(session: Session, args: list[bytes], kind: Kind) -> bytes:
    hub = session.engine.hub
    pairs = [(bulk(name), integer(hub.listeners(name, kind))) for name in args[2:]]
    return array([part for pair in pairs for part in pair])


@PUBSUB.command("channels", -2, _FLAGS, since="2.8.0", complexity="O(N)")
def channels(session: Session, args: list[bytes]) -> bytes:
    """Returns the channels that somebody listens to."""
    return _channels(session, args, Kind.CHANNEL)


@PUBSUB.command("shardchannels", -2, _FLAGS, since="7.0.0", complexity="O(N)")
def shardchannels(session: Session, args: list[bytes]) -> bytes:
    """Returns the channels of shards that somebody listens to."""
    return _channels(session, args, Kind.SHARD_CHANNEL)


@PUBSUB.command("numsub", -2, _FLAGS, since="2.8.0", complexity="O(N)")
def numsub(session: Session, args: list[bytes]) -> bytes:
    """Returns how many listen to each channel by its name."""
    return _listeners(session, args, Kind.CHANNEL)


@PUBSUB.command("shardnumsub", -2, _FLAGS, since="7.0.0", complexity="O(N)")
def shardnumsub(session: Session, args: list[bytes]) -> bytes:
    """Returns how many listen to each channel of a shard."""
    return _listeners(session, args, Kind.SHARD_CHANNEL)


@PUBSUB.command("numpat", 2, _FLAGS, since="2.8.0", complexity="O(1)")
def numpat(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns how many patterns somebody listens to."""
    return integer(session.engine.hub.statistics()["pubsub_patterns"])


@PUBSUB.command("help", 2, "loading stale", since="6.2.0")
def help_(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows the subcommands."""
    return help_reply("PUBSUB", PUBSUB)
