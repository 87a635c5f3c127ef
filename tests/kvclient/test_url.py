"""Addresses: every form that is offered, and what is refused without showing a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvclient.client import Client
from kvclient.errors import UrlError
from kvclient.url import Address, parse_url, tls_context

GOOD = [
    ("redis://", Address()),
    ("redis://example", Address(host="example")),
    ("redis://example:1234", Address(host="example", port=1234)),
    ("redis://example:1234/0", Address(host="example", port=1234)),
    ("redis://:s3cret@example", Address(host="example", password="s3cret")),
    ("redis://ann:p%40ss%2F@h:1", Address(host="h", port=1, username="ann", password="p@ss/")),
    ("redis://[::1]:99", Address(host="::1", port=99)),
    ("rediss://h?ca=/etc/ca.pem", Address(host="h", tls=True, ca_file="/etc/ca.pem")),
    ("unix:///run/kv.sock", Address(path="/run/kv.sock")),
    ("unix://:pw@/run/a%20b.sock", Address(path="/run/a b.sock", password="pw")),
]


@pytest.mark.parametrize(("text", "address"), GOOD)
def test_an_address_reads_as_its_parts(text: str, address: Address) -> None:
    assert parse_url(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "example:1", "http://x", "redis://x:port", "redis://x:99999", "redis://x/3", "unix://"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UrlError):
        parse_url(text)


def test_no_password_is_ever_shown() -> None:
    address = parse_url("redis://:s3cret@example")
    assert "s3cret" not in f"{address} {address!r}"


def test_a_host_or_port_of_its_own_takes_precedence() -> None:
    address = parse_url("redis://:pw@example:1")
    assert address.moved(port=2) == Address(host="example", port=2, password="pw")
    assert address.moved(host="other").host == "other"
    assert str(parse_url("redis://[::1]")) == "[::1]:7379"


def test_a_file_of_certificates_that_cannot_be_read_is_the_callers_fault(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "gone.pem"):
        with pytest.raises(UrlError, match=rf"no certificates can be read from .*{name}: "):
            tls_context(parse_url(f"rediss://127.0.0.1:1?ca={tmp_path / name}"))
    with pytest.raises(UrlError, match="gone"):  # before anybody is asked
        Client(f"rediss://127.0.0.1:1?ca={tmp_path / 'gone.pem'}").ping()
