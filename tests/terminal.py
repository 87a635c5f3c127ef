"""A real terminal for tests: a pseudo-terminal with a program in it, keys in, what it draws out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

WAIT_S = 30.0
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_=>])")
TAKES_THE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""So that Ctrl-C is a signal to the command."""


class Terminal:
    """A program that believes a person sits before it."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.raw = ""
        self._descriptor = descriptor
        self._looked_at = 0

    @property
    def text(self) -> str:
        """Everything drawn so far, without colours and cursor movements."""
        return ESCAPES.sub("", self.raw)

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def wait_for(self, pattern: str, wait_s: float = WAIT_S) -> re.Match[str]:
        """Wait until something new matches; what is before it is looked at no more."""
        ends_s = time.monotonic() + wait_s
        while True:
            found = re.compile(pattern).search(self.text, self._looked_at)
            if found is not None:
                self._looked_at = found.end()
                return found
            if not self._read(ends_s - time.monotonic()):
                raise AssertionError(
                    f"{pattern!r} did not appear; the terminal shows:\n{self.text}"
                )

    def type_until(self, keys: str, pattern: str) -> re.Match[str]:
        """Type keys, again each second, until something new matches.

        For Ctrl-C at a prompt: one that comes while readline is about to wait is acted upon with
        the next key only.
        """
        for _ in range(int(WAIT_S)):
            self.type(keys)
            with contextlib.suppress(AssertionError):
                return self.wait_for(pattern, 1.0)
        raise AssertionError(f"{keys!r} did nothing; the terminal shows:\n{self.text}")

    def ended(self, wait_s: float = WAIT_S) -> int:
        """Wait for the program's end and return its exit status, negative for a signal."""
        ends_s = time.monotonic() + wait_s
        while self._read(ends_s - time.monotonic()):
            pass
        return self.process.wait(max(0.1, ends_s - time.monotonic()))

    def _read(self, wait_s: float) -> bool:
        """Read what there is; False when the program is gone or the time is over."""
        if wait_s <= 0 or not select.select([self._descriptor], [], [], wait_s)[0]:
            return False
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # the other end is closed
            return False
        self.raw += data.decode("utf-8", "replace")
        return bool(data)


@contextlib.contextmanager
def terminal(
    command: Sequence[str],
    *,
    cwd: Path,
    env: dict[str, str],
    rows: int = 40,
    columns: int = 120,
) -> Iterator[Terminal]:
    """Run a command in a terminal of its own; it is gone at the end of the block."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", TAKES_THE_TERMINAL, *command],
        cwd=cwd,
        env={**os.environ, "TERM": "xterm-256color", **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = Terminal(process, ours)
    try:
        yield shown
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)
