"""Turns generated source into a compiled function, from the cache on disk where it can.

The source goes to a file of its own, named by a hash of everything the machine code depends on: the
source itself, this package's files, numba and Python. numba keeps the machine code beside it and
checks the processor itself. Files appear whole (written aside, then renamed), and of several
processes that want the same kernel one compiles while the others wait. Where nothing can be
written, the kernel is compiled in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

__all__ = ["cache_directory", "is_ready", "load"]

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


def is_ready(source: str) -> bool:
    """Whether the compiled function of the source is in the cache; does not import numba."""
    name = _name(source)
    compiled = cache_directory() / "__pycache__"
    try:
        return any(compiled.glob(f"{name}.run-*.nbi"))
    except OSError:
        return False


def load(source: str) -> Callable[[int], int]:
    """Return the function ``run`` of the source."""
    from parser.kernel.ops import JIT

    name = _name(source)
    loaded = sys.modules.get(name)
    if loaded is None:
        path = _stored(name, source) if JIT else None
        if path is None:
            loaded = _made(name, source)
        else:
            with _one_at_a_time(path.with_suffix(".lock")):
                loaded = _imported(name, path)
    run: Callable[[int], int] = loaded.run
    return run


def _name(source: str) -> str:
    seal = blake2b(source.encode(), digest_size=_VERSION_LENGTH // 2)
    seal.update(f"{metadata.version('numba')} {sys.version}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        with contextlib.suppress(OSError):
            seal.update(path.read_bytes())
    return f"kvkernel_{seal.hexdigest()}"


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Let others wait while one compiles; the lock goes with the process that holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
