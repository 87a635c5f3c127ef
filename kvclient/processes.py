"""Starts the project's own programs beside this one, and makes sure that they end.

A child is a process group of its own, so that its helpers end with it and Ctrl-C at the terminal
reaches this program alone, which then decides in which order things stop.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from kvclient.errors import KvError

__all__ = ["ChildFailed", "program", "running_server", "started"]

READY_S: Final = 30.0
STOP_S: Final = 10.0
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_READY: Final = re.compile(r"\bready\b.*?(\d+\.\d+\.\d+\.\d+:\d+)")
_ROOT: Final = Path(__file__).resolve().parent.parent


class ChildFailed(KvError):
    """A program that was started did not do what it was started for."""


def program(module: str, *options: str) -> list[str]:
    """Return the command that runs a module of the project with this interpreter.

    ``-P`` keeps the working directory out of the search path: a log directory with a ``parser.py``
    in it must not run.
    """
    return [sys.executable, "-P", "-m", module, *options]


def _environment() -> Mapping[str, str]:
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


@contextlib.contextmanager
def started(
    command: list[str], *, stdout: int | IO[Any] | None = None, stderr: int | IO[Any] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a command; at the end of the block, whatever happened, it and its helpers are gone."""
    with contextlib.ExitStack() as stack:
        with _signals_wait():
            process = subprocess.Popen(
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                text=True,
                process_group=0,
            )
            end = functools.partial(_end, process)
            atexit.register(end)
            stack.callback(atexit.unregister, end)
            stack.callback(end)
        yield process


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let a signal that comes in this block act at its end.

    A Ctrl-C between the start of a child and the note that it must be ended would leave it running.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for late in came:
        signal.raise_signal(late)


def _end(process: subprocess.Popen[str]) -> None:
    try:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def running_server(data_dir: Path, *options: str) -> Iterator[str]:
    """Run a server on a free port and give its address, ``host:port``. Raises ChildFailed."""
    command = program("kvserver", "--port", "0", "--data-dir", str(data_dir), *options)
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        yield _ready(process.stderr)


def _ready(stderr: IO[str]) -> str:
    """Wait for the line that says the server serves.

    What it logs afterwards is not read: a quiet demo never fills the pipe.
    """
    ends_s = time.monotonic() + READY_S
    said = ""
    with selectors.DefaultSelector() as selector:
        selector.register(stderr, selectors.EVENT_READ)
        while (left_s := ends_s - time.monotonic()) > 0:
            if not selector.select(left_s):
                break
            data = os.read(stderr.fileno(), 65536).decode("utf-8", "replace")
            said += data
            if found := _READY.search(said):
                return found[1]
            if not data:
                break
    last = said.strip().splitlines()[-1:] or ["it said nothing"]
    raise ChildFailed(f"the server did not start: {last[0]}")
