"""The access log of a web server, in the combined format."""

from __future__ import annotations

from random import Random
from typing import Final

from parser.synthetic.seconds import MONTHS, Seconds, batches, weighted

__all__ = ["access_log"]


def access_log(random: Random) -> Seconds:
    """Return an access log, 30 requests a second."""
    draw, bits = random.random, random.getrandbits
    clients = [
        b"%d.%d.%d.%d - - [" % (bits(7) + 20, bits(8), bits(8), bits(8) or 1) for _ in range(5000)
    ]
    pages = [b"/", b"/index.html", b"/login", b"/search?q=log", b"/favicon.ico", b"/robots.txt"]
    pages += [b"/static/app.%06x.js" % bits(24) for _ in range(8)]
    pages += [b"/img/%d.png" % (n + 1) for n in range(40)]
    pages += [b"/api/v1/items/%d" % (n * 37 + 11) for n in range(200)]
    page = weighted(random, [1 / (n + 3) for n in range(len(pages))])
    methods, method = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE"], [80, 14, 3, 2, 1.0]
    statuses = [b"200", b"304", b"206", b"301", b"404", b"403", b"401", b"400", b"500", b"503"]
    status = weighted(random, [78, 8, 1, 3, 5, 1.2, 1.4, 0.9, 1, 0.5])
    way = weighted(random, method)
    requests = [
        b'] "%b %b HTTP/1.1" %b ' % (methods[way()], pages[page()], statuses[status()])
        for _ in range(4096)
    ]
    agents = [b' "%b" "%b"' % (source, agent) for source in _REFERRERS for agent in _AGENTS]
    count = len(agents)
    for now, batch in batches(random, per_s=30):
        stamp = f"{now:%d}/{MONTHS[now.month - 1]}/{now:%Y:%H:%M:%S} +0000".encode()
        yield [
            b"%b%b%b%d%b"
            % (
                clients[int(draw() ** 3 * 5000)],
                stamp,
                requests[bits(12)],
                int(draw() ** 4 * 500_000),
                agents[int(draw() * count)],
            )
            for _ in range(batch)
        ]


_REFERRERS: Final = [b"-", b"-", b"https://www.example.com/", b"https://search.example.org/?q=kv"]
_AGENTS: Final = b"""\
Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0
Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
Chrome/126.0.0.0 Safari/537.36
Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 \
(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1
curl/8.8.0
Mozilla/5.0 (compatible; ExampleBot/2.1; +http://bot.example.com/)
""".splitlines()
