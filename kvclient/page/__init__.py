"""The report as one HTML page: no network, no other file, nothing executed but its own script.

Guarantees: everything that comes from logs is escaped, in the markup and in the data of the script
(which puts it on the page as text only); a content security policy allows the page's own style and
script by their hashes and nothing else. Without JavaScript everything but the search is there.

Pure: data in, text out.
"""

from __future__ import annotations

from kvclient.page.data import KeyRow, PageData, SourceRow, TemplateRow, Timeline
from kvclient.page.document import page

__all__ = ["KeyRow", "PageData", "SourceRow", "TemplateRow", "Timeline", "page"]
