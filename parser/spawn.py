"""Starts the processes that read, before anything else where many bytes wait to be read.

A producer imports for nearly as long as the program that starts it. So a command that will need
producers starts them first, with ``ahead``, and both get ready side by side. Therefore nothing
heavy is imported here.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Final, NamedTuple

__all__ = ["SMALL_BYTES", "Started", "ahead", "processors", "start"]

SMALL_BYTES: Final = 8 << 20
"""Less than this is read without producers."""


class Started(NamedTuple):
    """A producer process and our end of its socket."""

    process: subprocess.Popen[bytes]
    socket: socket.socket

    def kill(self) -> None:
        """End the process at once and forget it."""
        self.socket.close()
        self.process.kill()
        self.process.wait()


def processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def start() -> Started:
    """Start a producer."""
    ours, theirs = socket.socketpair()
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    # a child keeps what is blocked: Ctrl-C is the parent's to answer, from the first moment on
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "parser.producer", str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                pass_fds=[theirs.fileno()],
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Started(process, ours)


@contextmanager
def ahead(paths: Sequence[str], workers: int | None) -> Iterator[list[Started]]:
    """Start as many producers as a run over these paths will want, if it will want any.

    Whoever uses one takes it from the list; what is left at the end is ended. A guess that is wrong
    costs nothing but the start of a process.
    """
    started: list[Started] = []
    try:
        size = _bytes_of(paths)
        if size >= SMALL_BYTES:
            wanted = min(workers if workers is not None else processors(), size // SMALL_BYTES + 1)
            while len(started) < wanted:
                started.append(start())
        yield started
    finally:
        for one in started:
            one.kill()


def _bytes_of(paths: Sequence[str]) -> int:
    """Count the bytes of the files that are named by their own name."""
    total = 0
    for path in paths:
        try:
            found = os.stat(path)  # noqa: PTH116 - may hold stray bytes
        except (OSError, ValueError):
            continue
        total += found.st_size if S_ISREG(found.st_mode) else 0
    return total
