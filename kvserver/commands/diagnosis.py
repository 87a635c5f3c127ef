"""What the server noticed about itself: SLOWLOG LATENCY MONITOR DEBUG."""

from __future__ import annotations

import math
import time
from typing import Final

from kvserver.commands.arguments import help_reply
from kvserver.commands.table import CommandTable, shown, wrong_arity
from kvserver.errors import CommandError
from kvserver.latency import graph
from kvserver.numbers import parse_int, parse_seconds
from kvserver.resp import OK, array, bulk, bulks, integer, mapping, verbatim
from kvserver.session import Session
from kvserver.stats import Histogram

TABLE: Final = CommandTable("server")
_FLAGS: Final = "admin loading stale skip_slowlog"
_LONGEST_SLEEP_S: Final = 3600.0

# ------------------------------------------------------------------------------------------ SLOWLOG

SLOWLOG: Final = TABLE.container("slowlog", "Shows the commands that took long.", "2.2.12")


@SLOWLOG.command("get", -2, _FLAGS, since="2.2.12", complexity="O(N)")
def slowlog_get(session: Session, args: list[bytes]) -> bytes:
    """Returns the latest slow commands, ten or as many as wanted, -1 for all."""
    if len(args) > 3:
        raise CommandError(
            "ERR unknown subcommand or wrong number of arguments for "
            f"'{args[1].decode('ascii')}'. Try SLOWLOG HELP."
        )
    count: int | None = 10
    if len(args) == 3:
        count = parse_int(args[2])
        if count is None or count < -1:
            raise CommandError("ERR count should be greater than or equal to -1")
    entries = list(session.engine.stats.slowlog)
    if count != -1:
        entries = entries[:count]
    return array(
        [
            array(
                [
                    integer(entry.id),
                    integer(entry.when),
                    integer(entry.duration_us),
                    bulks(entry.args),
                    bulk(entry.address.encode()),
                    bulk(entry.name),
                ]
            )
            for entry in entries
        ]
    )


