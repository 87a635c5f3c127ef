"""CONFIG, COMMAND, MEMORY, OBJECT, SLOWLOG, LATENCY and the small ones of administration."""

from __future__ import annotations

import re

import pytest

from kvserver.errors import CommandError
from kvserver.journal.recovery import recover
from kvserver.settings import SETTINGS
from tests.faults.disk import MemoryDisk
from tests.kvserver.commands.support import Server


@pytest.fixture
def server() -> Server:
    return Server()


def pairs(reply: bytes) -> dict[str, str]:
    words = reply.decode().split("\r\n")[2::2]
    return dict(zip(words[::2], words[1::2], strict=False))


def test_patterns_choose_settings(server: Server) -> None:
    shown = pairs(server("CONFIG", "GET", "maxmemory*", "TIMEOUT", "nothing"))
    assert shown.keys() == {"maxmemory", "maxmemory-policy", "maxmemory-samples", "TIMEOUT"}
    assert server("CONFIG", "GET", "nothing") == b"*0\r\n"
    server("HELLO", 3)
    assert server("CONFIG", "GET", "timeout") == b"%1\r\n$7\r\ntimeout\r\n$1\r\n0\r\n"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("maxmemory", "100mb", "104857600"),
        ("maxmemory", "1k", "1000"),
        ("maxmemory-policy", "ALLKEYS-LRU", "allkeys-lru"),
        ("timeout", "300", "300"),
        ("maxclients", "50", "50"),
        ("slowlog-log-slower-than", "-1", "-1"),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("proto-max-bulk-len", "2mb", "2097152"),
        ("loglevel", "warning", "warning"),
        (
            "client-output-buffer-limit",
            "normal 2mb 0 0 pubsub 1mb 512kb 30",
            "normal 2097152 0 0 slave 0 0 0 pubsub 1048576 524288 30",
        ),
    ],
)
def test_what_is_set_is_shown(server: Server, name: str, value: str, shown: str) -> None:
    assert server("CONFIG", "SET", name, value) == b"+OK\r\n"
    assert pairs(server("CONFIG", "GET", name))[name] == shown


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("maxmemory", "x", "argument must be a memory value"),
        ("maxmemory", "-1", "argument must be a memory value"),
        ("maxmemory-samples", "0", "argument must be between 1 and 2147483647 inclusive"),
        ("timeout", "1_0", "argument couldn't be parsed into an integer"),
        ("maxmemory-policy", "x", "argument(s) must be one of the following:"),
        ("notify-keyspace-events", "q", "Invalid event class character."),
        ("client-output-buffer-limit", "normal 1", "Wrong number of arguments in buffer limit"),
        ("client-output-buffer-limit", "what 0 0 0", "Invalid client class specified"),
        ("client-output-buffer-limit", "normal x 0 0", "Error in hard, soft or soft_seconds"),
        ("dir", "/elsewhere", "can't set protected config"),
        ("port", "1", "can't set immutable config"),
        ("logfile", "/tmp/x", "can't set immutable config"),
    ],
)
def test_what_makes_no_sense_is_refused(server: Server, name: str, value: str, reason: str) -> None:
    before = server("CONFIG", "GET", name)
    reply = server("CONFIG", "SET", name, value).decode()
    start = f"-ERR CONFIG SET failed (possibly related to argument '{name}') - "
    assert reply.startswith(start + reason)
    assert server("CONFIG", "GET", name) == before


def test_of_several_settings_all_are_set_or_none(server: Server) -> None:
    assert server("CONFIG", "SET", "timeout", 7, "maxmemory", "x").startswith(b"-ERR")
    assert pairs(server("CONFIG", "GET", "timeout")) == {"timeout": "0"}
    assert server("CONFIG", "SET", "timeout", 7, "maxclients", 9) == b"+OK\r\n"
    assert b"duplicate parameter" in server("CONFIG", "SET", "timeout", 7, "timeout", 8)
    assert server("CONFIG", "SET", "nosuch", 1) == (
        b"-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'\r\n"
    )


def test_no_setting_holds_a_password() -> None:
    server = Server(password="open sesame")
    server("AUTH", "open sesame")
    assert not [name for name in SETTINGS if "pass" in name]
    assert b"sesame" not in server("CONFIG", "GET", "*")


def test_resetstat_starts_counting_again(server: Server) -> None:
    server("SET", "k", 1)
    server("GET", "k")
    assert server.keyspace.hits == 1
    server("CONFIG", "RESETSTAT")
    assert server.keyspace.hits == 0
    assert server.engine.stats.latency.keys() <= {"config", "config|resetstat"}


def test_every_command_is_described(server: Server) -> None:
    registry = server.engine.registry.commands
    assert server("COMMAND", "COUNT") == b":%d\r\n" % len(registry)
    for parent in registry.values():
        for command in (parent, *parent.subcommands.values()):
            assert command.summary.endswith("."), command.name
            assert command.group, command.name
            if command.first_key:
                assert command.step >= 1, command.name
    assert server("COMMAND").startswith(b"*%d\r\n*10\r\n" % len(registry))
    assert server("COMMAND", "DOCS").startswith(b"*%d\r\n" % (2 * len(registry)))


