"""Moves a store between a server and snapshot entries, in batches, in bounded memory.

Importing a key replaces it, so importing twice is importing once and a batch may be sent again
after a lost connection. Each batch is one transaction: nobody sees a key half replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from kvclient.errors import KvError, ReplyError
from kvclient.protocol import Arg
from kvclient.seen import Seen
from kvclient.snapshot import Deadline, Entry, Item

if TYPE_CHECKING:
    from kvclient.client import Client

__all__ = ["Imported", "export_entries", "import_items"]

PAGE_KEYS: Final = 1000
REPLY_BYTES: Final = 8 * 1024 * 1024
SUMMARY_BYTES: Final = 16 * 1024
"""What a summary is taken for; most are a few hundred bytes as JSON, and their size is bounded."""
BATCH_COMMANDS: Final = 300
BATCH_BYTES: Final = 512 * 1024
"""A batch is one turn of the server; other clients wait for its end."""


def export_entries(
    client: Client, match: str | None = None, *, skipped: Callable[[bytes, str], None]
) -> Iterator[Entry]:
    """Yield every key once, with its value and deadline, in the order of SCAN.

    A key that changes meanwhile comes as it was or as it is. ``skipped`` hears of keys whose type a
    snapshot cannot hold. A value is asked for only when its type and size are known, so that a list
    on a Redis server is no error and a thousand large values are not asked for at once.
    """
    seen = Seen()
    for scanned in client.scan(match, count=PAGE_KEYS):
        page = [key for key in scanned if seen.add(key)]
        about: list[tuple[Arg, ...]] = []
        for key in page:
            about += (("TYPE", key), ("STRLEN", key), ("PEXPIRETIME", key))
        replies = client.pipeline(about, raise_errors=False)
        found: list[_Found] = []
        for number, key in enumerate(page):
            kind, size, deadline_ms = replies[3 * number : 3 * number + 3]
            if kind in _KINDS:
                found.append(_Found(key, kind, size, deadline_ms))
            elif kind != "none":
                skipped(key, str(kind))
        for part in _parts(found):
            values = client.pipeline([("GET", one.key) for one in part], raise_errors=False)
            for one, value in zip(part, values, strict=True):
                if isinstance(value, ReplyError):  # a damaged summary says so when it is read
                    raise _of_key(one.key, value)
                if value is not None:  # it has not gone since
                    yield Entry(one.key, _KINDS[one.kind], value, one.deadline_ms)


_KINDS: Final[dict[str, Literal["string", "summary"]]] = {
    "string": "string",
    "summary": "summary",
}


class _Found:
    """A key of which all is known but its value."""

    __slots__ = ("deadline_ms", "key", "kind", "size")

    def __init__(self, key: bytes, kind: str, size: Any, deadline_ms: Any) -> None:
        self.key = key
        self.kind = kind
        self.size = size if isinstance(size, int) else SUMMARY_BYTES
        known = isinstance(deadline_ms, int) and deadline_ms >= 0
        self.deadline_ms: int | None = deadline_ms if known else None


def _parts(found: list[_Found]) -> Iterator[list[_Found]]:
    """Cut a page so that the values of each part come as one reply of a modest size.

    A server disconnects whom it owes too much.
    """
    part: list[_Found] = []
    size = 0
    for one in found:
        if part and size + one.size > REPLY_BYTES:
            yield part
            part, size = [], 0
        part.append(one)
        size += one.size
    if part:
        yield part


@dataclass(slots=True)
class Imported:
    """What an import has done so far."""

    keys: int = 0
    summaries: int = 0
    expired: int = 0
    """Entries whose time was over; they are not there when all is done."""
    replaced: int = 0
    """Entries of the older form that a later one of the same key replaced.

    An export holds each key once; the older form came from anywhere.
    """


def import_items(
    client: Client,
    items: Iterable[Item],
    *,
    now_ms: Callable[[], int],
    progress: Callable[[Imported], None] = lambda _: None,
) -> Imported:
    """Write entries to the server and return the counts. Raises KvError, naming the key.

    Every entry is counted once, as what became of it: ``keys``, ``expired`` or ``replaced``. For
    that the keys of the older form are remembered, in about 30 bytes each.
    """
    done = Imported()
    older, over = Seen(), Seen()
    batch: list[tuple[Arg, ...]] = []
    size = 0
    for item in items:
        if isinstance(item, Deadline):
            if item.key not in older:
                continue  # a key of the store, which the file does not hold
            batch.append(("PEXPIREAT", item.key, item.deadline_ms))
            size += len(item.key)
            if item.deadline_ms <= now_ms() and over.add(item.key):
                done.expired += 1
                done.keys -= 1
        elif item.deadline_ms is not None and item.deadline_ms <= now_ms():
            done.expired += 1
        else:
            _write(batch, item)
            size += len(item.key) + len(item.value)
            if item.older and not older.add(item.key):
                done.replaced += 1
            else:
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
            raise _of_key(command[1], reply)
    if isinstance(outcome, ReplyError):
        raise outcome


def _of_key(key: Arg, error: ReplyError) -> KvError:
    name = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
    return KvError(f"key {name}: {error.message}")
