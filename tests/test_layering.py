"""The house keeps its floors: imports point down, start-up is light, nothing unsafe is loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGES = ("parser", "kvserver", "kvclient")
GROUND_FLOOR = (
    "parser.groups",
    "parser.isotime",
    "parser.stdio",
    "parser.summary",
    "parser.summaryjson",
)
TOP_FLOOR = ("kvclient/cli/", "kvclient/__main__.py")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 410

UNSAFE_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
UNSAFE_NAMES = {"eval", "exec"}
SHARED_STATE = {"Queue", "SimpleQueue", "JoinableQueue", "Lock", "Pool", "Manager"}
"""Of multiprocessing: a process killed while it holds one of these stops all the others."""

GENERATES_CODE = {"parser/kernel"}
"""Where a layout becomes a compiled function; its source is made here, never from outside."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every import of a module, wherever it stands: line and full dotted name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def below(name: str, *tops: str) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def allowed(path: Path, name: str) -> bool:
    package = path.relative_to(ROOT).parts[0]
    if package == "parser":
        return not below(name, "kvserver", "kvclient")
    if package == "kvserver":
        return not below(name, "kvclient") and (
            not below(name, "parser") or below(name, *GROUND_FLOOR)
        )
    on_top = name_of(path).startswith(TOP_FLOOR)
    return not below(name, "kvserver") and (on_top or not below(name, "kvclient.cli"))


def calls(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every call of a plain name: line and name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, node.func.id


def test_imports_point_down_only() -> None:
    wrong = [
        f"{name_of(path)}:{line}: {name}"
        for path in MODULES
        for line, name in imports(path)
        if not allowed(path, name)
    ]
    assert not wrong


def test_the_ground_floor_imports_nothing_of_the_project_but_itself() -> None:
    for module in GROUND_FLOOR:
        path = ROOT / f"{module.replace('.', '/')}.py"
        imported = [name for _, name in imports(path) if below(name, *PACKAGES)]
        assert not [name for name in imported if not below(name, *GROUND_FLOOR)]


def test_nothing_reads_data_that_could_run() -> None:
    wrong: list[str] = []
    for path in MODULES:
        wrong += [
            f"{name_of(path)}:{line}: import {name}"
            for line, name in imports(path)
            if name.split(".")[0] in UNSAFE_MODULES
        ]
        if not any(name_of(path).startswith(room) for room in GENERATES_CODE):
            wrong += [
                f"{name_of(path)}:{line}: {name}()"
                for line, name in calls(path)
                if name in UNSAFE_NAMES
            ]
    assert not wrong


def test_processes_share_pipes_and_nothing_else() -> None:
    """A queue of multiprocessing pickles, and its lock outlives a killed owner."""
    wrong: list[str] = []
    for path in MODULES:
        used = [(line, name) for line, name in imports(path) if below(name, "multiprocessing")]
        wrong += [
            f"{name_of(path)}:{line}: {name}"
            for line, name in used
            if name.split(".")[-1] in SHARED_STATE
        ]
        if used:
            wrong += [
                f"{name_of(path)}:{node.lineno}: .{node.attr}"
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Attribute) and node.attr in SHARED_STATE - {"Lock"}
            ]
    assert not wrong


def test_no_module_outgrows_its_room() -> None:
    sizes = {name_of(path): path.read_text(encoding="utf-8").count("\n") for path in MODULES}
    assert not {name: lines for name, lines in sizes.items() if lines > MAX_LINES}


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["kvserver.cli", "kvclient.cli", "kvclient", "parser"])
def test_a_command_starts_without_the_compiler(module: str) -> None:
    assert not {"numba", "numpy", "llvmlite"} & loaded_by(f"import {module}")


def test_a_look_up_loads_what_it_needs_and_no_more() -> None:
    loaded = loaded_by("import kvclient.cli.keys, kvclient.client")
    heavy = {"trio", "rich", "numba", "numpy", "msgpack", "asyncio", "ssl", "sortedcontainers"}
    assert not heavy & loaded


def test_the_client_and_the_server_are_strangers() -> None:
    assert not any(below(name, "kvserver") for name in loaded_by("import kvclient.client"))
    assert not any(below(name, "kvclient") for name in loaded_by("import kvserver"))
