"""Where the server listens: several addresses with one port, and nobody let in by mistake."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from kvserver.config import Config
from kvserver.errors import ConfigError
from kvserver.listening import (
    bind_port,
    bind_unix,
    check_exposure,
    endpoint,
    hosts_of,
    remove_unix,
    unix_identity,
)

NOT_HERE = "2001:db8::1"
"""An address for documentation, which no machine has."""


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no ::1")


def names(hosts: str, port: int = 0) -> list[tuple[str, int]]:
    with ExitStack() as stack:
        socks = [stack.enter_context(sock) for sock in bind_port(hosts, port)]
        return [sock.getsockname()[:2] for sock in socks]


@needs_ipv6
def test_both_loopbacks_are_bound_by_default_at_one_port() -> None:
    (v4, v4_port), (v6, v6_port) = names(Config().host)
    assert (v4, v6) == ("127.0.0.1", "::1")
    assert v4_port == v6_port != 0


@needs_ipv6
def test_an_address_of_ipv6_takes_no_clients_of_ipv4() -> None:
    assert [host for host, _ in names("0.0.0.0 ::")] == ["0.0.0.0", "::"]


def test_an_address_that_may_be_missing_is_passed_over() -> None:
    assert [host for host, _ in names(f"-{NOT_HERE} 127.0.0.1")] == ["127.0.0.1"]


def test_an_address_that_is_missing_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on \[2001:db8::1\]:\d+: "):
        bind_port(f"127.0.0.1 {NOT_HERE}", 0)
    with pytest.raises(ConfigError, match="no address to listen on"):
        bind_port(f"-{NOT_HERE}", 0)


def test_a_port_that_is_taken_is_an_error_even_where_the_address_may_be_missing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: "):
            bind_port("-127.0.0.1", port)


@pytest.mark.parametrize("hosts", ["0.0.0.0", "127.0.0.1 192.0.2.1", "::1 -::", "example.org"])
def test_without_a_password_any_address_but_loopback_is_refused(hosts: str) -> None:
    with pytest.raises(ConfigError, match="without a password"):
        check_exposure(Config(host=hosts))
    check_exposure(Config(host=hosts, password="secret"))
    check_exposure(Config(host=hosts, unprotected=True))


def test_loopback_needs_no_password() -> None:
    for hosts in (Config().host, "127.0.0.1", "::1", "localhost", "127.0.0.2 -::1"):
        check_exposure(Config(host=hosts))


def test_addresses_are_read_and_written_as_redis_does() -> None:
    assert hosts_of("127.0.0.1 -::1") == [("127.0.0.1", False), ("::1", True)]
    assert endpoint(("127.0.0.1", 6379)) == "127.0.0.1:6379"
    assert endpoint(("::1", 6379, 0, 0)) == "[::1]:6379"


def test_a_unix_socket_replaces_what_a_crash_left_and_nothing_else(tmp_path: Path) -> None:
    path = str(tmp_path / "kv.sock")
    bind_unix(path).close()  # as a crash leaves it
    with bind_unix(path) as sock:
        with pytest.raises(ConfigError, match="cannot listen on"):
            bind_unix(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            sock.accept()[0].close()
    notes = tmp_path / "notes.txt"
    notes.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(notes)
    for name in (notes, link):
        with pytest.raises(ConfigError, match="cannot listen on"):
            bind_unix(str(name))
    assert link.is_symlink()
    assert notes.read_text() == "precious"


def test_a_socket_that_took_our_place_is_left_there(tmp_path: Path) -> None:
    path = str(tmp_path / "kv.sock")
    with bind_unix(path):
        ours = unix_identity(path)
        (tmp_path / "kv.sock").rename(tmp_path / "old.sock")
        with bind_unix(path):
            remove_unix(path, ours)
            theirs = unix_identity(path)
            remove_unix(path, theirs)
    assert not (tmp_path / "kv.sock").exists()
