"""Which sockets have something to say: epoll where there is epoll, kqueue or poll elsewhere.

All three give ``poll(timeout_s) -> [(fd, events)]`` with events made of READ, WRITE and BROKEN.
``fileno()`` is readable when any of the registered sockets is, so that Trio can wait for all of
them at once; -1 where the system has no such thing.

A descriptor is reported until it is read. For READ | ONCE, without WRITE, epoll reports it once and
then when more has come, as it has to look at each socket twice for the other. This binds the reader
to one thing: after a read that filled its buffer, or an event with MORE in it, there may be
something left, and ``modify`` brings the next event for that.
"""

from __future__ import annotations

import select
from typing import Final, Protocol

__all__ = ["BROKEN", "MORE", "ONCE", "READ", "WRITE", "Poller", "new_poller"]

READ: Final = 1
WRITE: Final = 4
BROKEN: Final = 8 | 16
"""The values of epoll and poll for error and hang-up, so that these need no translation."""
MORE: Final = 2 | 0x2000
"""Those for urgent bytes, at which a read stops, and for an end, of which only another read tells:
a short read does not mean that nothing is left."""
ONCE: Final = 1 << 31 | MORE
"""That of epoll for edges; the other pollers go on reporting."""


class Poller(Protocol):
    """Watches file descriptors."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``poll`` has something, or -1."""
        ...

    def register(self, fd: int, events: int) -> None:
        """Start to watch."""
        ...

    def modify(self, fd: int, events: int) -> None:
        """Watch for something else."""
        ...

    def unregister(self, fd: int) -> None:
        """Stop to watch."""
        ...

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """Return what is ready, waiting up to ``timeout`` seconds."""
        ...

    def close(self) -> None:
        """Give the descriptor back."""
        ...


def new_poller() -> Poller:
    """Return the best this system has."""
    if hasattr(select, "epoll"):
        return select.epoll()
    return _KqueuePoller() if hasattr(select, "kqueue") else _PollPoller()


class _KqueuePoller:
    """kqueue with the manners of epoll (level-triggered)."""

    def __init__(self) -> None:
        self._queue = select.kqueue()  # type: ignore[attr-defined,unused-ignore]  # not on Linux
        self._events: dict[int, int] = {}

    def fileno(self) -> int:
        return int(self._queue.fileno())

    def register(self, fd: int, events: int) -> None:
        self._events[fd] = 0
        self.modify(fd, events)

    def modify(self, fd: int, events: int) -> None:
        events &= READ | WRITE
        changed = self._events[fd] ^ events
        self._events[fd] = events
        changes = []
        for bit, name in ((READ, "KQ_FILTER_READ"), (WRITE, "KQ_FILTER_WRITE")):
            if changed & bit:
                action = getattr(select, "KQ_EV_ADD" if events & bit else "KQ_EV_DELETE")
                changes.append(
                    select.kevent(fd, getattr(select, name), action)  # type: ignore[attr-defined,unused-ignore]  # not on Linux
                )
        if changes:
            self._queue.control(changes, 0, 0)

    def unregister(self, fd: int) -> None:
        self.modify(fd, 0)
        del self._events[fd]

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        ready: dict[int, int] = {}
        read = getattr(select, "KQ_FILTER_READ", None)
        for event in self._queue.control(None, 1024, timeout):
            bit = READ if event.filter == read else WRITE
            ready[event.ident] = ready.get(event.ident, 0) | bit
        return list(ready.items())

    def close(self) -> None:
        self._queue.close()


class _PollPoller:
    """poll(2), for systems with nothing better; the reactor looks every millisecond."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.unregister = self._poll.unregister

    def fileno(self) -> int:
        return -1

    def register(self, fd: int, events: int) -> None:
        self._poll.register(fd, events & (READ | WRITE))

    def modify(self, fd: int, events: int) -> None:
        self._poll.modify(fd, events & (READ | WRITE))

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        return self._poll.poll(timeout * 1000)

    def close(self) -> None:
        pass