def test_info_of_one_command_is_that_of_redis(server: Server) -> None:
    assert server("COMMAND", "INFO", "get", "nosuch") == (
        b"*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
        b"*3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n"
        b"*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n"
        b"*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n"
        b"$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n"
        b"*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n$-1\r\n"
    )


@pytest.mark.parametrize(
    ("call", "keys"),
    [
        ("GET a", b"*1\r\n$1\r\na\r\n"),
        ("MSET a 1 b 2", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("BITOP and d a b", b"*3\r\n$1\r\nd\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("OBJECT ENCODING a", b"*1\r\n$1\r\na\r\n"),
        ("PING", b"-ERR wrong number of arguments for 'command|getkeys' command\r\n"),
        ("PING x", b"-ERR The command has no key arguments\r\n"),
        ("NOSUCH x", b"-ERR Invalid command specified\r\n"),
        ("SET x", b"-ERR Invalid number of arguments specified for command\r\n"),
    ],
)
def test_keys_of_a_call_are_found(server: Server, call: str, keys: bytes) -> None:
    assert server("COMMAND", "GETKEYS", *call.split()) == keys


def test_lists_of_commands_can_be_filtered(server: Server) -> None:
    assert server("COMMAND", "LIST", "FILTERBY", "PATTERN", "getr*") == b"*1\r\n$8\r\ngetrange\r\n"
    assert b"setbit" in server("COMMAND", "LIST", "FILTERBY", "ACLCAT", "bitmap")
    assert server("COMMAND", "LIST", "FILTERBY", "MODULE", "x") == b"*0\r\n"


@pytest.mark.parametrize(
    "container",
    ["CLIENT", "COMMAND", "CONFIG", "LATENCY", "MEMORY", "MODULE", "OBJECT", "PUBSUB", "SLOWLOG"],
)
def test_every_container_helps(server: Server, container: str) -> None:
    lines = server(container, "HELP").decode().split("\r\n")
    assert lines[1] == f"+{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    assert "+HELP" in lines
    unknown = f"-ERR unknown subcommand 'what'. Try {container} HELP.\r\n".encode()
    assert server(container, "what") == unknown


def test_slow_commands_are_remembered(server: Server) -> None:
    server("CONFIG", "SET", "slowlog-log-slower-than", 0, "slowlog-max-len", 3)
    for number in range(5):
        server("KEYS", f"pattern{number}")
    assert server("SLOWLOG", "LEN") == b":3\r\n"
    newest = server("SLOWLOG", "GET", 1).decode()
    assert re.match(r"\*1\r\n\*6\r\n:\d+\r\n:\d+\r\n:\d+\r\n", newest)
    assert "127.0.0.1:1000" in newest
    server("CONFIG", "SET", "slowlog-log-slower-than", -1)
    assert server("SLOWLOG", "RESET") == b"+OK\r\n"
    assert server("SLOWLOG", "GET") == b"*0\r\n"


def test_with_a_limit_of_nothing_every_command_is_remembered(server: Server) -> None:
    server("GET", "a")
    assert server("SLOWLOG", "LEN") == b":0\r\n"
    server("CONFIG", "SET", "slowlog-log-slower-than", 0)
    server("SLOWLOG", "RESET")
    server("SET", "a", 1)
    server("GET", "a")
    server("MULTI")
    server("TTL", "a")
    server("EXEC")
    shown = server("SLOWLOG", "GET", -1)
    for name in (b"SET", b"GET", b"TTL"):
        assert b"$%d\r\n%b\r\n$1\r\na\r\n" % (len(name), name) in shown
    assert not server.goes_quickly()
    server("CONFIG", "SET", "slowlog-log-slower-than", 10_000)
    server("SLOWLOG", "RESET")
    server("GET", "a")
    assert server("SLOWLOG", "LEN") == b":0\r\n"
    assert server.goes_quickly()


def test_spikes_of_latency_are_remembered(server: Server) -> None:
    spikes = server.engine.stats.spikes
    spikes.add("command", 5000)
    assert server("LATENCY", "LATEST") == b"*0\r\n", "off by default"
    server("CONFIG", "SET", "latency-monitor-threshold", 100)
    for ms in (99, 250, 180):
        spikes.add("command", ms)
    assert server("LATENCY", "LATEST").endswith(b":250\r\n:250\r\n")
    assert server("LATENCY", "HISTORY", "command").endswith(b":250\r\n")
    assert b"worst 250 ms" in server("LATENCY", "DOCTOR")
    assert b"command - high 250 ms, low 250 ms" in server("LATENCY", "GRAPH", "command")
    assert server("LATENCY", "GRAPH", "x") == b"-ERR No samples available for event 'x'\r\n"
    assert server("LATENCY", "RESET", "command", "other") == b":1\r\n"
    assert server("LATENCY", "LATEST") == b"*0\r\n"


def test_histograms_count_every_call(server: Server) -> None:
    for _ in range(7):
        server("KEYS", "*")
    reply = server("LATENCY", "HISTOGRAM", "keys").decode()
    assert reply.startswith("*2\r\n$4\r\nkeys\r\n*4\r\n$5\r\ncalls\r\n:7\r\n$14\r\nhistogram_usec")
    assert reply.rstrip().endswith(":7")


def test_memory_of_a_key_grows_with_its_value(server: Server) -> None:
    sizes = []
    for length in (1, 1000, 100_000):
        server("SET", "k", b"x" * length)
        sizes.append(int(server("MEMORY", "USAGE", "k")[1:-2]))
    assert sizes[0] < 300
    assert 1000 < sizes[1] < 1500
    assert 100_000 < sizes[2] < 101_000
    assert server("MEMORY", "USAGE", "nokey") == b"$-1\r\n"
    assert b"keys.count" in server("MEMORY", "STATS")
    assert server("MEMORY", "PURGE") == b"+OK\r\n"


@pytest.mark.parametrize(
    ("value", "encoding"),
    [("12", "int"), ("x" * 44, "embstr"), ("x" * 45, "raw"), ("012", "embstr")],
)
def test_encodings_are_called_as_in_redis(server: Server, value: str, encoding: str) -> None:
    server("SET", "k", value)
    assert server("OBJECT", "ENCODING", "k") == b"$%d\r\n%b\r\n" % (
        len(encoding),
        encoding.encode(),
    )
    assert server("OBJECT", "REFCOUNT", "k") == b":1\r\n"
    assert server("OBJECT", "IDLETIME", "k") == b":0\r\n"
    assert server("OBJECT", "FREQ", "k").startswith(b"-ERR An LFU maxmemory policy is not selected")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("SELECT 0", b"+OK\r\n"),
        ("SELECT 1", b"-ERR DB index is out of range\r\n"),
        ("SWAPDB 0 1", b"-ERR DB index is out of range\r\n"),
        ("MOVE k 0", b"-ERR source and destination objects are the same\r\n"),
        ("MOVE k 1", b"-ERR DB index is out of range\r\n"),
        ("SAVE", b"-ERR there is no journal\r\n"),
        ("BGSAVE NOW", b"-ERR syntax error\r\n"),
        ("SWAPDB x 0", b"-ERR invalid first DB index\r\n"),
        ("WAIT 1 100", b":0\r\n"),
        ("WAIT 1 -1", b"-ERR timeout is negative\r\n"),
        ("MODULE LIST", b"*0\r\n"),
        ("MODULE LOAD", b"-ERR unknown subcommand 'LOAD'. Try MODULE HELP.\r\n"),
        ("MEMORY MALLOC-STATS", b"$45\r\nStats not supported for the current allocator\r\n"),
        ("ROLE", b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
        (
            "LPUSH l 1 2",
            b"-ERR unknown command 'LPUSH', with args beginning with: 'l' '1' '2' \r\n",
        ),
        ("EVAL x 0", b"-ERR unknown command 'EVAL', with args beginning with: 'x' '0' \r\n"),
        ("CONFIG REWRITE", b"-ERR The server is running without a config file\r\n"),
    ],
)
def test_small_commands_answer_as_redis_does(server: Server, command: str, reply: bytes) -> None:
    assert server(*command.split()) == reply


def test_bgrewriteaof_starts_a_compaction(server: Server) -> None:
    assert server("BGREWRITEAOF").startswith(b"-ERR")
    started = []

    def start() -> str:
        started.append(True)
        return "Background append only file rewriting started"

    server.engine.start_compaction = start
    assert server("BGREWRITEAOF") == b"+Background append only file rewriting started\r\n"
    assert started
    assert server("BGSAVE") == b"+Background saving started\r\n"
    assert len(started) == 2


def test_bgsave_says_that_a_compaction_is_running(server: Server) -> None:
    def start() -> str:
        raise CommandError("ERR Background append only file rewriting already in progress")

    server.engine.start_compaction = start
    assert server("BGSAVE") == b"-ERR Background save already in progress\r\n"


def test_save_waits_for_a_sync_of_what_was_written_before(server: Server) -> None:
    disk = MemoryDisk()
    server.engine.journal = journal = recover(disk, lambda _effects: None)[0]
    server("SET", "k", "SAVED")
    session = server.open()
    assert session.table[b"SAVE"](session, [b"SAVE"]) == b""
    assert session.advance(1) is None
    journal.append(server.keyspace.effects)  # the end of the turn
    for _ in range(3):
        assert session.advance(1) is None
    assert journal.sync_wanted
    assert not any(b"SAVED" in inode.durable for inode in disk.inodes.values())
    journal.sync()
    assert session.advance(1) == b"+OK\r\n"
    assert any(b"SAVED" in inode.durable for inode in disk.inodes.values())
    assert server("LASTSAVE") == b":%d\r\n" % server.engine.last_save_s


def test_time_is_the_time(server: Server) -> None:
    assert re.fullmatch(rb"\*2\r\n\$10\r\n\d{10}\r\n\$\d\r\n\d{1,6}\r\n", server("TIME"))
    assert re.fullmatch(rb":\d{10}\r\n", server("LASTSAVE"))
