"""A request that is cut behind a whole argument stays with the client that sent it."""

from __future__ import annotations

import pytest

from kvserver.config import Config
from kvserver.requests import RequestReader

COMMANDS = [[b"SET", b"key", b"a*b"], [b"PEXPIRETIME", b"key:22"], [b"GET", b"*"], [b"PING"]]
WIRE = b"".join(
    b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in command)
    for command in COMMANDS
)


@pytest.mark.parametrize("cut", range(1, len(WIRE)))
def test_every_cut_gives_the_same_commands_and_leaves_nothing_to_others(cut: int) -> None:
    reader, other = RequestReader(Config()), RequestReader(Config())
    commands = reader.feed(WIRE[:cut])
    assert other.feed(b"*1\r\n$4\r\nPING\r\n") == [[b"PING"]]
    assert commands + reader.feed(WIRE[cut:]) == COMMANDS
    assert other.feed(WIRE) == COMMANDS
    assert reader.error is None
    assert reader.held_bytes == 0
