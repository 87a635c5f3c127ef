"""Turns generated source into a compiled function, from the cache on disk where it can.

The source goes to a file of its own, named by a hash of everything the machine code depends on: the
source itself, this package's files, numba and Python. numba keeps the machine code beside it and
checks the processor itself; beside that lies an *image* of it (see ``image``), named by the
processor too, which is loaded in a millisecond and without importing numba. Files appear whole
(written aside, then renamed), and of several processes that want the same kernel one compiles while
the others wait. Where nothing can be written, the kernel is compiled in memory. Whoever compiles
one removes those that nobody has used for a month.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

from parser.kernel import image

__all__ = ["cache_directory", "is_ready", "jit_wanted", "load"]

_VERSION_LENGTH: Final = 16
_PREFIX: Final = "kvkernel_"
_DAY_S: Final = 86_400
_KEPT_S: Final = 30 * _DAY_S

_Run: TypeAlias = Callable[[int], int]
_loaded: dict[str, _Run] = {}


def jit_wanted() -> bool:
    """Whether kernels are compiled; without, they run as plain Python, for tests."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in {"", "0"}


def cache_directory() -> Path:
    """Where kernels are kept: $KVSTORE_CACHE_DIR, or kvstore/kernels in the user's cache."""
    chosen = os.environ.get("KVSTORE_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # there is no home
        import tempfile

        home = Path(tempfile.gettempdir()) / f"kvstore-{os.getuid()}"
    return home / "kvstore" / "kernels"


def is_ready(source: str) -> bool:
    """Whether the compiled function of the source is in the cache; does not import numba."""
    name = _name(source)
    compiled = cache_directory() / "__pycache__"
    try:
        return _image_path(name).exists() or any(compiled.glob(f"{name}.run-*.nbi"))
    except OSError:
        return False


def load(source: str) -> _Run:
    """Return the function ``run`` of the source."""
    name = _name(source)
    run = _loaded.get(name)
    if run is None:
        run = _loaded[name] = _load(name, source)
    return run


def _load(name: str, source: str) -> _Run:
    if not jit_wanted():
        return _made(name, source)
    run = _run_of_image(name)
    if run is not None:
        return run
    path = _stored(name, source)
    if path is None:
        return _made(name, source)
    with _one_at_a_time(path.with_suffix(".lock")):
        run = _run_of_image(name)  # somebody else may have compiled it meanwhile
        if run is None:
            run = _imported(name, path)
            _keep_image(name, run)
            _remove_unused()
    return run


def _name(source: str) -> str:
    seal = blake2b(source.encode(), digest_size=_VERSION_LENGTH // 2)
    seal.update(_surroundings())
    return f"{_PREFIX}{seal.hexdigest()}"


@cache
def _surroundings() -> bytes:
    """Return what else the machine code depends on, without importing numba."""
    seal = blake2b(sys.version.encode())
    seal.update(_numba_version())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        with contextlib.suppress(OSError):
            seal.update(path.read_bytes())
    return seal.digest()


def _numba_version() -> bytes:
    found = importlib.util.find_spec("numba")
    try:  # importlib.metadata takes twenty times as long
        return Path(found.origin or "").with_name("_version.py").read_bytes() if found else b""
    except OSError:
        from importlib import metadata

        return metadata.version("numba").encode()


# ------------------------------------------------------------------------------------- images


def _image_path(name: str) -> Path:
    seal = blake2b(image.processor(), digest_size=4)
    return cache_directory() / f"{name}-{seal.hexdigest()}.image"


def _run_of_image(name: str) -> _Run | None:
    if not image.supported():
        return None
    try:
        path = _image_path(name)
        if not _is_ours_alone(path.parent):
            return None
        run = image.runnable(path.read_bytes())
        _mark_used(path)
        return run
    except OSError:
        return None


def _keep_image(name: str, run: _Run) -> None:
    """Make an image for the next time; that there is none is no reason to fail."""
    try:
        made = image.make(run)
    except Exception:  # noqa: BLE001 - numba and LLVM may change what they give
        return
    if made is not None:
        with contextlib.suppress(OSError):
            _write(_image_path(name), made)


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it appears whole."""
    import tempfile

    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    Path(file.name).replace(path)


# ----------------------------------------------------------------------------------- the cache


def _is_ours_alone(directory: Path) -> bool:
    """Whether nobody else can put code into a directory: what lies there is run."""
    status = directory.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def _mark_used(path: Path) -> None:
    """Note in a file's time that it was used; once a day is enough."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > _DAY_S:
            os.utime(path)


def _remove_unused() -> None:
    """Remove the kernels that were last used long ago: those of older versions of anything."""
    directory = cache_directory()
    kernels: dict[str, list[Path]] = {}
    for place in (directory, directory / "__pycache__"):
        for path in place.glob(f"{_PREFIX}*"):
            kernels.setdefault(path.name[: len(_PREFIX) + _VERSION_LENGTH], []).append(path)
    for paths in kernels.values():
        with contextlib.suppress(OSError):  # others may remove them at the same time
            if time.time() - max(path.stat().st_mtime for path in paths) > _KEPT_S:
                for path in paths:
                    path.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------- numba


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
        if not _is_ours_alone(directory):
            return None
        if not path.exists() or path.read_text() != text:
            _write(path, text.encode())
        _mark_used(path)
        probe = directory / "__pycache__"
        probe.mkdir(exist_ok=True)
        if not os.access(probe, os.W_OK):
            return None
    except OSError:
        return None
    return path


def _imported(name: str, path: Path) -> _Run:
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
    run: _Run = module.run
    return run


def _made(name: str, source: str) -> _Run:
    """Compile a kernel in memory."""
    module = ModuleType(name)
    names: dict[str, Any] = module.__dict__
    exec(compile(source.replace("CACHE", "False", 1), f"<{name}>", "exec"), names)  # noqa: S102  # our own text
    sys.modules[name] = module
    run: _Run = module.run
    return run
