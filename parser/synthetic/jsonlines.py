"""JSON lines of a few services, some requests in several lines."""

from __future__ import annotations

import json
from random import Random
from typing import Final

from parser.synthetic.seconds import Seconds, batches, weighted

__all__ = ["json_log"]

_JSON: Final[list[tuple[float, str, str, int]]] = [
    (40, "INFO", "request finished", 200),
    (20, "INFO", "cache hit for item %d", 200),
    (14, "DEBUG", "query took %d ms", 200),
    (8, "INFO", "user %d signed in", 200),
    (6, "WARN", "retrying upstream call, attempt %d", 502),
    (5, "WARN", "slow query: %d ms", 200),
    (4, "INFO", "item %d not found", 404),
    (2, "ERROR", "upstream timed out after %d ms", 504),
    (1, "ERROR", "payment %d refused by provider", 500),
]


def json_log(random: Random) -> Seconds:
    """Return the events of services, 40 a second."""
    draw, bits = random.random, random.getrandbits
    lines = []
    for _, level, message, status in _JSON:
        fields = {"level": level, "service": "\0", "request_id": "\1", "message": message}
        text = json.dumps(fields, separators=(", ", ": "), ensure_ascii=True)
        text = text.replace("%d", "%(n)d").replace('"\\u0000"', '"%(service)b"')
        text = text.replace('"\\u0001"', '"req-%(id)012x"')
        lines.append(f'{text[1:-1]}, "status": {status}, "duration_ms": %(ms)d}}'.encode())
    pick = weighted(random, [weight for weight, *_ in _JSON])
    services = [b"web", b"api", b"billing", b"search"]
    recent = [bits(48) for _ in range(256)]
    for now, batch in batches(random, per_s=40):
        stamp = now.strftime('{"time": "%Y-%m-%dT%H:%M:%S.').encode()
        told: list[bytes] = []
        for index in range(batch):
            number = bits(32)
            slot = number & 255
            if number & 0x700 == 0:
                recent[slot] = bits(48)
            event = lines[pick()] % {
                b"service": services[slot & 3],
                b"id": recent[slot],
                b"n": number >> 16,
                b"ms": int(draw() ** 4 * 3000),
            }
            told.append(b'%b%03dZ", %b' % (stamp, index * 1000 // batch, event))
        yield told
