r"""Runs the golden cases: tests/golden/**/*.toml, one story of commands and what they answer each.

::

    about = "a key that is not there is told on stderr"    # optional
    server = true                   # a running, empty server, whose address is in KVCLI_URL
    slow = true                     # optional; takes more than a second or so
    needs = "zstd"                  # optional; a program without which the case is skipped

    [files]                         # optional; written to the working directory first
    "app.log" = '''…'''

    [[run]]
    command = "kvcli get nope"      # for bash, with pipefail, in a directory of its own
    stdin = "…"                     # optional
    exit = 1                        # 0 unless said
    stdout = ""                     # not looked at when left out; <<…>> in it is a regex
    stderr = "kvcli: no such key: nope\n"                       # "" when left out

Set KVSTORE_GOLDEN=write to have every ``stdout`` that fails printed as it should be written.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvclient import Client
from tests.support import ROOT, ServerProcess, running_server

GOLDEN = ROOT / "tests" / "golden"
CASES = sorted(GOLDEN.rglob("*.toml"))
KNOWN = {"about", "server", "slow", "needs", "files", "run"}
KNOWN_RUN = {"command", "stdin", "exit", "stdout", "stderr"}
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all cases; each finds it empty."""
    with running_server(tmp_path_factory.mktemp("golden") / "data") as process:
        yield process


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with kvcli and kvserver as this interpreter runs them."""
    directory = tmp_path_factory.mktemp("bin")
    for name, module in (("kvcli", "kvclient"), ("kvserver", "kvserver")):
        script = directory / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        script.chmod(0o755)
    return directory


def named(path: Path) -> str:
    return path.relative_to(GOLDEN).with_suffix("").as_posix()


@pytest.mark.parametrize("path", CASES, ids=named)
def test_golden(path: Path, request: pytest.FixtureRequest, tmp_path: Path, programs: Path) -> None:
    case = tomllib.loads(path.read_text(encoding="utf-8"))
    assert case.keys() <= KNOWN, case.keys() - KNOWN
    if "needs" in case and shutil.which(case["needs"]) is None:
        pytest.skip(f"{case['needs']} is not installed")
    url = "redis://127.0.0.1:1"  # nobody: a case without a server must not find anybody's
    if case.get("server"):
        url = request.getfixturevalue("shared_server").url
        with Client(url) as client:
            client.clear()
    for name, text in case.get("files", {}).items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for run in case["run"]:
        check(run, tmp_path, environment(url, programs, tmp_path))


def environment(url: str, programs: Path, home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KVCLI_")}
    return {
        **kept,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "KVCLI_URL": url,
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "100",
        "TZ": "UTC",
    }


def check(run: dict[str, Any], directory: Path, env: dict[str, str]) -> None:
    assert run.keys() <= KNOWN_RUN, run.keys() - KNOWN_RUN
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", run["command"]],
        cwd=directory,
        env=env,
        input=run.get("stdin", "").encode(),
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    stdout = done.stdout.decode("utf-8", "backslashreplace")
    stderr = done.stderr.decode("utf-8", "backslashreplace")
    said = f"$ {run['command']}\n{stdout}--- stderr\n{stderr}--- exit {done.returncode}"
    if os.environ.get("KVSTORE_GOLDEN") == "write" and not matches(run.get("stdout"), stdout):
        print(f"stdout = '''\n{stdout}'''")
    assert done.returncode == run.get("exit", 0), said
    assert matches(run.get("stderr", ""), stderr), said
    assert matches(run.get("stdout"), stdout), said


def matches(wanted: str | None, found: str) -> bool:
    if wanted is None or wanted == found:
        return True
    parts = re.split(r"<<(.+?)>>", wanted)
    pattern = "".join(part if number % 2 else re.escape(part) for number, part in enumerate(parts))
    return re.fullmatch(pattern, found) is not None


def test_every_case_has_a_name_of_its_own() -> None:
    names = [named(path) for path in CASES]
    assert len(set(names)) == len(names) > 0
