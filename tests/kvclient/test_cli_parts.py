"""The parts commands are made of: times people type, figures people read, replies as text."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from kvclient.cli import LAZY, SECTIONS, backup, cli, keys
from kvclient.cli._dashboard import Dashboard, flat, size_text, sparkline, told
from kvclient.cli._output import table
from kvclient.cli._summary import span, summary_view
from kvclient.cli._values import duration, duration_s, moment_ms
from kvclient.cli.look import errors_in, rate_of
from kvclient.cli.store import as_json, reply_lines
from kvclient.errors import ReplyError
from kvclient.text import bytes_as_json, shown
from parser.synthetic import generate
from tests.support import run_kvcli, start_server

if TYPE_CHECKING:
    from rich.console import RenderableType


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("500ms", 0.5), ("15m", 900), ("1h30m", 5400), ("7d", 604_800)],
)
def test_a_duration_is_a_number_with_or_without_a_unit(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "-5", "0", "1_0", "5 5x", "1e9w", "9999999w"])
def test_what_is_no_duration_is_a_mistake_of_the_user(text: str) -> None:
    with pytest.raises(click.BadParameter):
        duration(text)


NOW_S = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("now", 1_700_000_000_000),
        ("15m", 1_699_999_100_000),
        ("2h ago", 1_699_992_800_000),
        ("1600000000", 1_600_000_000_000),
        ("1600000000.5", 1_600_000_000_500),
        ("1600000000123", 1_600_000_000_123),
        ("2008-11-09", 1_226_188_800_000),
        ("2008-11-09T20:35:18Z", 1_226_262_918_000),
        ("2008-11-09 20:35:18", 1_226_262_918_000),
        ("2008-11-09T20:35:18+01:00", 1_226_259_318_000),
    ],
)
def test_a_moment_is_absolute_or_so_long_ago(text: str, ms: int) -> None:
    assert moment_ms(text, NOW_S) == ms


@given(st.text(max_size=30))
def test_any_other_text_is_a_value_error_and_nothing_else(text: str) -> None:
    for read in (duration_s, lambda text: moment_ms(text, NOW_S)):
        with contextlib.suppress(ValueError):
            read(text)


@given(st.binary(max_size=30))
def test_what_is_shown_cannot_move_the_cursor(data: bytes) -> None:
    assert shown(data).isprintable() or not data


def test_bytes_are_text_in_json_when_they_are_text() -> None:
    assert bytes_as_json("é".encode()) == "é"
    assert bytes_as_json(b"\xff") == {"base64": "/w=="}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (59, "59 s"), (111, "1 min 51 s"), (3600, "1 h 0 min"), (90_061, "1 d 1 h")],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (1 << 50, "1,048,576.0 GiB"),
    ],
)
def test_bytes_have_the_unit_that_fits(size: int, text: str) -> None:
    assert size_text(size) == text


def test_a_figure_is_told_by_what_its_name_says() -> None:
    assert told("journal_bytes", 2048) == "2.0 KiB"
    assert told("keys", 1_234_567) == "1,234,567"
    assert told("p99", 2.5) == "2.5"
    assert told("running", True) == "yes"
    assert told("error", None) == "-"
    assert told("list", [1, 2]) == "2 entries"
    assert len(told("text", "x" * 500)) <= 60


def test_the_screen_shows_figures_it_has_never_heard_of() -> None:
    from rich.console import Console

    console = Console(width=120, force_terminal=False)
    board = Dashboard("here:1")
    board.view({"keys": 5, "commands": 100, "new_thing": {"deep": 7}}, 10.0)
    with console.capture() as captured:
        figures = {"keys": 6, "commands": 300, "new_thing": {"deep": 8}, "latency_us": {"get": {}}}
        console.print(board.view(figures, 12.0))
    text = captured.get()
    assert "100 commands/s" in text
    assert "new_thing" in text
    assert "deep" in text


FIGURES = {
    "keys": 1_234_567,
    "last_ingest_ms": 1_795_353_852_232,
    "ingested_bytes": 958_400,
    "journal_status": "ok",
    "latency_us": {"get": {"p50": 12, "p99": 34_567}},
}


def drawn(view: RenderableType, columns: int) -> str:
    """What a screen of so many columns shows; a line that would not fit fails."""
    from rich.console import Console

    console = Console(width=columns, force_terminal=False)
    with console.capture() as captured:
        console.print(view)
    text = captured.get()
    assert max(len(line) for line in text.splitlines()) <= columns
    return text


def test_a_narrow_screen_shows_every_figure_whole() -> None:
    board = Dashboard("127.0.0.1:12345")
    board.view({**FIGURES, "commands": 100}, 10.0)
    text = drawn(board.view({**FIGURES, "commands": 3100}, 11.0), 20)
    for whole in ("1,234,567", "1,795,353,852,232", "935.9 KiB", "3,000/s", "34,567", "ok"):
        assert whole in " ".join(text.split())
    assert "╭" not in text
    assert "╭" in drawn(board.view(FIGURES, 12.0), 80)


def test_a_narrow_summary_shows_its_times_whole() -> None:
    summary = {"count": 2, "first": "2008-11-09T20:35:18Z", "last": "2008-11-10T08:12:44Z"}
    text = drawn(summary_view("block_1", summary, []), 20)
    assert "2008-11-09T20:35:18Z" in "".join(text.split())
    assert "…" not in text


def test_a_table_too_wide_for_the_screen_is_a_list_of_its_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        ["client_149.65.191.9", 149, 4, "2008-11-09T20:35:19Z", "GET 130"],
        ["client_121.176.215.2", 43, 0, "2008-11-09T20:35:18Z", "GET 36"],
    ]
    columns = ["key", "events", "errors", "first", "levels"]
    monkeypatch.setenv("COLUMNS", "20")
    table(rows, columns, title="two keys", right=["events", "errors"])
    assert capsys.readouterr().out.splitlines() == [
        "two keys",
        "client_149.65.191.9",
        "events  149         ",
        "errors  4           ",
        "first   2008-11-09T2",
        "        0:35:19Z    ",
        "levels  GET 130     ",
        "",
        "client_121.176.215.2",
        "events  43          ",
        "errors  0           ",
        "first   2008-11-09T2",
        "        0:35:18Z    ",
        "levels  GET 36      ",
    ]
    monkeypatch.setenv("COLUMNS", "80")
    table(rows, columns)
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("columns", [20, 40, 120])
def test_a_histogram_has_counts_and_bars_however_narrow_the_screen(
    tmp_path: Path, columns: int
) -> None:
    log = tmp_path / "hdfs.log"
    log.write_bytes(b"".join(generate("hdfs", 3000, 5)))
    done = CliRunner().invoke(
        cli, ["log", "histogram", str(log), "--rows", "5"], env={"COLUMNS": str(columns)}
    )
    assert done.exit_code == 0
    *rows, _ = done.output.split("a row is ")
    counts = re.findall(r"Z\s+([\d,]+) [█▏▎▍▌▋▊▉]", rows[0])
    assert sum(int(count.replace(",", "")) for count in counts) == 3000
    assert max(len(line) for line in done.output.splitlines()) <= columns


def test_nested_figures_have_dotted_names() -> None:
    assert flat({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}


def test_the_tallest_bar_is_the_largest_value() -> None:
    assert sparkline(deque([0, 50, 100])) == "▁▅█"
    assert sparkline(deque()) == ""


def test_errors_come_from_levels_or_else_from_the_status() -> None:
    status = {"status": {"500": 3, "503": 1, "200": 9, "50": 7}}
    assert errors_in({"levels": {"error": 2, "FATAL": 1, "INFO": 9}, "tags": status}) == 3
    assert errors_in({"tags": status}) == 4
    assert errors_in({}) == 0


def test_a_rate_needs_a_span_of_time() -> None:
    times = {"first": "2024-01-01T00:00:00Z", "last": "2024-01-01T00:00:10Z"}
    assert rate_of({"count": 20, **times}) == 2.0
    assert rate_of({"count": 20, "first": times["first"], "last": times["first"]}) == 0.0
    assert rate_of({"count": 20, "first": None, "last": None}) == 0.0


def test_any_reply_has_a_form_for_people_and_one_for_programs() -> None:
    reply = [b"a", None, 5, {b"k": [1, []]}, ReplyError("ERR x"), True, 2.5, b"\x1b[2J\xff"]
    assert reply_lines(reply) == [
        "1) a",
        "2) (nil)",
        "3) (integer) 5",
        "4) 1# k => 1) (integer) 1",
        "      2) (empty list)",
        "5) (error) ERR x",
        "6) (true)",
        "7) 2.5",
        r"8) \x1b[2J\xff",
    ]
    assert as_json(reply)[:6] == ["a", None, 5, {"k": [1, []]}, {"error": "ERR x"}, True]


def test_every_command_is_in_a_section_and_has_a_line_of_help() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(LAZY)
    context = click.Context(cli)
    for name in LAZY:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(), name


def test_a_server_with_a_password_lets_in_who_knows_it(tmp_path: Path) -> None:
    server = start_server(tmp_path, env={"KVSERVER_PASSWORD": "p@ss/word"})
    try:
        refused = run_kvcli("--url", server.url, "ping")
        assert refused.returncode == 1
        assert refused.stderr.startswith("kvcli: the server wants a password")
        wrong = run_kvcli("--url", f"redis://:no@127.0.0.1:{server.port}", "ping")
        assert wrong.returncode == 1
        url = f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}"
        assert run_kvcli("--url", url, "ping").stdout == "PONG\n"
        done = run_kvcli("--url", server.url, "ping", KVCLI_PASSWORD="p@ss/word")
        assert done.stdout == "PONG\n"
        unreachable = run_kvcli("--url", "redis://:p@127.0.0.1:1", "ping")
        assert ":p@" not in unreachable.stderr
    finally:
        server.stop()


def test_a_unix_socket_is_an_address_too(tmp_path: Path) -> None:
    path = Path(os.path.relpath(tmp_path)) / "s"  # short: the system takes about 100 bytes
    server = start_server(tmp_path / "data", "--unix-socket", str(path))
    try:
        done = run_kvcli("--url", f"unix://{path.resolve()}", "ping")
        assert done.stdout == "PONG\n", done.stderr
    finally:
        server.stop()


@pytest.mark.parametrize("module", ["kvclient", "kvserver"])
@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        (">/dev/full", 1, "No space left on device\n"),
    ],
)
def test_standard_streams_that_are_closed_or_full_are_no_traceback(
    module: str, redirected: str, status: int, said: str
) -> None:
    if "/dev/full" in redirected and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m {module} --help {redirected}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert done.stderr.partition(": ")[2] == said


class Compacting:
    """A server in the middle of a compaction of its own."""

    def __init__(self) -> None:
        self.runs = 0
        self.running = True
        self.asked = 0

    def stats(self) -> dict[str, object]:
        said = {
            "journal_bytes": 1000 >> self.runs,
            "compaction_running": int(self.running),
            "compaction_runs": self.runs,
            "compaction_failed_runs": 0,
            "compaction_last_duration_s": "0.5",
        }
        if self.running:  # it ends right after somebody has looked
            self.running, self.runs = False, self.runs + 1
        return said

    def execute(self, command: str) -> None:
        assert command == "BGREWRITEAOF"
        assert not self.running
        self.asked += 1
        self.running = True


def test_compact_waits_for_a_compaction_that_runs_and_then_starts_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Compacting()
    monkeypatch.setattr(backup, "open_client", lambda _: contextlib.nullcontext(server))
    done = CliRunner().invoke(cli, ["--json", "compact"])
    assert done.exit_code == 0
    assert server.asked == 1
    assert json.loads(done.output) == {"bytes_before": 500, "bytes_after": 250, "seconds": 0.5}
    server.running = True
    done = CliRunner().invoke(cli, ["compact", "--no-wait"])
    assert (done.exit_code, server.asked) == (1, 1)
    assert "one is running already" in done.output


def test_a_value_that_no_server_takes_is_refused_before_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keys, "MAX_VALUE_BYTES", 10)
    done = CliRunner().invoke(cli, ["--port", "1", "set", "key", "-"], input=b"x" * 11)
    assert (done.exit_code, done.output) == (
        1,
        "kvcli: a value may have 10 bytes at most; this one has more\n",
    )
    done = CliRunner().invoke(cli, ["--port", "1", "raw", "client", "reply", "off"])
    assert done.exit_code == 1
    assert "each kvcli command has one of its own" in done.output
