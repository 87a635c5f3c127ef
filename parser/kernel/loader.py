"""Turns generated source into a compiled function, from the cache on disk where it can.

The source goes to a file of its own, named by a hash of everything the machine code depends on: the
source itself, this package's files, numba and Python. numba then keeps the machine code beside it and
checks the processor itself. Files appear whole (written aside, then renamed), so any number of
processes may do this at once. Where nothing can be written, the kernel is compiled in memory.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numba

from parser.kernel.ops import JIT

__all__ = ["cache_directory", "load"]

_VERSION_LENGTH: Final = 16


def cache_directory() -> Path:
    """Where kernels are kept: $KVSTORE_CACHE_DIR, or kvstore/kernels in the user's cache."""
    chosen = os.environ.get("KVSTORE_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # there is no home
        home = Path(tempfile.gettempdir()) / f"kvstore-{os.getuid()}"
    return home / "kvstore" / "kernels"


def load(source: str) -> Callable[[int], int]:
    """Return the function ``run`` of the source."""
    name = f"kvkernel_{_fingerprint(source)}"
    loaded = sys.modules.get(name)
    if loaded is None:
        path = _stored(name, source) if JIT else None
        loaded = _imported(name, path) if path is not None else _made(name, source)
    run: Callable[[int], int] = loaded.run
    return run


def _fingerprint(source: str) -> str:
    seal = blake2b(source.encode(), digest_size=_VERSION_LENGTH // 2)
    seal.update(f"{numba.__version__} {sys.version}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        with contextlib.suppress(OSError):
            seal.update(path.read_bytes())
    return seal.hexdigest()


def _stored(name: str, source: str) -> Path | None:
    """Put the source into the cache; None when nothing can be written there."""
    directory = cache_directory()
    path = directory / f"{name}.py"
    text = source.replace("CACHE", "True", 1)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if directory.stat().st_uid != os.getuid():
            return None  # somebody else could put code there
        if not path.exists() or path.read_text() != text:
            with tempfile.NamedTemporaryFile("w", dir=directory, delete=False) as file:
                file.write(text)
            Path(file.name).replace(path)
        probe = directory / "__pycache__"
        probe.mkdir(exist_ok=True)
        if not os.access(probe, os.W_OK):
            return None
    except OSError:
        return None
    return path


def _imported(name: str, path: Path) -> ModuleType:
    """Import a kernel's file; numba takes the machine code from beside it, or puts it there."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _made(name: str, source: str) -> ModuleType:
    """Compile a kernel in memory."""
    module = ModuleType(name)
    names: dict[str, Any] = module.__dict__
    exec(compile(source.replace("CACHE", "False", 1), f"<{name}>", "exec"), names)  # noqa: S102  # our own text
    sys.modules[name] = module
    return module
