"""``kvcli demo``: the whole way from a log to an answer, on a log made up for it.

Everything it makes lives in one temporary directory and two processes; all of it is gone at the
end, also after Ctrl-C, SIGTERM or a failure.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from kvclient.cli._failures import fail
from kvclient.cli._output import echo_json
from kvclient.cli._settings import Settings, pass_settings
from kvclient.text import shown

if TYPE_CHECKING:
    from rich.console import Console

    from kvclient.client import Client

__all__ = ["demo"]

LOOK_UPS: Final = 1000
CANDIDATES: Final = 500
"""Blocks among which the one to show is chosen."""

NEXT: Final = (
    ("kvserver", "run a store of your own; it keeps its data in ./kvdata"),
    ("kvcli ingest /var/log/syslog", "put a log into it; the format is detected"),
    ("kvcli ingest --follow app.log", "and stay with it while it grows"),
    ("kvcli top --by errors", "which keys have the most errors?"),
    ("kvcli templates", "what kinds of lines are there?"),
    ("redis-cli -p 7379 get KEY", "any Redis client reads the same"),
    ("kvcli --help", "everything else"),
)


@dataclass(slots=True)
class Story:
    """What happened, for ``--json``."""

    lines: int = 0
    bytes: int = 0
    generate_seconds: float = 0.0
    ingest: dict[str, Any] | None = None
    ingest_seconds: float = 0.0
    keys: int = 0
    key: str = ""
    summary: dict[str, Any] | None = None
    look_up_ms: float = 0.0


@click.command(short_help="Show the whole way, from a log to an answer.")
@click.option(
    "--lines", type=click.IntRange(100), default=200_000, show_default=True, help="Lines of log."
)
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed, another log.")
@pass_settings
def demo(settings: Settings, lines: int, seed: int) -> None:
    """Show the whole way: make a log, start a server, count the log, look one block up.

    Needs nothing and leaves nothing behind.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    story = Story()
    with tempfile.TemporaryDirectory(prefix="kvstore-demo-") as name:
        if settings.json:
            _play(story, Path(name), lines, seed, None)
        else:
            from kvclient.cli._console import Screen

            _play(story, Path(name), lines, seed, Screen(highlight=False, soft_wrap=True))
    if settings.json:
        echo_json(asdict(story))


def _stop(number: int, _: Any) -> NoReturn:
    raise SystemExit(128 + number)


def _play(story: Story, directory: Path, lines: int, seed: int, console: Console | None) -> None:
    from kvclient.client import Client
    from kvclient.processes import running_server

    log = directory / "hdfs.log"
    say = console.print if console is not None else _nothing
    say()
    with _step(console, "making a log"):
        story.generate_seconds = _generate(story, log, lines, seed)
    say(
        f"[green]●[/] {story.lines:,} lines of an HDFS-like log "
        f"[dim]{story.bytes / 1e6:.1f} MB in {story.generate_seconds:.1f} s[/]"
    )
    with ExitStack() as stack:
        with _step(console, "starting a server"):
            address = stack.enter_context(running_server(directory / "data"))
        say(f"[green]●[/] a server on {address} [dim]its data in {directory}/data[/]")
        with _step(console, "counting it"):
            story.ingest_seconds, story.ingest = _ingest(log, address)
        client = stack.enter_context(Client(f"redis://{address}"))
        story.keys = client.size()
        story.key = _interesting(client)
        story.summary = client.summary(story.key)
        story.look_up_ms = _look_up_ms(client, story.key)
        if console is not None:
            _tell(console, story, client)


def _nothing(*_: Any) -> None:
    pass


@contextmanager
def _step(console: Console | None, what: str) -> Iterator[None]:
    if console is None or not console.is_terminal:
        yield
        return
    with console.status(f"{what} …"):
        yield


def _generate(story: Story, log: Path, lines: int, seed: int) -> float:
    from parser.synthetic import generate

    started_s = time.perf_counter()
    with log.open("wb") as file:
        for chunk in generate("hdfs", lines, seed):
            file.write(chunk)
            story.lines += chunk.count(b"\n")
    story.bytes = log.stat().st_size
    return time.perf_counter() - started_s


def _ingest(log: Path, address: str) -> tuple[float, dict[str, Any]]:
    """Run ``kvcli ingest`` and return how long it took and its report."""
    from kvclient.processes import program, started

    command = program("kvclient", "--url", f"redis://{address}", "--json", "ingest", str(log))
    started_s = time.perf_counter()
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        said, complaint = process.communicate()
        if process.returncode != 0:
            last = complaint.strip().splitlines()[-1:] or [f"exit {process.returncode}"]
            fail(f"the ingest failed: {last[0].removeprefix('kvcli: ')}")
    report: dict[str, Any] = json.loads(said)
    return time.perf_counter() - started_s, report


def _interesting(client: Client) -> str:
    """Return a block with a story: one that has a warning or an error, of usual length."""
    names: list[bytes] = []
    for page in client.scan("block_*", count=CANDIDATES):
        names += page
        if len(names) >= CANDIDATES:
            break
    if not names:
        fail("the store holds no block after the ingest")
    best, best_rank = names[0], (-1, 0)
    for name, value in zip(names, client.pipeline([("GET", n) for n in names]), strict=True):
        summary = json.loads(value)
        rank = (len(summary.get("levels", {})), -abs(summary["count"] - 20))
        if rank > best_rank:
            best, best_rank = name, rank
    return best.decode("utf-8", "surrogateescape")


def _look_up_ms(client: Client, key: str) -> float:
    took: list[float] = []
    for _ in range(LOOK_UPS):
        started_s = time.perf_counter()
        client.get(key)
        took.append(time.perf_counter() - started_s)
    return round(statistics.median(took) * 1000, 4)


def _tell(console: Console, story: Story, client: Client) -> None:
    from kvclient.cli._summary import events_of, summary_view

    assert story.ingest is not None
    assert story.summary is not None
    report, summary = story.ingest, story.summary
    rate = report.get("lines_per_second", 0)
    console.print(
        f"[green]●[/] counted into {story.keys:,} summaries, one for each block "
        f"[dim]{report.get('seconds', 0):.1f} s, {rate:,.0f} lines/s[/]"
    )
    console.print()
    console.print(f"[bold]$ kvcli get {shown(story.key)}[/]")
    lines = events_of(client, summary)
    with console.capture() as captured:
        console.print(summary_view(story.key, summary, lines))
    for line in captured.get().splitlines():
        click.echo(f"  {line.rstrip()}")
    console.print(
        f"[dim]  the same look-up {LOOK_UPS:,} times: {story.look_up_ms:.2f} ms in the middle[/]"
    )
    console.print()
    console.print(f"[bold]The books[/]  {_books(report)}")
    console.print()
    console.print("[bold]What to try next[/]")
    width = max(len(command) for command, _ in NEXT)
    for command, why in NEXT:
        console.print(f"  [cyan]{command:<{width}}[/]  [dim]{why}[/]")
    console.print()


def _books(report: dict[str, Any]) -> str:
    lines = report.get("lines", 0)
    parts = {
        name: report[name]
        for name in ("matched", "unparsed", "skipped", "continued")
        if name in report
    }
    told = " + ".join(
        f"{n:,} {name}" for name, n in parts.items() if n or name in {"matched", "unparsed"}
    )
    mark = "[green]✓[/]" if sum(parts.values()) == lines else "[red]do not balance[/]"
    return f"{lines:,} lines = {told} {mark}"
