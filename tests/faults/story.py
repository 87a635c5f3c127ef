"""One short life of a journal, with everything that touches the disk, and what it promised when.

`live` runs it on a `MemoryDisk`: appends of sets, deletes, deadlines, merges and an INGEST, values
written ahead, syncs, rotations, two compactions, a full flush, an end. It leaves marks in the
disk's trace: ``started n`` before the n-th turn is appended, ``written n`` when its replies may
leave, ``durable n`` when a power cut may no longer lose it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack

from kvserver.errors import JournalError
from kvserver.journal.compaction import compact
from kvserver.journal.recovery import recover
from kvserver.journal.replay import RecoveryReport
from kvserver.journal.writer import Journal
from kvserver.keyspace import Keyspace
from parser.summary import Summary, merge, pack, unpack
from tests.faults.disk import MemoryDisk, Operation

SEGMENT_BYTES = 700
LARGE_BYTES = 100


def delta(count: int, at_ms: int) -> bytes:
    one = Summary(count, (at_ms, 7, 0), (at_ms + count, 7, 100), {"INFO": count}, {}, {}, {})
    return pack(merge(one, one))


def history() -> list[list[Any]]:
    """What the turns of the server append, one list of effects a turn."""
    header = msgpack.packb({"source": 5, "ranges": [[0, 100]], "books": {"lines": 2, "matched": 2}})
    packed = msgpack.packb([b"block_1", delta(1, 50), b"block_9", delta(2, 60)])
    turns: list[list[Any]] = []
    for n in range(30):
        turns.append([["set", b"key:%d" % (n % 5), b"value %d" % n]])
        if n % 3 == 1:
            turns.append([["set", b"large:%d" % (n % 2), b"%03d" % n * 50], ["del", b"key:0"]])
        turns.append(
            [
                ["mrg", b"block_%d" % (n % 3), delta(n + 1, 1000 * n)],
                ["set", b"volatile:%d" % n, b"x" * 40, 10_000 + n],
            ]
        )
        if n % 4 == 3:
            turns.append([["del", b"volatile:%d" % (n - 1)], ["exp", b"volatile:%d" % n, None]])
        if n == 5:
            turns.append([["ing", header, packed], ["app", b"key:1", b" and more"]])
        if n % 8 == 6:
            rows = b"SET key:%d %03d;SET row:%d %03d;" % (n % 5, n, n % 3, n)
            turns[-1].append(["tab", rows, [4, 5, 1, 3, 1]])
        if n == 19:
            turns.append([["clr"]])
            turns.append([["set", b"after", b"the flood"], ["mrg", b"block_1", delta(3, 9)]])
    return turns


TURNS = history()


def large_of(n: int) -> bytes | None:
    """What the n-th turn, counted from 1, writes ahead of its record."""
    value = TURNS[n - 1][0][2] if n <= len(TURNS) and len(TURNS[n - 1][0]) > 2 else b""
    return value if len(value) >= LARGE_BYTES else None


def state_of(keyspace: Keyspace) -> Any:
    """What a reader can see: values, folded, and deadlines; the books of sources."""
    seen: dict[bytes | str, Any] = {}
    for effect in keyspace.dump():
        if effect[0] == "mrg":
            seen[effect[1]] = unpack(effect[2])
        else:
            seen[repr(effect[:2])] = effect[2:]
    return seen


def states() -> list[Any]:
    """The states after 0, 1, 2 … turns."""
    keyspace = Keyspace(lambda: 0)
    result = [state_of(keyspace)]
    for turn in TURNS:
        for effect in turn:
            keyspace.apply(effect)
        result.append(state_of(keyspace))
    return result


STATES = states()


def restart(disk: MemoryDisk, **options: Any) -> tuple[Journal, Any, RecoveryReport]:
    """Recover; return the journal, the state, the report."""
    keyspace = Keyspace(lambda: 0)

    def apply_many(effects: list[Any]) -> None:
        for effect in effects:
            keyspace.apply(effect)

    journal, report = recover(disk, apply_many, segment_bytes=SEGMENT_BYTES, **options)
    return journal, state_of(keyspace), report


@dataclass
class Mistakes:
    """What a careless programmer would do; the enumeration must notice each."""

    early_durable: bool = False
    unlink_first: bool = False


def live(disk: MemoryDisk, *, policy: str = "always", mistakes: Mistakes | None = None) -> None:
    """Run the story."""
    mistakes = mistakes or Mistakes()
    journal, _, _ = restart(disk)
    stage = None
    for n, turn in enumerate(TURNS, 1):
        disk.mark("started", n)
        large = large_of(n)
        if large is not None and stage is not None:
            stage.write(large[60:])
            stage.stands_for(large)
            stage.release()
        journal.append(turn)
        disk.mark("written", n)
        large = large_of(n + 1)
        if large is not None:  # ahead of the next turn, and after this one
            stage = journal.staging.begin(None)
            stage.write(large[:60])
        if n % 9 == 0:
            forgotten = journal.staging.begin(None)  # its client has left
            forgotten.write(b"to nobody")
            forgotten.release()
        if policy == "always" or n % 5 == 0:
            if mistakes.early_durable:
                disk.mark("durable", n)
            journal.sync()
            disk.mark("durable", n)
        if n % 2:
            journal.maintain()
        if n in {13, 24, 60}:
            compact_now(disk, journal, mistakes)
    journal.close()
    disk.mark("durable", len(TURNS))


def rotate(journal: Journal) -> bool:
    """Bring everything into closed files; whether there was space for that."""
    journal.want_rotation()
    for _ in range(3):
        journal.maintain()
        journal.rotate_if_needed()
    if not journal.rotation_done:
        journal.forget_rotation()
        return False
    return True


def compact_now(disk: MemoryDisk, journal: Journal, mistakes: Mistakes) -> None:
    """What the manager does, without a child."""
    if not rotate(journal):
        return
    name = journal.listing.new_base_name()
    entries = journal.manifest.closed
    base = compact(disk, entries, name, budget_bytes=1000)
    if mistakes.unlink_first:
        for entry in entries:
            disk.unlink(entry.name)
    gone = journal.listing.replace_by_base(base)
    for old in gone:
        if old in disk.entries:
            disk.unlink(old)
    disk.sync_directory()


def promised(trace: list[Operation]) -> dict[str, int]:
    """The highest mark of each kind so far."""
    marks = {"started": 0, "written": 0, "durable": 0}
    for operation in trace:
        if operation.kind == "mark":
            marks[operation.name] = operation.size
    return marks


class Broken(AssertionError):
    """A promise was not kept."""


def check(disk: MemoryDisk, least: int, most: int, where: str) -> None:
    """Recover from a crash, and again, and go on; the state is a prefix that holds what was
    promised."""
    try:
        journal, state, _ = restart(disk)
    except JournalError as error:
        raise Broken(f"{where}: refused: {error}") from error
    if state not in STATES[least : most + 1]:
        found = STATES.index(state) if state in STATES else None
        raise Broken(f"{where}: state {found}, promised {least}, begun {most}")
    journal.append([["set", b"next life", b"1"]])
    journal.close()
    strays = [n for n in disk.names() if n.endswith(".tmp")]
    named = {entry.name for entry in journal.manifest.entries}
    strays += [n for n in disk.names() if n.endswith(".kvj") and n not in named]
    if strays:
        raise Broken(f"{where}: stray files {strays}")
    _, again, report = restart(disk.killed())
    again.pop(repr(["set", b"next life"]))
    if again != state or report.torn:
        raise Broken(f"{where}: the second start differs")
