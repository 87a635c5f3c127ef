"""The page as a whole: its head with the policy, its sections, and the data for its script."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from kvclient.page import tables
from kvclient.page.data import PageData
from kvclient.page.markup import text
from kvclient.page.style import SCRIPT, STYLE
from kvclient.page.timeline import timeline

__all__ = ["page"]


def page(data: PageData) -> str:
    """Return the page."""
    rows = [[row.key, row.count, row.errors, row.first, row.last, row.levels] for row in data.keys]
    policy = (
        f"default-src 'none'; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="kvcli report">
<link rel="icon" href="data:,">
<title>{text(data.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#find">Skip to the search</a>
<header>
<h1>{text(data.title)}</h1>
<p>{text(data.server)} · {text(data.made)}</p>
<dl class="tiles">{"".join(_tile(name, value) for name, value in data.tiles)}</dl>
</header>
<main>
{timeline(data.timeline)}
{tables.templates(data)}
{tables.keys(data)}
{tables.errors(data.errors)}
{tables.books(data.sources)}
</main>
<footer><p>Made by <code>kvcli report</code>; it needs no network and sends nothing.</p></footer>
<script type="application/json" id="data">{_script_json(rows)}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def _script_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    written = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _tile(name: str, value: str) -> str:
    return f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
