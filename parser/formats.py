"""The formats that are known by name, and how the format of a log is found out.

To add one, add an entry to BUILTIN: a name, an example line, layouts (tried in order, the first
that fits a line wins), key rules. The tests read the example, `kvcli formats` shows it, `detect`
finds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parser.errors import FormatError, LayoutError
from parser.layout import KeyRule, Layout, parse_key_rule, parse_layout
from parser.times import compile_time

if TYPE_CHECKING:
    from parser.interpreter import Interpreter

__all__ = [
    "BUILTIN",
    "Detection",
    "Format",
    "detect",
    "format_named",
    "load_formats_file",
    "make_format",
]


@dataclass(frozen=True)
class Format:
    """What a log's lines look like and what is taken from them; made by make_format."""

    name: str
    title: str
    kind: str
    """How a line is read: "layout", "regex", "json" or "logfmt"."""
    example: bytes
    layouts: tuple[Layout, ...] = ()
    regex: re.Pattern[bytes] | None = None
    time_format: str = ""
    """Of a --regex: the %strptime text of its time; without it the usual ones are tried."""
    keys: tuple[KeyRule, ...] = ()
    tags: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    level: str = "level"

    @cached_property
    def joins(self) -> bool:
        """Whether lines of this format can be told from continuation lines."""
        return self.kind == "layout" and all(layout.anchored for layout in self.layouts)

    def starts_event(self, line: bytes) -> bool:
        """Whether a line is an event of its own, not the continuation of the one before.

        A continuation is an indented line, or a line as stack traces have them; a line that is
        merely malformed is not, so that it is counted as unparsed.
        """
        return not (self.joins and CONTINUATION.match(line) is not None)


CONTINUATION: Final = re.compile(
    rb"[ \t]+[^ \t\r\n]"
    rb"|Caused by: |Suppressed: |Traceback \(|\.\.\. [0-9]"
    rb"|[A-Za-z_$][0-9A-Za-z_$.]*(?:Exception|Error|Throwable)(?:[:\r\n ]|$)"
)
"""How a continuation line begins."""


@dataclass(frozen=True, slots=True)
class Detection:
    """The format that was chosen, and why, as a sentence for people."""

    format: Format
    reason: str


def make_format(
    name: str,
    *,
    layouts: Sequence[str] = (),
    regex: str = "",
    kind: str = "",
    time_format: str = "",
    keys: Sequence[str] = (),
    tags: Sequence[str] = (),
    numbers: Sequence[str] = (),
    level: str = "level",
    title: str = "",
    example: str = "",
) -> Format:
    """Build a format from texts. Raises LayoutError or FormatError."""
    if bool(layouts) + bool(regex) + bool(kind) != 1:
        raise FormatError(f"format {name!r}: give a layout, or a regex, or a kind")
    if kind and kind not in {"json", "logfmt"}:
        raise FormatError(f"format {name!r}: the kinds are json and logfmt, not {kind!r}")
    if time_format:
        compile_time(time_format)
    compiled = None
    if regex:
        try:
            compiled = re.compile(regex.encode("utf-8", "surrogateescape"))
        except re.error as error:
            raise FormatError(f"not a regular expression: {error} (in {regex!r})") from error
        if not compiled.groupindex:
            raise FormatError(f"the regular expression has no named group (?P<name>…): {regex!r}")
    parsed = tuple(parse_layout(text) for text in layouts)
    rules = tuple(parse_key_rule(text) for text in keys)
    fields = {known for layout in parsed for known in layout.names}
    if compiled is not None:
        fields = {*compiled.groupindex, "content"}
    if not kind:
        for used in [*(f for rule in rules for f in rule.fields), *tags, *numbers]:
            if used not in fields:
                have = ", ".join(sorted(fields))
                raise LayoutError(f"format {name!r} has no field {used!r}; it has {have}")
    return Format(
        name,
        title or name,
        kind or ("regex" if regex else "layout"),
        example.encode("utf-8", "surrogateescape"),
        parsed,
        compiled,
        time_format,
        rules,
        tuple(tags),
        tuple(numbers),
        level,
    )


