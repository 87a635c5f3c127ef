"""How the books of a run are shown: a bar while it goes on, a report at its end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from kvclient.text import shown

if TYPE_CHECKING:
    from parser.report import Report

__all__ = ["Bar", "print_report", "size_of"]


class Bar:
    """A bar of bytes with lines a second on stderr; nothing at all when that is no terminal."""

    def __init__(self, report: Report, *, quiet: bool) -> None:
        self._report = report
        self._started = time.monotonic()
        self._progress: Any = None
        self._task: Any = None
        if quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[lines]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, lines="")
        self._progress.start()

    async def run(self) -> None:
        """Redraw until cancelled."""
        import trio

        while self._progress is not None:
            self.draw()
            await trio.sleep(0.1)

    def draw(self) -> None:
        """Show how far the run is."""
        report = self._report
        rate = report.lines / max(time.monotonic() - self._started, 0.001)
        text = f"{report.lines:,} lines  {rate:,.0f}/s"
        if report.unparsed:
            text += f"  {report.unparsed:,} unparsed"
        self._progress.update(
            self._task,
            total=report.total_bytes or None,
            completed=min(report.read_bytes, report.total_bytes),
            lines=text,
        )

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()


def print_report(report: Report) -> None:
    """Print the books for people."""
    rows: list[tuple[str, str]] = [
        ("lines", f"{report.lines:,}"),
        ("matched", f"{report.matched:,}"),
        ("unparsed", f"{report.unparsed:,}"),
        ("skipped", f"{report.skipped:,}  (no key in it)" if report.skipped else "0"),
    ]
    if report.continued:
        rows.append(("continued", f"{report.continued:,}  (joined to the line before)"))
    rows += [
        ("new keys", f"{report.new_keys:,}"),
        ("seconds", f"{report.seconds:.2f}"),
        ("lines/s", f"{report.lines_per_second:,}"),
    ]
    if report.counted_before_bytes:
        rows.append(
            ("counted before", f"{size_of(report.counted_before_bytes)}, not counted again")
        )
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")
    if len(report.formats) == 1:
        click.echo(f"{'format':<{width}}  {shown(next(iter(report.formats.values())))}")


def size_of(size: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
