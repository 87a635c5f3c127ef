"""Standard streams that are there, whatever the caller has closed or filled."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["ensure_streams", "forget_stdout"]


def ensure_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Else the next file or socket would get its number, and what is printed would go there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - open for good


def forget_stdout() -> None:
    """Let nothing be written to a stream that takes nothing when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