_JSON_KEYS: Final = (
    "request_id -> request_{}",
    "else requestId -> request_{}",
    "else req_id -> request_{}",
    "else request.id -> request_{}",
    "else trace_id -> trace_{}",
    "else traceId -> trace_{}",
    "else trace.id -> trace_{}",
    "else session_id -> session_{}",
    "else sessionId -> session_{}",
    "else correlation_id -> request_{}",
    "else user_id -> user_{}",
    "else userId -> user_{}",
    "else client_ip -> client_{}",
    "else remote_addr -> client_{}",
    "else client.ip -> client_{}",
    "else ip -> client_{}",
    "else content ~ blk_<int> -> block_{}",
    "else content ~ <ip> -> client_{}",
    "else service -> service_{}",
    "else logger -> logger_{}",
    "else component -> component_{}",
    "else app -> app_{}",
    "else host -> host_{}",
    "else hostname -> host_{}",
)
_STRUCTURED_NUMBERS: Final = ("bytes", "size", "duration_ms", "latency_ms", "elapsed_ms", "took")
_HTTP_HEAD: Final = "<client> <_> <user> [<time:%d/%b/%Y:%H:%M:%S %z>] "
_REQUEST: Final = '"<+content><method:alpha> <path> <protocol><-content>"'
_STATUS: Final = " <status:int> <bytes:word>"
_AGENT: Final = " <referer:quoted> <agent:quoted>"
_LOG4J: Final = "<time:%Y-%m-%d %H:%M:%S,%f>"
_APACHE: Final = "[<time:%a %b %d %H:%M:%S.%f %Y>]"
_OLD: Final = "<time:%b %d %H:%M:%S> "
_SYSLOG_KEYS: Final = ("host, process -> process_{}_{}", "else host -> host_{}")


def _syslog(*tails: str) -> list[str]:
    """Every way the head of a line of RFC 3164 is found in files."""
    heads = (_OLD, "<time:iso> ", f"\\<<_:int>\\>{_OLD}")
    return [head + tail for head in heads for tail in tails]


