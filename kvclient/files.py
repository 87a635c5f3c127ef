"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["whole_file"]


def _opened(temporary: Path, target: Path) -> IO[str]:
    """Open the temporary file; an error names the file that the caller knows."""
    try:
        return temporary.open("x", encoding="utf-8")
    except OSError as error:
        error.filename = str(target)
        raise


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """Open a file for text that takes the place of ``path`` when the block ends without an error.

    Written under another name beside it, synced, renamed, and the directory synced: at every
    moment, power loss included, ``path`` is the old file or the whole new one. After an error the
    old one stays and nothing else is left. What is no regular file (``/dev/stdout``, a pipe) is
    written straight away.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        with target.open("w", encoding="utf-8") as file:
            yield file
        return
    target = target.resolve()  # what a symbolic link points at is replaced, not the link
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with _opened(temporary, target) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
