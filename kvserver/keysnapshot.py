"""A snapshot of all keys at one moment, taken in slices while others go on writing.

To list a million names takes 20 ms, as each has to be fetched from memory, and everybody would
wait. So the buckets are walked (see `keybuckets`) while everything that changes is noted, and what
was noted is looked at again, until so little is left that it takes a single step. That step is the
moment.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvserver.keyspace import Keyspace

__all__ = ["KeySnapshot"]

FEW_KEYS: Final = 100_000
"""So many are listed at once, in 2 ms."""
FEW_CHANGES: Final = 1024
MOST_LOOKS: Final = 32
"""At what changed; whoever writes more than is looked at meanwhile cannot keep the moment away."""
SLICE_NAMES: Final = 2048


class KeySnapshot:
    """The names of all keys; first `take` the snapshot, then read it with `slices`."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._now_ms = keyspace.now  # time stands still in a transaction
        self._lists: list[list[bytes]] = []
        self._noted: set[bytes] = set()
        """What changed and was not looked at since."""
        self._changed: dict[bytes, bool] = {}
        """What changed at all, and whether it was there when it was looked at last."""

    def take(self) -> Generator[None]:
        """Find the names, with a yield between slices; the moment is that of the last one."""
        keyspace = self._keyspace
        if len(keyspace) <= FEW_KEYS:
            self._lists.append(self._not_overdue(keyspace.data))
        else:
            keyspace.listen(self._note, self._note_many)
            try:
                yield from self._walk()
                yield from self._look_again()
            finally:
                keyspace.unlisten(self._note)

    def slices(self) -> Iterator[list[bytes]]:
        """Yield the names, some at a time, each once; what was yielded is freed."""
        changed = self._changed
        while self._lists:
            names = self._lists[-1]
            some = names[-SLICE_NAMES:]
            del names[-SLICE_NAMES:]
            if not names:
                self._lists.pop()
            yield [name for name in some if name not in changed] if changed else some
        there = (name for name, is_there in changed.items() if is_there)
        while some := list(islice(there, SLICE_NAMES)):
            yield some

    def _walk(self) -> Generator[None]:
        keyspace = self._keyspace
        buckets = keyspace.buckets
        yield from keyspace.sort_arrivals()
        for number in buckets.filled():
            self._lists.append(self._not_overdue(buckets.bucket(number, keyspace.data)))
            yield

    def _look_again(self) -> Generator[None]:
        for _ in range(MOST_LOOKS):
            if len(self._noted) <= FEW_CHANGES:
                break
            noted, self._noted = iter(self._noted), set()
            while some := list(islice(noted, SLICE_NAMES)):
                self._look_at(some)
                yield
        self._look_at(self._noted)

    def _look_at(self, names: Iterable[bytes]) -> None:
        data, changed = self._keyspace.data, self._changed
        for name in names:  # what was written to is not overdue any more
            changed[name] = name in data

    def _not_overdue(self, names: Iterable[bytes]) -> list[bytes]:
        deadlines, now_ms = self._keyspace.deadlines, self._now_ms
        if not deadlines:
            return list(names)
        return [name for name in names if name not in deadlines or deadlines[name] > now_ms]

    def _note(self, key: bytes, event: str) -> None:
        if event == "flushdb":
            self._lists.clear()
            self._changed.clear()
        else:
            self._noted.add(key)

    def _note_many(self, keys: Sequence[bytes], event: str) -> None:  # noqa: ARG002 - a listener
        self._noted.update(keys)
