"""The client library and ``kvcli``.

``Client`` blocks, ``AsyncClient`` is for Trio; both are loaded when first named, so that importing
this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvclient.aclient import AsyncClient
    from kvclient.client import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        from kvclient.client import Client

        return Client
    if name == "AsyncClient":
        from kvclient.aclient import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
