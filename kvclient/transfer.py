"""Moves a store between a server and snapshot entries, in batches, in bounded memory.

Importing a key replaces it, so importing twice is importing once and a batch may be sent again
after a lost connection. Each batch is one transaction: nobody sees a key half replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kvclient.errors import KvError, ReplyError
from kvclient.protocol import Arg
from kvclient.seen import Seen
from kvclient.snapshot import Deadline, Entry, Item

if TYPE_CHECKING:
    from kvclient.client import Client

__all__ = ["Imported", "export_entries", "import_items"]

PAGE_KEYS: Final = 1000
BATCH_COMMANDS: Final = 300
BATCH_BYTES: Final = 512 * 1024
"""A batch is one turn of the server; other clients wait for its end."""


def export_entries(
    client: Client, match: str | None = None, *, skipped: Callable[[bytes, str], None]
) -> Iterator[Entry]:
    """Yield every key once, with its value and deadline, in the order of SCAN.

    A key that changes meanwhile comes as it was or as it is. ``skipped`` hears of keys whose type a
    snapshot cannot hold. A value is asked for only when its page's types are known, so that a list
    on a Redis server is no error.
    """
    seen = Seen()
    for scanned in client.scan(match, count=PAGE_KEYS):
        page = [key for key in scanned if seen.add(key)]
        if not page:
            continue
        kinds = client.pipeline([("TYPE", key) for key in page])
        wanted: list[tuple[bytes, str]] = []
        for key, kind in zip(page, kinds, strict=True):
            if kind in {"string", "summary"}:
                wanted.append((key, kind))
            elif kind != "none":
                skipped(key, kind)
        commands: list[tuple[Arg, ...]] = []
        for key, _ in wanted:
            commands += (("PEXPIRETIME", key), ("GET", key))
        replies = client.pipeline(commands)
        for (key, kind), deadline_ms, value in zip(
            wanted, replies[::2], replies[1::2], strict=True
        ):
            if value is not None:  # gone since
                yield Entry(
                    key,
                    "summary" if kind == "summary" else "string",
                    value,
                    deadline_ms if deadline_ms >= 0 else None,
                )


@dataclass(slots=True)
class Imported:
    """What an import has done so far."""

    keys: int = 0
    summaries: int = 0
    expired: int = 0
    """Entries whose time was over; they are not written."""


def import_items(
    client: Client,
    items: Iterable[Item],
    *,
    now_ms: Callable[[], int],
    progress: Callable[[Imported], None] = lambda _: None,
) -> Imported:
    """Write entries to the server and return the counts. Raises KvError, naming the key."""
    done = Imported()
    batch: list[tuple[Arg, ...]] = []
    size = 0
    for item in items:
        if isinstance(item, Deadline):
            batch.append(("PEXPIREAT", item.key, item.deadline_ms))
            size += len(item.key)
        elif item.deadline_ms is not None and item.deadline_ms <= now_ms():
            done.expired += 1
        else:
            _write(batch, item)
            size += len(item.key) + len(item.value)
            done.keys += 1
            done.summaries += item.kind == "summary"
        if len(batch) >= BATCH_COMMANDS or size >= BATCH_BYTES:
            _commit(client, batch)
            batch, size = [], 0
            progress(done)
    _commit(client, batch)
    progress(done)
    return done


def _write(batch: list[tuple[Arg, ...]], entry: Entry) -> None:
    if entry.kind == "string":
        if entry.deadline_ms is None:
            batch.append(("SET", entry.key, entry.value))
        else:
            batch.append(("SET", entry.key, entry.value, "PXAT", entry.deadline_ms))
        return
    batch += (("DEL", entry.key), ("MERGE", entry.key, entry.value))
    if entry.deadline_ms is not None:
        batch.append(("PEXPIREAT", entry.key, entry.deadline_ms))


def _commit(client: Client, batch: list[tuple[Arg, ...]]) -> None:
    if not batch:
        return
    replies = client.pipeline([("MULTI",), *batch, ("EXEC",)], raise_errors=False, repeatable=True)
    outcome = replies[-1]
    refused = replies[1:-1] if isinstance(outcome, ReplyError) else outcome or []
    for command, reply in zip(batch, refused, strict=False):
        if isinstance(reply, ReplyError):
            name = bytes(command[1]).decode("utf-8", "backslashreplace")  # type: ignore[arg-type]
            raise KvError(f"key {name}: {reply.message}") from reply
    if isinstance(outcome, ReplyError):
        raise outcome
