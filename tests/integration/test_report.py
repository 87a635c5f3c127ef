"""``kvcli report``: one page that shows the store, safely, in a real browser too."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kvclient import Client
from kvclient.page import KeyRow, PageData, Timeline, page
from parser.summary import Summary, pack
from parser.synthetic import generate
from tests.support import ServerProcess, run_kvcli, running_server

EVIL = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>\"'&\x1b[31m"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has counted a log, and holds keys that mean harm."""
    directory = tmp_path_factory.mktemp("report")
    log = directory / "hdfs.log"
    log.write_bytes(b"".join(generate("hdfs", 3000, 1)))
    with running_server(directory / "data") as server:
        assert run_kvcli("--url", server.url, "ingest", str(log)).returncode == 0
        with Client(server.url) as client:
            summary = Summary(10**6, (1, 1, 0), (2, 1, 0), {EVIL: 5, "ERROR": 3})
            client.execute("MERGE", EVIL, pack(summary))
            client.execute("MERGE", b"\xff\x00raw", pack(Summary(2)))
            client.execute("SET", "plain", "text")
        yield server


def made(server: ServerProcess, output: Path, *options: str) -> str:
    done = run_kvcli("--url", server.url, "report", str(output), *options)
    assert done.returncode == 0, done.stderr
    return output.read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(text: str) -> Elements:
    elements = Elements()
    elements.feed(text)
    return elements


def test_the_page_tells_templates_keys_books_and_times(full: ServerProcess, tmp_path: Path) -> None:
    text = made(full, tmp_path / "out.html")
    said = " ".join(parsed(text).text)
    assert "block_123" in said
    assert "Receiving block <*> src: <*> dest: <*>" in said
    assert "hdfs.log" in said
    assert "3,000" in said
    assert "Events over time, from" in text
    assert (tmp_path / "out.html").stat().st_size < 1_000_000


def test_nothing_on_the_page_comes_from_elsewhere_or_runs_but_its_own_script(
    full: ServerProcess, tmp_path: Path
) -> None:
    text = made(full, tmp_path / "out.html")
    elements = parsed(text)
    assert elements.tags.count("script") == 2
    assert "img" not in elements.tags
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    addresses = [value for name, value in elements.attributes if name in {"src", "href"}]
    assert all(value in {"data:,", "#find"} for value in addresses), addresses
    assert "\x1b" not in text
    assert re.search(r"default-src 'none'; style-src 'sha256-", text)


def test_an_empty_store_makes_a_page_too(server: ServerProcess, tmp_path: Path) -> None:
    text = made(server, tmp_path / "out.html", "--title", "Nothing yet")
    assert "<h1>Nothing yet</h1>" in text
    assert "No line has been counted yet" in text
    assert "No log has been counted" in text


def test_the_password_is_not_on_the_page(tmp_path: Path) -> None:
    output = tmp_path / "out.html"
    with running_server(tmp_path / "data", env={"KVSERVER_PASSWORD": "hush"}) as server:
        url = server.url.replace("redis://", "redis://:hush@")
        done = run_kvcli("--url", url, "report", str(output))
    assert done.returncode == 0, done.stderr
    assert "hush" not in output.read_text(encoding="utf-8")


def test_a_directory_that_is_not_there_is_said_before_any_work(tmp_path: Path) -> None:
    done = run_kvcli("--url", "redis://127.0.0.1:1", "report", str(tmp_path / "no" / "out.html"))
    assert done.returncode == 1
    assert "no such directory" in done.stderr


def test_every_row_is_under_a_heading_and_every_field_has_a_label() -> None:
    row = KeyRow("block_1", 3, 1, "2008-11-09T20:35:18Z", "2008-11-09T20:35:19Z", "ERROR: 1")
    times = ["2008-11-09T20:35:18Z", "2008-11-09T20:35:19Z", "2008-11-09T20:35:20Z"]
    text = page(
        PageData(
            "Title", "now", "here", [("keys", "1")], Timeline(times, {"ERROR": [1, 0]}, 2), (), 0,
            [row], 1, [row], (),
        )
    )  # fmt: skip
    elements = parsed(text)
    assert elements.tags.count("table") == elements.tags.count("caption") == 3
    assert ("lang", "en") in elements.attributes
    assert ("for", "q") in elements.attributes
    levels = [int(tag[1]) for tag in elements.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    assert "2 keys have no times" in text


# ------------------------------------------------------------------------------------- the browser


def browsed(url: str, tmp_path: Path) -> tuple[str, str]:
    """Return the page after its script has run, and what the console said."""
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console)


@needs_browser
@pytest.mark.slow
def test_the_search_works_in_a_browser_and_harm_does_not(
    full: ServerProcess, tmp_path: Path
) -> None:
    output = tmp_path / "out.html"
    made(full, output)
    document, console = browsed(f"{output.as_uri()}#q=BLOCK_123", tmp_path)
    table = document.partition('<table id="keys">')[2].partition("</table>")[0]
    assert "block_123" in table
    assert "INFO: " in table
    assert re.search(r"<output[^>]*>\d+ keys?", document)
    assert table.count("<tr>") - 1 < 20
    assert "<title>What the logs say</title>" in document
    assert console == ""


@needs_browser
@pytest.mark.slow
def test_harmful_keys_are_text_in_the_search_too(full: ServerProcess, tmp_path: Path) -> None:
    output = tmp_path / "out.html"
    made(full, output)
    document, console = browsed(f"{output.as_uri()}#q=onerror", tmp_path)
    assert "<title>What the logs say</title>" in document
    assert "onerror=alert(1)&gt;" in document
    assert "<img" not in document
    assert re.search(r"<output[^>]*>1 key<", document)
    assert console == ""
