"""This server beside a real Redis, for the tests that compare the two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import running_server
from tests.wire import Wire, real_redis


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Ports of this server and of a real one; skips where there is none."""
    directory = tmp_path_factory.mktemp("pair")
    with real_redis(directory / "redis") as theirs, running_server(directory / "kv") as server:
        yield server.port, theirs


@pytest.fixture(scope="module")
def wires(ports: tuple[int, int]) -> Iterator[tuple[Wire, Wire]]:
    """Connections to both."""
    ours, theirs = ports
    with Wire("127.0.0.1", ours) as our_wire, Wire("127.0.0.1", theirs) as their_wire:
        yield our_wire, their_wire
