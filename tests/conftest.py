"""Options and fixtures of the whole suite."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from kvclient.client import Client
from tests.support import ServerProcess, running_server

settings.register_profile(
    "quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "deep", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--deep", action="store_true", help="more crash cycles, more examples; takes long"
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("deep" if config.getoption("--deep") else "quick")
    # A job in a script's background ignores Ctrl-C, and so would every program that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--deep"):
        return
    skip = pytest.mark.skip(reason="runs only with --deep")
    for item in items:
        if "deep" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def deep(request: pytest.FixtureRequest) -> bool:
    """Whether the long variant of a test is wanted."""
    return bool(request.config.getoption("--deep"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A real server with an empty directory of its own."""
    with running_server(tmp_path / "data") as process:
        yield process


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server for all tests of a module."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as process:
        yield process


@pytest.fixture
def cleared_server(module_server: ServerProcess) -> ServerProcess:
    """The module's server, without a key, and having heard of no log."""
    with Client(module_server.url) as client:
        client.clear()
    return module_server
