"""Whatever a file holds, a command over it ends with an answer or one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kvclient.cli import cli

HDFS = b"081109 203615 148 INFO dfs.DataNode: Served block blk_38 to /10.0.0.1"
JSON = b'{"time": "2024-05-01T12:00:00Z", "level": "WARN", "msg": "n 1", "request_id": "a"}'
LINES = st.one_of(
    st.sampled_from(
        [
            HDFS,
            JSON,
            b"",
            b" ",
            b"\xef\xbb\xbf" + HDFS,
            HDFS + b"\r",
            b"\tat blk_5",
            b'{"a":',
            b"\0",
        ]
    ),
    st.binary(max_size=40),
    st.builds(
        lambda line, at, junk: line[:at] + junk + line[at:],
        st.sampled_from([HDFS, JSON]),
        st.integers(0, 80),
        st.binary(max_size=3),
    ),
)
LOGS = st.lists(LINES, max_size=12).map(b"\n".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("garbage") / "any.log"


def answer(*arguments: str) -> tuple[int, bytes]:
    done = CliRunner().invoke(cli, ["log", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "Traceback" not in done.stderr
    return done.exit_code, done.stdout_bytes


@settings(max_examples=40)
@given(log=LOGS, form=st.sampled_from(["auto", "hdfs", "json", "logfmt", "plain", "log4j"]))
def test_no_content_makes_a_command_fail_without_saying_why(
    path: Path, log: bytes, form: str
) -> None:
    path.write_bytes(log)
    name = str(path)
    code, said = answer("parse", name, "--format", form)
    assert code == 0
    events = [json.loads(line) for line in said.splitlines()]
    code, said = answer("stats", name, "--format", form, "--json")
    assert code == 0
    told = json.loads(said)
    assert told["events"] == sum("content" in event for event in events)
    assert told["unparsed"] == sum("unparsed" in event for event in events)
    assert sum(level["count"] for level in told["levels"].values()) == told["events"]
    code, _ = answer("histogram", name, "--format", form)
    assert code in {0, 1}
    code, said = answer("grep", name, "--stats", "--json", "blk_|[^x]$")
    assert code in {0, 1}
    lines = log.count(b"\n") + (log != b"" and not log.endswith(b"\n"))
    assert json.loads(said)["lines"] == told["lines"] == lines
    for command in ("read", "tail"):
        code, said = answer(command, name)
        assert code == 0
        assert said in log