BUILTIN: Final[Mapping[str, Format]] = {
    entry.name: entry
    for entry in (
        make_format(
            "hdfs",
            title="HDFS name and data nodes",
            layouts=["<date:%y%m%d> <time:%H%M%S> <pid:int> <level> <component>: <content>"],
            keys=["content ~ blk_<int> -> block_{}"],
            example="081109 203615 148 INFO dfs.DataNode$PacketResponder: "
            "PacketResponder 1 for block blk_38865049064139660 terminating",
        ),
        make_format(
            "zookeeper",
            title="Apache ZooKeeper",
            layouts=[
                "<time:%Y-%m-%d %H:%M:%S,%f> - <level:alpha> [<thread>] - <content>",
                "<time:%Y-%m-%d %H:%M:%S,%f> [myid:<_>] - <level:alpha> [<thread>] - <content>",
            ],
            keys=[
                "content ~ session 0x<hex> -> session_{}",
                "content ~ sessionid 0x<hex> -> session_{}",
                "content ~ sessionid:0x<hex> -> session_{}",
                "content ~ <ip> -> client_{}",
                "else thread -> thread_{}",
            ],
            example="2015-07-29 19:04:12,394 - INFO  "
            "[/10.10.34.11:3888:QuorumCnxManager$Listener@493] - "
            "Received connection request /10.10.34.11:45307",
        ),
        make_format(
            "hadoop",
            title="Hadoop, YARN and others that log with log4j",
            layouts=[
                f"{_LOG4J} <level:alpha> [<thread>] <component:word>: <content>",
                f"{_LOG4J} <level:alpha> <component:word>: <content>",
                f"{_LOG4J} <level:alpha> [<thread>] <component:word> (<_>) - <content>",
            ],
            keys=[
                "content ~ attempt_<int>_<int>_<alpha>_<int>_<int> -> attempt_{}",
                "content ~ task_<int>_<int>_<alpha>_<int> -> task_{}",
                "content ~ container_<int>_<int>_<int>_<int> -> container_{}",
                "content ~ container_e<int>_<int>_<int>_<int>_<int> -> container_e{}",
                "content ~ job_<int>_<int> -> job_{}",
                "content ~ application_<int>_<int> -> application_{}",
                "content ~ blk_<int> -> block_{}",
                "else component -> component_{}",
            ],
            example="2015-10-18 18:01:47,978 INFO [main] "
            "org.apache.hadoop.mapreduce.v2.app.MRAppMaster: "
            "Created MRAppMaster for application appattempt_1445144423722_0020_000001",
        ),
        make_format(
            "spark",
            title="Apache Spark",
            layouts=["<time:%y/%m/%d %H:%M:%S> <level:alpha> <component:word>: <content>"],
            keys=[
                "content ~ TID <int> -> task_{}",
                "content ~ assigned task <int> -> task_{}",
                "content ~ stage <int> -> stage_{}",
                "content ~ rdd_<int>_<int> -> rdd_{}",
                "content ~ broadcast_<int> -> broadcast_{}",
                "content ~ executor <int> -> executor_{}",
                "content ~ executor ID <int> -> executor_{}",
                "else component -> component_{}",
            ],
            example="17/06/09 20:10:46 INFO executor.Executor: "
            "Running task 0.0 in stage 0.0 (TID 0)",
        ),
        make_format(
            "sshd",
            title="OpenSSH's daemon in syslog",
            layouts=_syslog("<host:word> sshd[<pid:int>]: <content>"),
            keys=["content ~ <ip> -> client_{}", "else host, pid -> session_{}_{}"],
            example="Dec 10 06:55:46 LabSZ sshd[24200]: "
            "Failed password for invalid user webmaster from 173.234.31.186 port 38926 ssh2",
        ),
        make_format(
            "log4j",
            title="time, level, message, as many programs write it",
            layouts=[
                "<time:iso> <level:alpha> [<thread>] <component:word>: <content>",
                "<time:iso> <level:alpha> [<thread>] <component:word> - <content>",
                "<time:iso> [<thread>] <level:alpha> <component:word> - <content>",
                "<time:iso> [<level:alpha>] <component:word>: <content>",
                "<time:iso> [<level:alpha>] <content>",
                "<time:iso> <level:alpha>: <content>",
                "<time:iso> <level:alpha> <component:word>: <content>",
                "<time:iso> <level:alpha> <content>",
            ],
            keys=[
                "content ~ <ip> -> client_{}",
                "content ~ blk_<int> -> block_{}",
                "else component -> component_{}",
                "else level -> level_{}",
            ],
            example="2024-05-01T12:00:00.123Z INFO [main] com.example.Shop - order 17 shipped",
        ),
        make_format(
            "syslog5424",
            title="syslog, RFC 5424",
            layouts=[
                "\\<<pri:int>\\>1 <time:iso> <host> <process> <pid> <msgid> <data:sd> <content>",
                "\\<<pri:int>\\>1 - <host> <process> <pid> <msgid> <data:sd> <content>",
            ],
            keys=_SYSLOG_KEYS,
            tags=["pri"],
            example="<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - "
            "'su root' failed for lonvick on /dev/pts/8",
        ),
        make_format(
            "syslog",
            title="syslog, RFC 3164 or with ISO times",
            layouts=_syslog(
                "<host:word> <process:word>[<pid:int>]: <content>",
                "<host:word> <process:word>: <content>",
                "<host:word> <content>",
            ),
            keys=_SYSLOG_KEYS,
            example="Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure; "
            "logname= uid=0 euid=0 tty=NODEVssh ruser= rhost=218.188.2.4",
        ),
        make_format(
            "apache-error",
            title="error log of the Apache web server",
            layouts=[
                "[<time:%a %b %d %H:%M:%S %Y>] [<level:alpha>] <content>",
                f"{_APACHE} [<module:word>:<level:alpha>] [pid <pid>] [client <client>] <content>",
                f"{_APACHE} [<module:word>:<level:alpha>] [pid <pid>] <content>",
                f"{_APACHE} [<level:alpha>] <content>",
            ],
            keys=[
                "content ~ [client <ip> -> client_{}",
                "client ~ <ip> -> client_{}",
                "content ~ child <int> -> child_{}",
                "else level -> apache_{}",
            ],
            example="[Sun Dec 04 04:47:44 2005] [error] "
            "[client 222.166.160.184] Directory index forbidden by rule: /var/www/html/",
        ),
        make_format(
            "common",
            title="access log, common",
            layouts=[
                f"{_HTTP_HEAD}{_REQUEST}{_STATUS}",
                f"{_HTTP_HEAD}<content:quoted>{_STATUS}",
            ],
            keys=["client -> client_{}"],
            tags=["status", "method"],
            numbers=["bytes"],
            example="127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "
            '"GET /apache_pb.gif HTTP/1.0" 200 2326',
        ),
        make_format(
            "combined",
            title="access log, combined",
            layouts=[
                f"{_HTTP_HEAD}{_REQUEST}{_STATUS}{_AGENT}",
                f"{_HTTP_HEAD}<content:quoted>{_STATUS}{_AGENT}",
                f"{_HTTP_HEAD}{_REQUEST}{_STATUS} <_>",
                f"{_HTTP_HEAD}<content:quoted>{_STATUS} <_>",
            ],
            keys=["client -> client_{}"],
            tags=["status", "method"],
            numbers=["bytes"],
            example='83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /favicon.ico HTTP/1.1" '
            '200 3638 "-" "Mozilla/5.0 (X11; Linux x86_64)"',
        ),
        make_format(
            "bgl",
            title="Blue Gene/L",
            layouts=[
                "<label> <time:epoch> <_> <node> <_> <_> <type> <component> <level> <content>",
            ],
            keys=["node -> node_{}"],
            tags=["label"],
            example="- 1117838570 2005.06.03 R02-M1-N0-C:J12-U11 2005-06-03-15.42.50.675872 "
            "R02-M1-N0-C:J12-U11 RAS KERNEL INFO instruction cache parity error corrected",
        ),
        make_format(
            "json",
            title="one JSON object a line",
            kind="json",
            keys=_JSON_KEYS,
            tags=["status", "method"],
            numbers=_STRUCTURED_NUMBERS,
            example='{"time": "2024-05-01T12:00:00Z", "level": "info", "msg": "order shipped", '
            '"request_id": "7f3a"}',
        ),
        make_format(
            "logfmt",
            title="logfmt: key=value pairs",
            kind="logfmt",
            keys=_JSON_KEYS,
            tags=["status", "method"],
            numbers=_STRUCTURED_NUMBERS,
            example='time=2024-05-01T12:00:00Z level=info msg="order shipped" request_id=7f3a',
        ),
        make_format(
            "plain",
            title="lines without a known head: the whole line is the message",
            layouts=["<content>"],
            keys=["content ~ <ip> -> client_{}", "content ~ blk_<int> -> block_{}"],
            example="connection from 10.0.0.7 closed",
        ),
    )
}
"""All named formats; where several fit a log equally well, the first one is chosen."""


