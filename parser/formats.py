"""The formats that are known by name.

To add one, add an entry to BUILTIN: a name, an example line, layouts (tried in order, the first
that fits a line wins), key rules. The tests read the example, `kvcli formats` shows it, `detect`
finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from parser.errors import FormatError
from parser.format import Format, make_format

__all__ = ["BUILTIN", "format_named"]

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
