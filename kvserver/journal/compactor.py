"""Compaction as a process of its own: ``python -m kvserver.journal.compactor``.

It gets its plan as one JSON line on stdin, answers with one on stdout, gives way to everybody else
(low priority), and ends when its parent does. It is started by exec, never by fork, so it cannot
inherit the lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kvserver.errors import JournalError
from kvserver.journal.fs import RealFileSystem
from kvserver.journal.manifest import Entry

NICENESS = 10
"""A tenth of a core when all cores are wanted, so that it comes to an end even then."""


def main() -> int:
    """Run one compaction as the plan on stdin says; exit status 1 and one line when it fails."""
    stdin = sys.stdin.buffer
    plan_line = stdin.readline()
    if not plan_line:
        return 1
    _give_way()
    _end_with_parent(stdin)
    from kvserver.journal.compaction import compact  # loaded here, so that this gives way, too

    task = json.loads(plan_line)
    try:
        entry = compact(
            RealFileSystem(Path(task["directory"])),
            [Entry(**fields) for fields in task["entries"]],
            task["name"],
            budget_bytes=task["budget_bytes"],
            max_patterns=task["max_patterns"],
        )
    except JournalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.strerror or error} ({task['name']})\n")
        return 1
    except MemoryError:
        sys.stderr.write("out of memory\n")
        return 1
    sys.stdout.write(json.dumps(asdict(entry)) + "\n")
    sys.stdout.flush()
    return 0


def task_line(
    directory: Path, entries: Sequence[Entry], name: str, budget_bytes: int, max_patterns: int
) -> bytes:
    """Return what `main` reads."""
    task = {
        "directory": str(directory.absolute()),
        "entries": [asdict(entry) for entry in entries],
        "name": name,
        "budget_bytes": budget_bytes,
        "max_patterns": max_patterns,
    }
    return (json.dumps(task) + "\n").encode()


def _give_way() -> None:
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError, AttributeError):  # Linux: never take a core from who wakes up
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _end_with_parent(stdin: Any) -> None:
    """The parent never closes our stdin; when it ends, the system does."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(stdin.fileno(), 1):
                pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
