"""The README's examples do what the README shows, in its order, in one directory.

A block marked ``console`` holds commands after ``$`` and what they print; ``…`` is anything. The
set-up commands are in other blocks; CI runs them.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvclient.snapshot import read_snapshot
from parser.formatsfile import load_formats_file
from tests.support import ROOT, ServerProcess, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
SET_UP = "$ python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && "


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """Return every command of the console blocks and what it should print."""
    found: list[tuple[str, str]] = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def as_pattern(output: str) -> str:
    return re.escape(output).replace("…", "(?s:.*?)")


@pytest.mark.slow
def test_the_examples_print_what_the_readme_shows(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "kvcli"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kvclient "$@"\n')
    script.chmod(0o755)
    env = {
        "PATH": f"{script.parent}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "KVCLI_URL": server.url,
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
    }
    told = examples()
    assert len(told) > 10
    for command, output in told:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        assert re.fullmatch(as_pattern(output), done.stdout), f"$ {command}\n{done.stdout}"


def test_there_are_exactly_two_set_up_commands() -> None:
    commands = [line for line in README.splitlines() if line.startswith(SET_UP[:9])]
    assert commands == [
        f"{SET_UP}.venv/bin/kvcli demo",
        f"{SET_UP}.venv/bin/python -m pytest -q",
    ]
    first = next(line for line in README.splitlines() if re.match(r"\$ .*pytest", line))
    assert first == commands[1]


def test_json_in_the_readme_is_json_and_the_snapshot_one() -> None:
    for block in blocks("json"):
        json.loads(block)
    snapshots = [block for block in blocks("json") if '"format"' in block]
    assert snapshots
    for block in snapshots:
        assert len(list(read_snapshot(io.StringIO(block)))) == 3


def test_the_python_example_runs(server: ServerProcess) -> None:
    (block,) = blocks("python")
    program = block.replace("redis://127.0.0.1:7379", server.url)
    done = run([sys.executable, "-W", "error", "-c", program])
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


def test_the_formats_file_in_the_readme_can_be_read(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    path = tmp_path / "formats.toml"
    path.write_text(block, encoding="utf-8")
    assert [rule.text for rule in load_formats_file(path)["myapp"].keys] == [
        "content ~ req-<hex> -> request_{}",
        "content ~ user=<id> -> user_{}",
    ]


def test_every_command_the_readme_names_is_there() -> None:
    from kvclient.cli import LAZY

    table = README[README.index("## Commands") : README.index("Options of all of them")]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {word for row in rows for word in re.findall(r"`([a-z]+)", row)}
    of_log = {"read", "tail", "grep", "parse", "histogram", "summarize", "generate"}
    assert named - of_log <= LAZY.keys()
    assert LAZY.keys() - named <= {"ping"}
