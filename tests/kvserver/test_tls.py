"""Clients over TLS: the same server, the same replies, and nobody in without a handshake."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme

from tests.support import ServerProcess, run, running_server
from tests.wire import encode


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(
    authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, Path]]:
    directory = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    options = ["--tls-cert", str(directory / "cert.pem"), "--tls-key", str(directory / "key.pem")]
    with running_server(directory / "data", *options) as server:
        yield server, directory


def client_of(server: ServerProcess, directory: Path, protocol: int = 2) -> redis.Redis:
    return redis.Redis(
        host="127.0.0.1",
        port=server.port,
        ssl=True,
        ssl_ca_certs=str(directory / "ca.pem"),
        protocol=protocol,
    )


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_works_over_tls(secured: tuple[ServerProcess, Path], protocol: int) -> None:
    server, directory = secured
    with client_of(server, directory, protocol) as client:
        assert client.set("k", b"v" * 200_000)
        assert client.get("k") == b"v" * 200_000
        pipeline = client.pipeline()
        for number in range(500):
            pipeline.set(f"k{number}", number)
        pipeline.mget([f"k{number}" for number in range(500)])
        assert pipeline.execute()[-1] == [b"%d" % number for number in range(500)]
        assert client.mget([f"k{number % 500}" for number in range(5000)])[-1] == b"499"
        assert len(client.keys("*")) == 501


def test_messages_cross_between_tls_clients(secured: tuple[ServerProcess, Path]) -> None:
    server, directory = secured
    with client_of(server, directory) as client, client.pubsub() as listener:
        listener.subscribe("news")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        assert client.publish("news", "hello") == 1
        assert listener.get_message(timeout=5)["data"] == b"hello"


def test_a_plain_client_gets_nowhere(secured: tuple[ServerProcess, Path]) -> None:
    server, directory = secured
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
        plain.sendall(encode("PING"))
        assert b"PONG" not in plain.recv(100)
    with client_of(server, directory) as client:
        assert client.ping()


def test_old_versions_of_tls_are_refused(secured: tuple[ServerProcess, Path]) -> None:
    server, directory = secured
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_half_a_handshake_costs_the_others_nothing(secured: tuple[ServerProcess, Path]) -> None:
    server, directory = secured
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    try:
        for each in idle:
            each.sendall(b"\x16\x03\x01\x02\x00\x01")
        with client_of(server, directory) as client:
            assert client.ping()
    finally:
        for each in idle:
            each.close()


def test_a_client_that_quits_gets_its_reply_first(secured: tuple[ServerProcess, Path]) -> None:
    server, directory = secured
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wire,
    ):
        wire.sendall(encode("PING") + encode("QUIT"))
        received = b""
        while more := wire.recv(100):
            received += more
        assert received == b"+PONG\r\n+OK\r\n"


def test_a_bad_certificate_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("this is no certificate")
    outcome = run(
        [
            sys.executable, "-m", "kvserver", "--port", "0", "--data-dir", str(tmp_path / "d"),
            "--tls-cert", str(tmp_path / "no.pem"), "--tls-key", str(tmp_path / "no.pem"),
        ]
    )  # fmt: skip
    assert outcome.returncode == 1
    assert "certificate" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_client_certificate_is_asked_for(authority: trustme.CA, tmp_path: Path) -> None:
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    both = str(tmp_path / "both.pem")
    options = ["--tls-cert", both, "--tls-key", both, "--tls-ca-cert", str(tmp_path / "ca.pem")]
    with running_server(tmp_path / "data", *options) as server:
        assert pong(server.port, tmp_path / "ca.pem", None) == b""
        assert pong(server.port, tmp_path / "ca.pem", both) == b"+PONG\r\n"


def test_stopping_does_not_wait_for_idle_tls_clients(authority: trustme.CA, tmp_path: Path) -> None:
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    both = str(tmp_path / "both.pem")
    with (
        running_server(tmp_path / "data", "--tls-cert", both, "--tls-key", both) as server,
        client_of(server, tmp_path) as client,
    ):
        assert client.set("k", "v")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5


def pong(port: int, ca: Path, certificate: str | None) -> bytes:
    """Say PING; return the answer, nothing when the server ends the connection."""
    context = ssl.create_default_context(cafile=str(ca))
    if certificate is not None:
        context.load_cert_chain(certificate)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as wire,
        ):
            wire.sendall(encode("PING"))
            return wire.recv(100)
    except (ssl.SSLError, ConnectionError):
        return b""
