"""Whatever is done to logs while they are counted, every line is counted once.

A state machine appends, rotates, truncates, compresses, copies and deletes logs of a directory, and
in between follows them, ingests them, and lets either of the two die at any commit, before or after
the store took it. Every line holds a key of its own, so that one counted twice or not at all shows.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from parser.fingerprint import SURE_BYTES
from parser.follow import Follower
from parser.followed import FINAL_S
from parser.formats import format_named
from parser.recipe import Recipe
from parser.run import Reading, run
from parser.sink import Commit, MemorySink, Outcome, SinkGone
from parser.source import Input


class Dying(MemorySink):
    """A store whose connection breaks at the n-th commit, before or after it was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.dies_in: int | None = None
        self.after = False

    async def commit(self, commits: Sequence[Commit]) -> list[Outcome]:
        outcomes = []
        for commit in commits:
            if self.dies_in is not None:
                self.dies_in -= 1
                if self.dies_in < 0:
                    self.dies_in = None
                    if self.after:
                        self.take(commit)
                    raise SinkGone("gone")
            outcomes.append(self.take(commit))
        return outcomes


def recipe_of(_: Input, __: bytes) -> Recipe:
    return Recipe(format_named("hdfs"), multiline=True)


class Logs(RuleBasedStateMachine):
    """The directory, who reads it, and what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="kvstore-test-"))
        self.live = self.root / "app.log"
        self.sink = Dying()
        self.now_s = 0.0
        self.written = 0
        self.files = 0
        self.rest = b""
        self.rotated: list[Path] = []
        self.follower = self.new_follower()

    def new_follower(self) -> Follower:
        return Follower([str(self.root)], self.sink, recipe_of, clock_s=lambda: self.now_s)

    def line(self) -> bytes:
        """Return a line that is `SURE_BYTES` long: a log that was shorter when it was last looked
        at, and was copied since it grew, cannot be told from another one."""
        self.written += 1
        n = self.written
        line = b"081109 %06d %d INFO dfs.DataNode: got blk_%d" % (n % 60, n, n)
        return line.ljust(SURE_BYTES, b".") + b"\n"

    def add(self, data: bytes) -> None:
        with self.live.open("ab") as file:
            file.write(data)

    def new_path(self, name: str) -> Path:
        self.files += 1
        return self.root / f"{name}.{self.files}"

    # ------------------------------------------------------------------------------- what happens

    @rule(n=st.integers(1, 40))
    def append(self, n: int) -> None:
        self.add(self.rest + b"".join(self.line() for _ in range(n)))
        self.rest = b""

    @precondition(lambda self: not self.rest)
    @rule(part=st.floats(0.1, 0.9))
    def append_half_a_line(self, part: float) -> None:
        line = self.line()
        at = int(len(line) * part)
        self.add(line[:at])
        self.rest = line[at:]

    def end_line(self) -> None:
        if self.rest:
            self.add(self.rest)
            self.rest = b""

    @precondition(lambda self: self.live.exists())
    @rule()
    def rotate_by_renaming(self) -> None:
        self.end_line()
        path = self.new_path("app.log")
        self.live.rename(path)
        self.rotated.append(path)

    @precondition(lambda self: self.live.exists())
    @rule(more=st.integers(0, 60))
    def rotate_by_copying_and_truncating(self, more: int) -> None:
        self.end_line()
        path = self.new_path("app.log")
        shutil.copy(self.live, path)
        os.truncate(self.live, 0)
        self.rotated.append(path)
        if more:
            self.add(b"".join(self.line() for _ in range(more)))

    @precondition(lambda self: self.rotated)
    @rule(which=st.integers(0, 9))
    def compress(self, which: int) -> None:
        path = self.rotated.pop(which % len(self.rotated))
        packed = path.with_name(path.name + ".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()

    @precondition(lambda self: self.rotated)
    @rule(which=st.integers(0, 9))
    def copy(self, which: int) -> None:
        shutil.copy(self.rotated[which % len(self.rotated)], self.new_path("copy.log"))

    @precondition(lambda self: self.rotated)
    @rule(which=st.integers(0, 9))
    def delete_what_is_counted(self, which: int) -> None:
        self.sink.dies_in = None
        self.look()
        self.look()
        self.rotated.pop(which % len(self.rotated)).unlink()

    # --------------------------------------------------------------------------------- who reads

    def go(self, what: Coroutine[Any, Any, Any]) -> Any:
        async def main() -> Any:
            return await what

        return trio.run(main)

    @rule(pause_s=st.sampled_from([0.0, 0.2, 1.0, FINAL_S + 1]))
    def look(self, pause_s: float = 1.0) -> None:
        try:
            while self.go(self.follower.poll()):
                pass
        except SinkGone:
            self.crash()
        self.now_s += pause_s

    @precondition(lambda self: not self.rest)
    @rule(range_bytes=st.sampled_from([60, 500, 10**6]))
    def ingest(self, range_bytes: int) -> None:
        reading = Reading(format="hdfs", range_bytes=range_bytes)
        report = self.go(self.ingest_once(reading))
        assert report is None or not [p for p in report.problems if p.reason != "is empty"]

    async def ingest_once(self, reading: Reading) -> Any:
        try:
            return await run([str(self.root)], self.sink, reading, catch_signals=False)
        except SinkGone:
            return None

    @rule()
    def crash(self) -> None:
        self.follower.close()
        self.follower = self.new_follower()

    @rule(commits=st.integers(0, 5), after=st.booleans())
    def the_store_will_go_away(self, commits: int, after: bool) -> None:
        self.sink.dies_in, self.sink.after = commits, after

    # ------------------------------------------------------------------------------ what must hold

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        assert all(summary.count == 1 for summary in self.sink.summaries().values())

    def teardown(self) -> None:
        try:
            self.end_line()
            self.sink.dies_in = None
            for _ in range(4):
                self.look(FINAL_S + 1)
            counted = {int(key.removeprefix(b"block_")) for key in self.sink.deltas}
            assert counted == set(range(1, self.written + 1))
            self.nothing_is_counted_twice()
            infos = self.go(self.sink.sources())
            assert sum(info.books.get("lines", 0) for info in infos) == self.written
            self.follower.close()
        finally:
            self.follower.close()
            shutil.rmtree(self.root)


TestLogs = Logs.TestCase
TestLogs.settings = settings(stateful_step_count=30)
