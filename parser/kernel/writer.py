"""Writes indented lines of Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Writer"]


class Writer:
    """Collects lines of generated source."""

    def __init__(self, indent: int = 0) -> None:
        """Begin at an indentation, in steps of four spaces."""
        self.indent = indent
        self.lines: list[str] = []

    def __call__(self, *lines: str) -> None:
        """Write lines at the current indentation."""
        self.lines += [f"{'    ' * self.indent}{line}" for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write a head; what is written inside is its block."""
        self(head)
        self.indent += 1
        size = len(self.lines)
        yield
        if len(self.lines) == size:
            self("pass")
        self.indent -= 1

    def text(self) -> str:
        """Return everything written."""
        return "\n".join(self.lines) + "\n"
