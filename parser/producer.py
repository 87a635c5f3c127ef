"""The process that does the tasks of a run, one after the other, until nobody has more for it.

It is started as ``python -m parser.producer FD``, at the other end of one socket that nobody else
holds: no lock and no queue is shared, so a producer may be killed at any moment without anyone else
noticing more than the end of its socket. What it does with a task is in ``work``.

When the parent is gone, so is the producer, within two seconds.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import Final

from parser import frames
from parser.work import Work

__all__ = ["main"]

NICENESS: Final = 10
"""Producers give way: where processors are few, those who ask the store must not wait for those
who count."""


def main() -> None:
    """Serve the socket whose descriptor is the argument, until it ends."""
    _die_with(os.getppid())
    os.nice(NICENESS)
    link = socket.socket(fileno=int(sys.argv[1]))
    link.setblocking(True)
    import parser.kernel.engine  # noqa: F401 - while the parent still finds out what there is to do

    work = Work()
    decoder = frames.Decoder()
    try:
        while True:
            frame = decoder.next()
            if frame is None:
                data = link.recv(1 << 16)
                if not data:
                    return
                decoder.feed(data)
                continue
            for message, payload in work.messages(*frame):
                for part in frames.encode(message, payload):
                    link.sendall(part)
    except (BrokenPipeError, ConnectionResetError):
        return


def _die_with(parent: int) -> None:
    """End this process when its parent is gone, however busy it is."""
    if sys.platform == "linux":
        import ctypes
        import signal

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