@SLOWLOG.command("len", 2, _FLAGS, since="2.2.12", complexity="O(1)")
def slowlog_len(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns how many slow commands are remembered."""
    return integer(len(session.engine.stats.slowlog))


@SLOWLOG.command("reset", 2, _FLAGS, since="2.2.12", complexity="O(N)")
def slowlog_reset(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Forgets the slow commands."""
    session.engine.stats.slowlog.clear()
    return OK


@SLOWLOG.command("help", 2, "loading stale", since="6.2.0")
def slowlog_help(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows the subcommands."""
    return help_reply("SLOWLOG", SLOWLOG)


# ------------------------------------------------------------------------------------------ LATENCY

LATENCY: Final = TABLE.container("latency", "Shows spikes and percentiles of latency.", "2.8.13")


@LATENCY.command("latest", 2, _FLAGS, since="2.8.13", complexity="O(1)")
def latency_latest(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Returns the last spike of each kind."""
    spikes = session.engine.stats.spikes
    return array(
        [
            array(
                [
                    bulk(name.encode()),
                    integer(samples[-1][0]),
                    integer(samples[-1][1]),
                    integer(spikes.worst_ms[name]),
                ]
            )
            for name, samples in spikes.samples.items()
        ]
    )


@LATENCY.command("history", 3, _FLAGS, since="2.8.13", complexity="O(1)")
def latency_history(session: Session, args: list[bytes]) -> bytes:
    """Returns the spikes of one kind."""
    samples = session.engine.stats.spikes.samples.get(args[2].decode("latin-1"), ())
    return array([array([integer(when), integer(ms)]) for when, ms in samples])


@LATENCY.command("graph", 3, _FLAGS, since="2.8.13", complexity="O(1)")
def latency_graph(session: Session, args: list[bytes]) -> bytes:
    """Draws the spikes of one kind."""
    spikes, name = session.engine.stats.spikes, args[2].decode("latin-1")
    samples = spikes.samples.get(name)
    if samples is None:
        raise CommandError(f"ERR No samples available for event '{name}'")
    drawn = graph(name, samples, spikes.worst_ms[name], int(time.time()))
    return verbatim(session.resp, drawn.encode())


@LATENCY.command("reset", -2, _FLAGS, since="2.8.13", complexity="O(1)")
def latency_reset(session: Session, args: list[bytes]) -> bytes:
    """Forgets the spikes of some kinds, or all."""
    names = [name.decode("latin-1") for name in args[2:]]
    return integer(session.engine.stats.spikes.forget(names))


@LATENCY.command("histogram", -2, _FLAGS, since="7.0.0", complexity="O(N)")
def latency_histogram(session: Session, args: list[bytes]) -> bytes:
    """Returns how often commands took how long."""
    latency = session.engine.stats.latency
    wanted = [name.decode("latin-1").lower() for name in args[2:]] or list(latency)
    pairs = [
        (bulk(name.encode()), _distribution(session, latency[name]))
        for name in wanted
        if name in latency
    ]
    return mapping(session.resp, pairs)


def _distribution(session: Session, histogram: Histogram) -> bytes:
    """Return calls, and pairs of a bound in microseconds and how many calls stayed under it."""
    steps: dict[int, int] = {}
    seen = 0
    for index, count in enumerate(histogram.buckets):
        if count:
            seen += count
            upper_ns = 1 << (index // 2 + 1)
            steps[1 << max(0, math.ceil(math.log2(upper_ns / 1000)))] = seen
    body = mapping(session.resp, [(integer(us), integer(n)) for us, n in steps.items()])
    return mapping(
        session.resp,
        [(bulk(b"calls"), integer(histogram.count)), (bulk(b"histogram_usec"), body)],
    )


@LATENCY.command("doctor", 2, _FLAGS, since="2.8.13", complexity="O(1)")
def latency_doctor(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Says in words what the spikes look like."""
    spikes = session.engine.stats.spikes
    if not spikes.threshold_ms:
        text = (
            "Spikes are not watched. CONFIG SET latency-monitor-threshold <milliseconds> "
            "makes the server remember what takes longer.\n"
        )
    elif not spikes.samples:
        text = f"Nothing took {spikes.threshold_ms} ms or longer so far.\n"
    else:
        text = "".join(
            f"{name}: {len(samples)} seconds with spikes, worst {spikes.worst_ms[name]} ms, "
            f"mean {sum(ms for _, ms in samples) / len(samples):.0f} ms\n"
            for name, samples in spikes.samples.items()
        )
    return verbatim(session.resp, text.encode())


@LATENCY.command("help", 2, "loading stale", since="2.8.13")
def latency_help(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows the subcommands."""
    return help_reply("LATENCY", LATENCY)


# ---------------------------------------------------------------------------------- MONITOR, DEBUG


@TABLE.command("monitor", 1, _FLAGS, since="1.0.0")
def monitor(session: Session, args: list[bytes]) -> bytes:  # noqa: ARG001 - as every handler
    """Shows every command of all clients from now on."""
    if session.about.get("in_exec"):
        raise CommandError("ERR MONITOR isn't allowed for DENY BLOCKING client")
    session.engine.monitors.add(session)
    return OK


@TABLE.command("debug", -2, "admin noscript loading stale", since="1.0.0")
def debug(session: Session, args: list[bytes]) -> bytes:
    """Lets tests stop the whole server for a while (SLEEP); only when started for that."""
    if not session.engine.config.debug_commands or not _is_local(session):
        raise CommandError(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to "
            '"local", you can run it from a local connection, otherwise you need to set this '
            "option in the configuration file, and then restart the server."
        )
    if args[1].upper() == b"SLEEP" and len(args) == 3:
        seconds = parse_seconds(args[2]) or 0.0
        time.sleep(min(max(seconds, 0.0), _LONGEST_SLEEP_S))
        return OK
    if args[1].upper() == b"SLEEP":
        raise CommandError(wrong_arity("debug|sleep"))
    raise CommandError(
        f"ERR unknown subcommand or wrong number of arguments for '{shown(args[1])}'. "
        "Try DEBUG HELP."
    )


def _is_local(session: Session) -> bool:
    address = session.address
    return not address or address.startswith(("127.", "[::1]", "::1", "unix", "/"))
