"""What the commands over log files share: opening them, and going on when one cannot be read."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import click

from kvclient.text import shown

__all__ = ["STDIN", "Problems", "named", "write_out"]

T = TypeVar("T")

STDIN = "-"


class Problems:
    """Collects what could not be read: a line on stderr each, and the exit code at the end."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, text: str) -> None:
        """Say it now."""
        self.count += 1
        click.echo(f"kvcli: {shown(text)}", err=True)

    def guarded(self, path: str, parts: Iterable[T]) -> Iterator[T]:
        """Yield the parts of a file as long as they can be read."""
        with self.reported(path):
            yield from parts

    @contextlib.contextmanager
    def reported(self, path: str) -> Iterator[None]:
        """Say what goes wrong in the block about one file, and go on behind it."""
        from parser.errors import SourceError
        from parser.streams import BrokenStream

        try:
            yield
        except SourceError as error:
            self.add(str(error))
        except BrokenStream as error:
            self.add(f"{path}: {error}")
        except BrokenPipeError:
            raise
        except OSError as error:
            self.add(f"{path}: {error.strerror or error}")

    def finish(self, code: int = 1) -> None:
        """Exit with ``code`` when there was any problem."""
        if self.count:
            sys.stdout.flush()
            sys.exit(code)


def named(paths: Sequence[str], problems: Problems) -> list[str]:
    """Return the files that the arguments name: globs and directories are expanded."""
    from parser.source import Problem, paths_of

    unfound: list[Problem] = []
    found = list(paths_of(paths, unfound))
    for problem in unfound:
        problems.add(str(problem))
    return found


def write_out() -> Callable[[bytes], object]:
    """Return what writes bytes to standard output, unchanged."""
    return sys.stdout.buffer.write
