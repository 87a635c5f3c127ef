"""Messages between the parent and its producers: a map, and bytes that nobody looks into.

A frame is ``<length of the map u32> <length of the bytes u32> <map as msgpack> <bytes>``. The bytes
travel as they are, from the kernel that wrote them to the server that keeps them.

No I/O: ``encode`` gives bytes to send, ``Decoder`` takes what came in whatever pieces.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgpack

__all__ = ["MAX_FRAME_BYTES", "Decoder", "FrameError", "encode"]

_HEAD: Final = struct.Struct("!II")
MAX_FRAME_BYTES: Final = 1 << 30


class FrameError(ValueError):
    """The bytes are no frame: the other side is not what it should be."""


def encode(message: dict[str, Any], payload: bytes = b"") -> list[bytes]:
    """Return the parts of a frame, to be sent one after the other."""
    head: bytes = msgpack.packb(message, unicode_errors="surrogateescape")
    return [_HEAD.pack(len(head), len(payload)) + head, payload]


class Decoder:
    """Finds frames in a stream of bytes."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._held += data

    def next(self) -> tuple[dict[str, Any], bytes] | None:
        """Return the next frame, None when it is not all there. Raises FrameError."""
        held = self._held
        if len(held) < _HEAD.size:
            return None
        head_bytes, payload_bytes = _HEAD.unpack_from(held)
        end = _HEAD.size + head_bytes + payload_bytes
        if end > MAX_FRAME_BYTES:
            raise FrameError(f"a frame of {end} bytes")
        if len(held) < end:
            return None
        view = memoryview(held)
        head = view[_HEAD.size : _HEAD.size + head_bytes]
        try:
            message = msgpack.unpackb(head, strict_map_key=False, unicode_errors="surrogateescape")
        except (ValueError, msgpack.UnpackException) as error:
            raise FrameError("a frame without a map") from error
        payload = bytes(view[_HEAD.size + head_bytes : end])
        head.release()
        view.release()
        del held[:end]
        if not isinstance(message, dict):
            raise FrameError("a frame without a map")
        return message, payload
