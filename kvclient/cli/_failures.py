"""Failures: one line on stderr and an exit code, never a traceback for what the world did.

A user's mistake is exit 2 with a usage hint (click's), a failure one line and exit 1, a closed pipe
no error at all.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, NoReturn

import click

from kvclient.errors import AuthFailed, ConnectionFailed, KvError, ProtocolError, ServerLoading
from kvclient.text import shown
from parser.stdio import forget_stdout

__all__ = ["Failure", "fail", "reason_of", "translated_errors"]


class Failure(click.ClickException):
    """Ends the command with one line on stderr and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line; control characters in it cannot move the cursor."""
        text = " ".join(self.format_message().splitlines())
        click.echo(f"kvcli: {shown(text)}", file=file or sys.stderr)


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command: the message on stderr, the exit code to the shell."""
    raise Failure(message, code)


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what the world did into one line and an exit code; what is a bug passes through."""
    try:
        yield
    except BrokenPipeError:
        forget_stdout()
        raise SystemExit(0) from None
    except ConnectionFailed as error:
        raise Failure(_no_server(error)) from error
    except AuthFailed as error:
        hint = "give it as redis://:PASSWORD@host:port or in KVCLI_PASSWORD"
        raise Failure(f"the server wants a password ({error.message}); {hint}") from error
    except ServerLoading as error:
        raise Failure(f"{reason_of(error)}; ask again soon") from error
    except ProtocolError as error:
        raise Failure(f"what answers there does not speak Redis's protocol: {error}") from error
    except KvError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        raise Failure(f"{name}{error.strerror or error}") from error
    except Exception as error:
        own = _own_error(error)
        if own is None:
            raise
        raise Failure(own) from error


def reason_of(error: KvError) -> str:
    """Return why a server does not answer, for people."""
    if isinstance(error, ServerLoading):
        return "the server was just started and reads its data"
    return str(error)


def _own_error(error: Exception) -> str | None:
    """Return the text of an error the parser raises on purpose, without importing the parser."""
    module = sys.modules.get("parser.errors")
    base = getattr(module, "ParserError", None)
    return str(error) if base is not None and isinstance(error, base) else None


def _no_server(error: ConnectionFailed) -> str:
    host, _, port = error.where.rpartition(":")
    if not port.isdigit():
        return f"{error}; start one with: kvserver --unix-socket {error.where}"
    options = "" if port == "7379" else f" --port {port}"
    if host not in {"127.0.0.1", "localhost", "[::1]"}:
        return f"{error}; is kvserver running there?"
    return f"{error}; start one with: kvserver{options}"
