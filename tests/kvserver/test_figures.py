"""INFO as exporters of Redis read it, STATS as a map; and what is told before all is loaded."""

from __future__ import annotations

import msgpack

from kvserver.engine import Engine
from kvserver.server import _refuse_while_loading
from kvserver.stats import Histogram
from parser.summary import Summary, pack


def sections(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in text.split("\r\n"):
        if line.startswith("# "):
            fields = found.setdefault(line[2:], {})
        elif line:
            name, _, value = line.partition(":")
            fields[name] = value
    return found


def info(engine: Engine, *names: bytes) -> dict[str, dict[str, str]]:
    reply = engine.session().run([b"INFO", *names])
    return sections(reply.partition(b"\r\n")[2].decode())


def test_info_has_the_sections_and_the_names_that_exporters_look_for() -> None:
    engine = Engine()
    session = engine.session()
    for line in (b"SET a 1", b"GET a", b"GET gone", b"SET b 1 EX 100"):
        session.run(line.split())
    usual = info(engine)
    assert list(usual)[:7] == [
        "Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU",
    ]  # fmt: skip
    assert usual["Server"]["redis_version"] == "7.0.15"
    assert usual["Keyspace"] == {"db0": "keys=2,expires=1,avg_ttl=0"}
    assert usual["Stats"]["keyspace_hits"] == "1"
    assert usual["Stats"]["keyspace_misses"] == "1"
    assert usual["Replication"]["role"] == "master"
    assert int(usual["Memory"]["used_memory"]) > 1_000_000
    assert "Commandstats" not in usual
    assert usual["Stats"]["total_error_replies"] == "0"
    for line in (b"NOSUCH", b"GET", b"EXPIRE a x", b"SELECT 9"):
        session.run(line.split())
    assert info(engine)["Stats"]["total_error_replies"] == "4"
    assert list(info(engine, b"clients", b"KEYSPACE")) == ["Clients", "Keyspace"]
    assert info(engine, b"nonsense") == {}
    engine.stats.calls[b"GET"] = 3  # one of them rejected
    engine.stats.calls[b"get"] = 1
    everything = info(engine, b"everything")
    assert everything["Commandstats"]["cmdstat_get"].startswith("calls=3,usec=")


def test_info_says_how_many_calls_of_each_command_failed_or_were_not_let_through() -> None:
    engine = Engine()
    session = engine.session()
    for line in (
        b"GET", b"GET a b", b"SET a 1 EX x", b"SET s abc", b"INCR s", b"NOSUCH x", b"CONFIG GET",
        b"CONFIG NOSUCH", b"CONFIG GET maxmemory", b"MULTI", b"SET b", b"EXEC", b"MULTI",
        b"INCR s", b"GET s", b"EXEC", b"EXEC", b"OBJECT FREQ s", b"MERGE a b c",
    ):  # fmt: skip
        session.run(line.split())
        name = line.split()[0]
        engine.stats.calls[name] = engine.stats.calls.get(name, 0) + 1
    session.run([b"MERGE", b"s", b'{"count": 1}'])
    shown = info(engine, b"commandstats", b"errorstats")
    counted = {
        name.removeprefix("cmdstat_"): tuple(
            int(figures[field])
            for figures in [dict(pair.split("=") for pair in text.split(","))]
            for field in ("calls", "rejected_calls", "failed_calls")
        )
        for name, text in shown["Commandstats"].items()
    }
    assert counted == {  # as Redis 7.0.15 says of the same commands, but for MERGE
        "get": (1, 2, 0),
        "set": (2, 1, 1),
        "incr": (2, 0, 2),
        "config|get": (1, 1, 0),
        "multi": (2, 0, 0),
        "exec": (3, 0, 2),
        "object|freq": (1, 0, 1),
        "merge": (1, 0, 2),
    }
    assert shown["Errorstats"] == {
        "errorstat_ERR": "count=12",
        "errorstat_EXECABORT": "count=1",
        "errorstat_WRONGTYPE": "count=1",
    }
    assert info(engine)["Stats"]["total_error_replies"] == "14"
    session.run([b"CONFIG", b"RESETSTAT"])
    assert info(engine, b"errorstats")["Errorstats"] == {}


def test_stats_counts_what_was_ingested_source_by_source() -> None:
    engine = Engine()
    session = engine.session()
    session.use_protocol(3)
    for source, lines in ((1, 10), (2, 5)):
        header = {"source": source, "ranges": [[0, 100]], "books": {"lines": lines, "matched": 4}}
        deltas = [b"block_1", pack(Summary(4))]
        assert session.run(
            [b"INGEST", msgpack.packb(header), msgpack.packb(deltas)]
        ) == b":%d\r\n" % (source == 1)
    reply = session.run([b"STATS"])
    assert b"$4\r\nkeys\r\n:1\r\n" in reply
    assert b"$7\r\nsources\r\n:2\r\n" in reply
    assert b"$5\r\nbooks\r\n%2\r\n$5\r\nlines\r\n:15\r\n$7\r\nmatched\r\n:8\r\n" in reply
    assert b"$16\r\n0000000000000002\r\n%2\r\n$5\r\nlines\r\n:5\r\n" in reply


def test_while_loading_only_what_needs_no_data_is_answered() -> None:
    engine = Engine()
    session = engine.session()
    engine.gate("loading", _refuse_while_loading)
    assert session.run([b"GET", b"a"]) == (b"-LOADING Redis is loading the dataset in memory\r\n")
    assert session.run([b"INFO", b"persistence"]).startswith(b"$")
    assert session.run([b"HELLO", b"2"]).startswith(b"*14\r\n")
    engine.gate("loading", None)
    assert session.run([b"GET", b"a"]) == b"$-1\r\n"


def test_a_histogram_says_percentiles_from_above_within_half() -> None:
    histogram = Histogram()
    for us in range(1, 1001):
        histogram.add(us * 1000)
    for percent in (1, 50, 90, 99, 99.9, 100):
        exact = 10 * percent
        assert exact <= histogram.percentile_us(percent) <= 1.5 * exact
    assert histogram.mean_us == 500.5
    assert Histogram().percentile_us(99) == 0
