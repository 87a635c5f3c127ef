"""What several test modules share: where the real logs are, and a real server process."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("KVSTORE_TEST_DATA", ROOT.parent / "shared" / "data"))
"""Real logs; not part of the project."""


def real_log(name: str) -> Path:
    """Return the path of a real log below DATA_DIR, or skip the test that asks for it."""
    path = DATA_DIR / name
    if not path.exists():
        pytest.skip(f"real log not here: {path} (set KVSTORE_TEST_DATA)")
    return path


@dataclass
class ServerProcess:
    """A running ``python -m kvserver`` and where it listens."""

    process: subprocess.Popen[str]
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(timeout=30)

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def start_server(data_dir: Path, *options: str, env: dict[str, str] | None = None) -> ServerProcess:
    """Start a server on a free port and return once it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kvserver", "--port", "0", "--data-dir", str(data_dir), *options],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        ready = re.search(r"\bready\b.*?(\d+\.\d+\.\d+\.\d+):(\d+)", line)
        if ready:
            _drain(process)
            return ServerProcess(process, ready[1], int(ready[2]))
    process.stderr.close()
    process.wait(timeout=30)
    raise AssertionError(f"the server did not start: {''.join(said)}")


def resident_bytes(server: ServerProcess) -> int:
    """Return the memory of a server process, or skip the test where it cannot be told."""
    statm = Path(f"/proc/{server.process.pid}/statm")
    if not statm.exists():
        pytest.skip("no /proc here to read the memory of a process from")
    return int(statm.read_text().split()[1]) * resource.getpagesize()


def _drain(process: subprocess.Popen[str]) -> None:
    """Keep reading what the server logs, so that it never waits for a full pipe."""
    import threading

    stream = process.stderr
    assert stream is not None

    def read() -> None:
        with stream:
            for _ in stream:
                pass

    threading.Thread(target=read, daemon=True).start()


@contextmanager
def running_server(
    data_dir: Path, *options: str, env: dict[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Start a server, stop it at the end whatever happened."""
    server = start_server(data_dir, *options, env=env)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def run_kvcli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``kvcli`` as a process of its own."""
    return run([sys.executable, "-m", "kvclient", *arguments], environment)


def run(
    command: Sequence[str], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
