"""The built-in formats, how a log's format is found out, and formats of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from parser.detection import detect
from parser.errors import FormatError, LayoutError
from parser.format import make_format
from parser.formats import BUILTIN, format_named
from parser.formatsfile import load_formats_file
from parser.interpreter import Interpreter
from parser.isotime import format_time_ms, parse_time_ms
from tests.support import real_log

REAL_LOGS = {
    "loghub/Apache/Apache_2k.log": "apache-error",
    "loghub/BGL/BGL_2k.log": "bgl",
    "loghub/HDFS/HDFS_2k.log": "hdfs",
    "loghub/Hadoop/Hadoop_2k.log": "hadoop",
    "loghub/Linux/Linux_2k.log": "syslog",
    "loghub/OpenSSH/OpenSSH_2k.log": "sshd",
    "loghub/Spark/Spark_2k.log": "spark",
    "loghub/Zookeeper/Zookeeper_2k.log": "zookeeper",
    "access/apache_combined.log": "combined",
}
HINT = parse_time_ms("2024-12-31T00:00:00Z")


@pytest.mark.parametrize("name", BUILTIN)
def test_the_example_of_each_format_is_read_and_found(name: str) -> None:
    entry = BUILTIN[name]
    event = Interpreter(entry, year_hint_ms=HINT).parse_line(entry.example, 1)
    assert event is not None
    assert event.keys
    assert (event.time_ms is None) == (name == "plain")
    assert detect([entry.example]).format.name == name


@pytest.mark.parametrize(("path", "name"), REAL_LOGS.items())
def test_real_logs_are_recognised_and_read_without_a_line_left_over(path: str, name: str) -> None:
    data = real_log(path).read_bytes()
    found = detect(data.split(b"\n")[:100])
    assert found.format.name == name
    assert found.reason == f"{name}: 100 of the first 100 lines have its form"
    result = Interpreter(found.format, multiline=True).summarize(data, source=1, offset=0)
    assert (result.unparsed, result.continued, result.skipped) == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "line", "time", "level", "keys"),
    [
        (
            "syslog",
            b"<13>Feb  5 17:32:18 10.0.0.99 su[17]: on /dev/pts/8",
            "2024-02-05T17:32:18Z",
            None,
            [b"process_10.0.0.99_su"],
        ),
        (
            "syslog",
            b"2024-05-01T12:00:00.123456+02:00 web systemd: Started",
            "2024-05-01T10:00:00.123Z",
            None,
            [b"process_web_systemd"],
        ),
        (
            "syslog",
            b"Jun 14 15:16:01 combo last words",
            "2024-06-14T15:16:01Z",
            None,
            [b"host_combo"],
        ),
        (
            "syslog5424",
            b'<165>1 2003-10-11T22:14:15.003Z host evntslog - ID47 [e@1 a="]\\""][x] An event',
            "2003-10-11T22:14:15.003Z",
            None,
            [b"process_host_evntslog"],
        ),
        (
            "apache-error",
            b"[Wed Oct 11 14:32:52.123456 2017] [core:error] [pid 3:tid] [client 72.15.99.18:4] x",
            "2017-10-11T14:32:52.123Z",
            b"error",
            [b"client_72.15.99.18"],
        ),
        (
            "combined",
            b'::1 - - [17/May/2015:10:05:03 +0000] "\\x16\\x03" 400 0 "-" "-"',
            "2015-05-17T10:05:03Z",
            None,
            [b"client_::1"],
        ),
        (
            "hadoop",
            b"2015-10-18 18:01:47,978 WARN [a [b]] org.X: task_1_0002_m_000003 of job_1_0002",
            "2015-10-18T18:01:47.978Z",
            b"WARN",
            [b"task_1_0002_m_000003", b"job_1_0002"],
        ),
        (
            "json",
            b'{"ts": 1714564800.5, "severity": "WARN", "msg": "\xc3\xa9", "trace": {"id": "ab"}}',
            "2024-05-01T12:00:00.500Z",
            b"WARN",
            [b"trace_ab"],
        ),
        (
            "logfmt",
            b'time=2024-05-01T12:00:00Z lvl=warn msg="a \\"b\\"" ip=10.0.0.1 debug',
            "2024-05-01T12:00:00Z",
            b"warn",
            [b"client_10.0.0.1"],
        ),
    ],
)
def test_lines_of_the_formats(
    name: str, line: bytes, time: str, level: bytes | None, keys: list[bytes]
) -> None:
    event = Interpreter(BUILTIN[name], year_hint_ms=HINT).parse_line(line, 1)
    assert event is not None
    assert event.time_ms is not None
    assert format_time_ms(event.time_ms) == time
    assert (event.level, event.keys) == (level, keys)


def test_a_log_of_no_known_form_is_plain_lines_and_the_reason_says_so() -> None:
    found = detect([b"dear diary", b"today it rained"])
    assert found.format.name == "plain"
    assert "no known format fits half" in found.reason
    assert detect([]).format.name == "plain"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_log_in_utf_16_is_said_to_be_one(encoding: str) -> None:
    text = "\ufeff" + "2026-11-22 10:00:00 INFO one: begins\n" * 3
    found = detect(text.encode(encoding).split(b"\n"))
    assert found.format is BUILTIN["plain"]
    assert "the text is UTF-16" in found.reason


def test_some_garbage_at_the_start_does_not_hide_the_format() -> None:
    lines = [b"\xff\xfe\0", b"### log opened", *[BUILTIN["hdfs"].example] * 4]
    found = detect(lines)
    assert found.format.name == "hdfs"
    assert found.reason == "hdfs: 4 of the first 6 lines have its form"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FormatError, match="no format 'w3c'; there are hdfs, "):
        format_named("w3c")


def test_a_format_must_have_the_fields_it_uses() -> None:
    with pytest.raises(LayoutError, match="has no field 'user'; it has content, host"):
        make_format("x", layouts=["<host> <content>"], keys=["user -> user_{}"])


def test_formats_of_ones_own_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "formats.toml"
    path.write_text(
        """
        [formats.shop]
        layout = '<time:iso> <level> <content>'
        keys = ['content ~ req-<hex> -> request_{}']

        [formats.old]
        regex = '(?P<time>\\d+) (?P<user>\\w+) (?P<content>.*)'
        time = '%s'
        key = 'user -> user_{}'
        """
    )
    formats = load_formats_file(path)
    line = b"2024-05-01T12:00:00Z WARN slow req-7f3a"
    event = Interpreter(formats["shop"]).parse_line(line)
    assert event is not None
    assert event.keys == [b"request_7f3a"]
    assert detect([line], formats).format.name == "shop"
    event = Interpreter(formats["old"]).parse_line(b"1714564800 ann logs in")
    assert event is not None
    assert (event.time_ms, event.keys) == (1_714_564_800_000, [b"user_ann"])
    assert (event.content, event.level) == (b"logs in", None)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[formats.x]\nlayout = 3", "layout must be a list of texts"),
        ("[formats.x]\nlayuot = 'a'", "unknown entry 'layuot'"),
        ("[formats.x]\nlayout = '<a'", "does not end with '>'"),
        ("[formats.x]\nregex = '('", "not a regular expression"),
        ("[formats.x]\nregex = 'a'", "no named group"),
        ("[formats.x]\nkind = 'xml'", "the kinds are json and logfmt"),
        ("[formats.x]\ntitle = 'nothing'", "give a layout, or a regex, or a kind"),
        ("[other]\n", "expected tables"),
        ("[formats", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "formats.toml"
    path.write_text(text)
    with pytest.raises(FormatError, match=complaint) as refused:
        load_formats_file(path)
    assert str(refused.value).count(str(path)) == 1


def test_a_format_of_ones_own_stands_for_a_known_one_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "formats.toml"
    path.write_text(
        "[formats.hdfs]\nlayout = '<level> at <host>: <content>'\nkey = 'host -> {}'\n"
        "[formats.plain]\nlayout = '<host>|<content>'\nkey = 'host -> {}'\n"
    )
    formats = load_formats_file(path)
    assert detect([b"INFO at h1: hello"], formats).format is formats["hdfs"]
    assert detect([b"h1|hello"], formats).format is formats["plain"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="No such file"):
        load_formats_file(tmp_path / "none.toml")
