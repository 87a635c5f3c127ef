"""Commands that keep the store's files well: backup and compact."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import time
from typing import IO, TYPE_CHECKING, Any, cast

import click

from kvclient.cli._failures import fail
from kvclient.cli._output import echo_json
from kvclient.cli._settings import Settings, open_client, pass_settings
from kvclient.errors import ReplyError
from kvclient.text import shown

if TYPE_CHECKING:
    from kvclient.client import Client

__all__ = ["backup", "compact"]

PIECE_BYTES = 256 << 10
POLL_S = 0.1


class _Remote:
    """One file of the backup, as `tarfile` wants to read it."""

    def __init__(self, client: Client, name: bytes):
        self._client = client
        self._name = name
        self._offset = 0

    def read(self, count: int) -> bytes:
        """Return the next piece. A short one is an error, so that no archive is silently cut."""
        data = self._client.execute("BACKUP", "READ", self._name, self._offset, count)
        if not isinstance(data, bytes) or len(data) != count:
            fail("the server gave less than it had promised; nothing was written")
        self._offset += count
        return data


@click.command(short_help="Write a consistent copy of the store's files.")
@click.argument("file", type=click.Path(dir_okay=False))
@pass_settings
def backup(settings: Settings, file: str) -> None:
    """Write a consistent copy of the server's data directory to FILE, a tar archive.

    The server goes on serving; the copy is the store at the moment of the call. A name that ends
    in .gz or .tgz is compressed. FILE is written whole or not at all.

    To restore: unpack it into an empty directory and start kvserver --data-dir on that.
    """
    from kvclient.files import whole_file

    started_s = time.perf_counter()
    total = 0
    with open_client(settings, timeout_s=60.0) as client:
        files = cast("list[list[Any]]", client.execute("BACKUP", "BEGIN"))
        with whole_file(file) as text:
            out: Any = cast("io.TextIOWrapper", text).buffer
            with contextlib.ExitStack() as stack:
                if file.endswith((".gz", ".tgz")):
                    out = stack.enter_context(gzip.GzipFile(fileobj=out, mode="wb"))
                archive = stack.enter_context(
                    tarfile.TarFile(fileobj=out, mode="w", copybufsize=PIECE_BYTES)
                )
                for name, size in files:
                    member = tarfile.TarInfo(name.decode())
                    member.size, member.mode, member.mtime = size, 0o600, int(time.time())
                    archive.addfile(member, cast("IO[bytes]", _Remote(client, name)))
                    total += size
        client.execute("BACKUP", "END")
    seconds = time.perf_counter() - started_s
    if settings.json:
        echo_json({"files": len(files), "bytes": total, "seconds": round(seconds, 3)})
    else:
        click.echo(f"{len(files)} files, {total:,} bytes, to {shown(file)}")


@click.command(short_help="Fold the journal into a base.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the end.")
@pass_settings
def compact(settings: Settings, no_wait: bool) -> None:
    """Fold the journal of the server into a base, now; says when it is done and what it saved."""
    with open_client(settings) as client:
        before = client.stats()
        if "journal_bytes" not in before:
            fail("the server has no journal")
        # one that runs already lacks what was written since it began
        while before["compaction_running"] or not _started(client):
            if no_wait:
                fail("one is running already; it does not fold what was written since it began")
            _ended(client, before)
            before = client.stats()
        if no_wait:
            click.echo("started")
            return
        after = _ended(client, before)
    if after["compaction_failed_runs"] > before["compaction_failed_runs"]:
        fail(f"compaction failed: {after['compaction_last_error']}")
    figures = {
        "bytes_before": before["journal_bytes"],
        "bytes_after": after["journal_bytes"],
        "seconds": float(after["compaction_last_duration_s"]),
    }
    if settings.json:
        echo_json(figures)
    else:
        click.echo(
            f"{figures['bytes_before']:,} bytes became {figures['bytes_after']:,}"
            f" in {figures['seconds']:.1f} s"
        )


def _started(client: Client) -> bool:
    """Start a compaction, unless one is running."""
    try:
        client.execute("BGREWRITEAOF")
    except ReplyError as error:
        if "already in progress" not in str(error):
            raise
        return False
    return True


def _ended(client: Client, before: dict[str, Any]) -> dict[str, Any]:
    """Wait until one more has been tried than before; return the figures."""
    tried = before["compaction_runs"] + before["compaction_failed_runs"]
    while True:
        after = client.stats()
        if after["compaction_runs"] + after["compaction_failed_runs"] > tried:
            return after
        time.sleep(POLL_S)
