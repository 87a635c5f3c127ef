"""Where rich draws: standard output, whose reader may leave at any time."""

from __future__ import annotations

from rich.console import Console

__all__ = ["Screen"]


class Screen(Console):
    """Takes a closed pipe for the end of the command, as all else here; rich calls it a failure."""

    def on_broken_pipe(self) -> None:
        """Called where standard output has no reader any more."""
        raise BrokenPipeError