def format_named(name: str, more: Mapping[str, Format] | None = None) -> Format:
    """Return a format by name, own ones first. Raises FormatError."""
    known = {**BUILTIN, **(more or {})}
    if name not in known:
        raise FormatError(f"no format {name!r}; there are {', '.join(known)} and auto")
    return known[name]


_SAMPLE: Final = 200
_ENOUGH: Final = 0.5


_READERS: Final[dict[int, Interpreter]] = {}


def detect(lines: Sequence[bytes], more: Mapping[str, Format] | None = None) -> Detection:
    """Choose the format that fits most of a log's first lines; the more special one of equals."""
    from parser.interpreter import Interpreter

    sample = [line for line in lines[:_SAMPLE] if line.strip(b"\0 \t\r\n")]
    if not sample:
        return Detection(BUILTIN["plain"], "plain: there is no line to look at")
    scores: list[tuple[int, int, Format]] = []
    for entry in {**(more or {}), **BUILTIN}.values():
        if entry.name == "plain":
            continue
        reader = _READERS.get(id(entry)) or Interpreter(entry)
        if BUILTIN.get(entry.name) is entry:
            _READERS[id(entry)] = reader  # a directory may hold thousands of logs
        events = [line for line in sample if entry.starts_event(line)]
        fits = sum(reader.fits(line) for line in events)
        scores.append((fits, len(events), entry))
        if fits == len(events) > 0:
            break  # no other can do better, and of equals the first is chosen
    fits, asked, best = max(scores, key=lambda score: score[0] / max(score[1], 1))
    if fits < max(asked * _ENOUGH, 1):
        return Detection(
            BUILTIN["plain"],
            f"plain: no known format fits half of the first {len(sample)} lines "
            f"(nearest: {best.name}, {fits} of {asked}); say --format or --layout",
        )
    return Detection(best, f"{best.name}: {fits} of the first {asked} lines have its form")


_OPTIONS: Final = frozenset(
    ["layout", "layouts", "regex", "kind", "time", "keys", "key", "tags", "numbers", "level",
     "title", "example"]
)  # fmt: skip


def load_formats_file(path: str | Path) -> dict[str, Format]:
    """Read own formats from a TOML file with a table ``[formats.NAME]`` each. Raises FormatError.

    Entries: layout or layouts, or regex (with time, a %strptime text), or kind; keys, tags,
    numbers, level, title, example.
    """
    import tomllib  # every producer would pay for it

    try:
        with Path(path).open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not TOML: {error}") from error
    formats = tables.get("formats")
    if not isinstance(formats, dict) or set(tables) != {"formats"}:
        raise FormatError(f"{path}: expected tables [formats.NAME] and nothing else")
    return {name: _from_table(name, table, path) for name, table in formats.items()}


def _from_table(name: str, table: Any, path: str | Path) -> Format:
    if not isinstance(table, dict):
        raise FormatError(f"{path}: [formats.{name}] must be a table")
    unknown = set(table) - _OPTIONS
    if unknown:
        raise FormatError(f"{path}: [formats.{name}] has an unknown entry {min(unknown)!r}")

    def text(entry: str, default: str = "") -> str:
        value = table.get(entry, default)
        if not isinstance(value, str):
            raise FormatError(f"{path}: [formats.{name}] {entry} must be text")
        return value

    def texts(*entries: str) -> list[str]:
        found: list[str] = []
        for entry in entries:
            value = table.get(entry, [])
            value = [value] if isinstance(value, str) else value
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise FormatError(f"{path}: [formats.{name}] {entry} must be a list of texts")
            found += value
        return found

    try:
        return make_format(
            name,
            layouts=texts("layout", "layouts"),
            regex=text("regex"),
            kind=text("kind"),
            time_format=text("time"),
            keys=texts("key", "keys"),
            tags=texts("tags"),
            numbers=texts("numbers"),
            level=text("level", "level"),
            title=text("title"),
            example=text("example"),
        )
    except (LayoutError, FormatError) as error:
        raise FormatError(f"{path}: {error}") from error
