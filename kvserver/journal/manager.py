"""Decides when to compact, runs the child, and puts its result into the manifest.

One compaction, step by step; a crash between any two leaves a directory that recovers to the same
data::

    1  rotate, so that everything up to now is in closed files
    2  child: base under a temporary name, sync, rename, sync of the directory
    3  manifest: the new base instead of the files it stands for
    4  only then remove those files, sync of the directory

It starts on request, or when more has been written since the last base than a ratio of its size
(and than a minimum), and the whole journal has outgrown, by the same ratio, the strings that are
there: of a journal of new keys a compaction would only make a copy. After a failure it waits, twice
as long after each more, and says why in its statistics. The files of a failed or interrupted run
are removed, at the latest by the next start.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio

from kvserver.errors import CommandError, JournalError
from kvserver.journal import manifest as manifests
from kvserver.journal.compaction import BUDGET_BYTES
from kvserver.journal.compactor import task_line
from kvserver.journal.manifest import Entry
from kvserver.journal.service import JournalService
from kvserver.journal.writer import Journal

log = logging.getLogger("kvserver.journal")

DEFAULT_MIN_BYTES = 64 << 20
DEFAULT_RATIO = 1.0
TICK_S = 0.5
FIRST_BACKOFF_S = 60.0
MAX_BACKOFF_S = 3600.0
MAX_ANSWER_BYTES = 64 << 10


class CompactionManager:
    """Keeps the journal short."""

    def __init__(
        self,
        service: JournalService,
        *,
        min_bytes: int = DEFAULT_MIN_BYTES,
        ratio: float = DEFAULT_RATIO,
        max_patterns: int = 10_000,
        budget_bytes: int = BUDGET_BYTES,
        first_backoff_s: float = FIRST_BACKOFF_S,
        command: Sequence[str] = (sys.executable, "-m", "kvserver.journal.compactor"),
        now_s: Callable[[], float] = time.monotonic,
        live_bytes: Callable[[], int] = lambda: 0,
        on_success: Callable[[], None] = lambda: None,
    ):
        """Prepare to compact the journal of a service.

        Args:
            service: keeps the journal.
            min_bytes: debt below which nothing is done.
            ratio: debt allowed for each byte of the base, and journal for each byte that is live
                beside that byte itself.
            max_patterns: the bound of the catalogue.
            budget_bytes: memory for the child.
            first_backoff_s: how long to wait after a failure.
            command: the child.
            now_s: a monotonic clock.
            live_bytes: returns at least how many bytes a base would have, estimated; asked twice a
                second while the debt is large enough.
            on_success: called after each compaction.
        """
        self.min_bytes = min_bytes
        self.ratio = ratio
        self.running = False
        self.runs = 0
        self.failures = 0
        """Failures in a row; a success forgets them."""
        self.failed_runs = 0
        self.last_error = ""
        self.last_duration_s = 0.0
        self._service = service
        self._max_patterns = max_patterns
        self._budget_bytes = budget_bytes
        self._first_backoff_s = first_backoff_s
        self._command = command
        self._now_s = now_s
        self._estimate_live_bytes = live_bytes
        self._live_bytes = 0
        self._on_success = on_success
        self._not_before_s = 0.0
        self._requested = False
        self._wake = trio.Event()

    @property
    def journal(self) -> Journal:
        """The journal that is kept short."""
        return self._service.journal

    @property
    def debt_bytes(self) -> int:
        """Bytes written since the last base: what a compaction would fold."""
        return self.journal.total_bytes - self._base_bytes

    @property
    def _base_bytes(self) -> int:
        entries = self.journal.manifest.entries
        return entries[0].size if entries[0].is_base else 0

    def due(self) -> bool:
        """Whether the journal has grown enough to be worth it, and no failure says wait."""
        if self._now_s() < self._not_before_s:
            return False
        if self.debt_bytes < max(self.min_bytes, self.ratio * self._base_bytes):
            return False
        self._live_bytes = self._estimate_live_bytes()
        return self.journal.total_bytes >= (1 + self.ratio) * self._live_bytes

    def request(self) -> bool:
        """Compact soon, even after failures; False when one is running already."""
        if self.running:
            return False
        self._requested = True
        self._wake.set()
        return True

    def start(self) -> str:
        """Like `request`, for a command: say what happens, or raise CommandError."""
        if not self.request():
            raise CommandError("ERR Background append only file rewriting already in progress")
        return "Background append only file rewriting started"

    def statistics(self) -> dict[str, int | float | str]:
        """What STATS shows."""
        return {
            "compaction_running": int(self.running),
            "compaction_debt_bytes": self.debt_bytes,
            "compaction_live_bytes": self._live_bytes,
            "compaction_runs": self.runs,
            "compaction_failures": self.failures,
            "compaction_failed_runs": self.failed_runs,
            "compaction_last_duration_s": round(self.last_duration_s, 3),
            "compaction_last_error": self.last_error,
        }

    async def run(self) -> None:
        """Look twice a second whether it is time; compact; until cancelled.

        Cancelling kills the child and removes what it wrote.
        """
        while True:
            with trio.move_on_after(TICK_S):
                await self._wake.wait()
            self._wake = trio.Event()
            if self._requested or self.due():
                self._requested = False
                await self.compact_once()

    async def compact_once(self) -> bool:
        """Run one compaction now; return whether there is a new base.

        A failure is logged, counted and remembered; only a device that failed raises.

        Raises:
            JournalFailedError: the device failed.
        """
        self.running = True
        started = self._now_s()
        try:
            await self._compact()
        except (OSError, JournalError, ValueError) as error:
            if self.journal.failed is not None:
                raise
            self.failures += 1
            self.failed_runs += 1
            self.last_error = str(error)
            backoff_s = min(MAX_BACKOFF_S, self._first_backoff_s * 2 ** (self.failures - 1))
            self._not_before_s = self._now_s() + backoff_s
            log.warning("compaction failed, next try in %.0f s: %s", backoff_s, error)
            return False
        finally:
            self.running = False
        self.runs += 1
        self.failures = 0
        self.last_error = ""
        self.last_duration_s = self._now_s() - started
        self._on_success()
        log.info("compacted to %d bytes in %.1f s", self._base_bytes, self.last_duration_s)
        return True

    async def _compact(self) -> None:
        journal = self.journal
        await self._service.rotate()
        entries = journal.manifest.closed
        if not entries or (len(entries) == 1 and entries[0].is_base):
            return
        name = journal.listing.new_base_name()
        temp = name + ".tmp"
        try:
            base = await self._run_child(entries, name)
            gone = await trio.to_thread.run_sync(journal.listing.replace_by_base, base)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(self._remove, (temp, name)))
            raise
        await trio.to_thread.run_sync(partial(self._remove, gone))

    async def _run_child(self, entries: Sequence[Entry], name: str) -> Entry:
        line = task_line(
            self.journal.fs.path, entries, name, self._budget_bytes, self._max_patterns
        )
        process = await trio.lowlevel.open_process(
            list(self._command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        answer: dict[str, bytes] = {}
        try:
            assert process.stdin is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_collect, process.stdout, "out", answer)
                nursery.start_soon(_collect, process.stderr, "err", answer)
                with contextlib.suppress(trio.BrokenResourceError):
                    await process.stdin.send_all(line)
                await process.wait()  # stdin stays open meanwhile: its end is ours
        finally:
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with trio.CancelScope(shield=True), trio.move_on_after(0):
                        await stream.aclose()
        if process.returncode:
            said = answer["err"].decode("utf-8", "replace").strip().splitlines()
            how = f"status {process.returncode}"
            raise JournalError(f"compaction child: {said[-1][:500] if said else how}")
        try:
            fields: Any = json.loads(answer["out"])
            base = Entry(**fields)
        except (ValueError, TypeError) as error:
            raise JournalError("compaction child: no answer") from error
        if base.name != name or base.last != entries[-1].last:
            raise JournalError("compaction child: an answer to another question")
        return base

    def _remove(self, names: Sequence[str]) -> None:
        """Remove files; what cannot be removed now is removed by the next start.

        Nothing once the device has failed: the list that it has may name any of them.
        """
        if self.journal.failed is not None:
            return
        fs = self.journal.fs
        listed = manifests.names_of(self.journal.manifest.entries)
        removed = False
        for name in names:
            if name not in listed:
                with contextlib.suppress(OSError):
                    fs.unlink(name)
                    removed = True
        if removed:
            with contextlib.suppress(OSError):
                fs.sync_directory()


async def _collect(stream: Any, name: str, answer: dict[str, bytes]) -> None:
    data = bytearray()
    async for chunk in stream:
        if len(data) < MAX_ANSWER_BYTES:
            data += chunk
    answer[name] = bytes(data)
