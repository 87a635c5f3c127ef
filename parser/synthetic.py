"""Realistic logs from a seed, for the demo, the tests and the benchmarks.

Guarantees: the same format, number of lines and seed give the same bytes on every machine and
every supported Python; exactly ``lines`` lines, each ended by a newline; constant memory; well over
300,000 lines a second, so that a benchmark does not wait for its input.

How it is fast: nothing is formatted line by line that can be formatted together. An HDFS block is
one *story* whose lines are formatted at once; a wheel holds what still has to happen, by second,
and a second is written with one join. Only ``random()`` and ``getrandbits()`` are used, because
their results are promised to stay the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Final, TypeAlias

__all__ = ["FIRST_BLOCK", "FORMATS", "generate"]

FIRST_BLOCK: Final = 123
"""The first block of every HDFS log, so that there is always a ``block_123`` to ask for."""

_CHUNK_BYTES: Final = 256 * 1024
_START: Final = datetime(2008, 11, 9, 20, 35, 18, tzinfo=UTC)

_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
"""Said here because what strftime calls a month depends on the locale."""

_Seconds: TypeAlias = Iterator[list[bytes]]
"""The lines of one second after the other, without their newlines, for ever."""


def generate(format: str, lines: int, seed: int = 0) -> Iterator[bytes]:  # noqa: A002 - its name on the command line
    """Yield a log as chunks of whole lines.

    Args:
        format: one of FORMATS.
        lines: how many lines, exactly.
        seed: what the log depends on; equal seeds give equal logs.

    Raises:
        ValueError: no such format, or a negative number of lines.
    """
    try:
        seconds = FORMATS[format](Random(seed))  # noqa: S311 - a log, not a secret
    except KeyError:
        names = ", ".join(FORMATS)
        raise ValueError(f"no such format: {format!r} (there are {names})") from None
    if lines < 0:
        raise ValueError("the number of lines cannot be negative")
    return _chunks(seconds, lines)


def _chunks(seconds: _Seconds, lines: int) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    while lines > 0:
        batch = next(seconds)
        if not batch:
            continue
        if len(batch) > lines:
            del batch[lines:]
        lines -= len(batch)
        text = b"\n".join(batch) + b"\n"
        held.append(text)
        size += len(text)
        if size >= _CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _load(random: Random) -> Iterator[float]:
    """How busy each second is, around 1: slow waves, and now and then a burst."""
    level, aim = 1.0, 1.0
    while True:
        if random.random() < 1 / 120:
            aim = 0.35 + 1.3 * random.random()
            if random.random() < 0.15:
                aim *= 2.5
        level += (aim - level) / 25
        yield level


def _weighted(random: Random, weights: list[float]) -> Callable[[], int]:
    """Return a function that picks an index by weight, by one look into a table."""
    total = sum(weights)
    ends = [round(4096 * end / total) for end in accumulate(weights)]
    table: list[int] = []
    for index, end in enumerate(ends):
        table.extend([index] * (end - len(table)))
    draw = random.random

    def pick() -> int:
        return table[int(draw() * 4096)]

    return pick


# ------------------------------------------------------------------------------------------ HDFS

_WRITTEN: Final = b"""
%(nn)d INFO dfs.FSNamesystem: BLOCK* NameSystem.allocateBlock: %(path)b. blk_%(id)d
%(t0)d INFO dfs.DataNode$DataXceiver: Receiving block blk_%(id)d \
src: /%(a)b:%(p0)d dest: /%(a)b:50010
%(t1)d INFO dfs.DataNode$DataXceiver: Receiving block blk_%(id)d \
src: /%(a)b:%(p1)d dest: /%(b)b:50010
%(t2)d INFO dfs.DataNode$DataXceiver: Receiving block blk_%(id)d \
src: /%(b)b:%(p2)d dest: /%(c)b:50010
%(t2)d INFO dfs.DataNode$PacketResponder: Received block blk_%(id)d of size %(size)d from /%(b)b
%(t2)d INFO dfs.DataNode$PacketResponder: PacketResponder 0 for block blk_%(id)d terminating
%(nn)d INFO dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: blockMap updated: \
%(c)b:50010 is added to blk_%(id)d size %(size)d
%(t1)d INFO dfs.DataNode$PacketResponder: Received block blk_%(id)d of size %(size)d from /%(a)b
%(t1)d INFO dfs.DataNode$PacketResponder: PacketResponder 1 for block blk_%(id)d terminating
%(nn)d INFO dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: blockMap updated: \
%(b)b:50010 is added to blk_%(id)d size %(size)d
%(t0)d INFO dfs.DataNode$PacketResponder: Received block blk_%(id)d of size %(size)d from /%(a)b
%(t0)d INFO dfs.DataNode$PacketResponder: PacketResponder 2 for block blk_%(id)d terminating
%(nn)d INFO dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: blockMap updated: \
%(a)b:50010 is added to blk_%(id)d size %(size)d"""
_SERVED: Final = b"""
%(t3)d INFO dfs.DataNode$DataXceiver: %(b)b:50010 Served block blk_%(id)d to /%(d)b"""
_VERIFIED: Final = b"""
%(t4)d INFO dfs.DataBlockScanner: Verification succeeded for blk_%(id)d"""
_REFUSED: Final = b"""
%(t3)d WARN dfs.DataNode$DataXceiver: %(c)b:50010:Got exception while serving blk_%(id)d \
to /%(d)b:"""
_DELETED: Final = b"""
%(nn)d INFO dfs.FSNamesystem: BLOCK* NameSystem.delete: blk_%(id)d is added to \
invalidSet of %(b)b:50010
%(t4)d INFO dfs.FSDataset: Deleting block blk_%(id)d file \
/mnt/hadoop/dfs/data/current/subdir%(sub)d/blk_%(id)d
%(t1)d INFO dfs.FSDataset: Deleting block blk_%(id)d file \
/mnt/hadoop/dfs/data/current/blk_%(id)d
%(t2)d INFO dfs.FSDataset: Deleting block blk_%(id)d file \
/mnt/hadoop/dfs/data/current/subdir%(sub)d/subdir%(nn)d/blk_%(id)d"""
_COPIED: Final = b"""
%(nn)d INFO dfs.FSNamesystem: BLOCK* ask %(a)b:50010 to replicate blk_%(id)d \
to datanode(s) %(d)b:50010
%(t3)d INFO dfs.DataNode: %(a)b:50010 Starting thread to transfer block blk_%(id)d to %(d)b:50010
%(t3)d INFO dfs.DataNode$DataTransfer: %(a)b:50010:Transmitted block blk_%(id)d to /%(d)b:50010"""
_REDUNDANT: Final = b"""
%(nn)d WARN dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: Redundant addStoredBlock request \
received for blk_%(id)d on %(c)b:50010 size %(size)d"""
_LATE: Final = b"""
%(nn)d WARN dfs.PendingReplicationBlocks: PendingReplicationMonitor timed out block blk_%(id)d"""
_BROKEN: Final = b"""
%(t1)d ERROR dfs.DataNode$DataXceiver: %(b)b:50010:DataXceiver: java.io.IOException: \
Block blk_%(id)d is valid, and cannot be written to."""

_STORIES: Final[list[tuple[float, bytes]]] = [
    (26, _WRITTEN + _VERIFIED + _DELETED),
    (28, _WRITTEN + _SERVED + _SERVED + _VERIFIED + _DELETED),
    (17, _WRITTEN + _SERVED + _SERVED + _SERVED + _REFUSED + _DELETED),
    (9, _WRITTEN + _SERVED + _VERIFIED),
    (8, _WRITTEN),
    (7, _WRITTEN + _COPIED + _SERVED + _VERIFIED + _DELETED),
    (3, _WRITTEN + _REDUNDANT + _VERIFIED + _DELETED),
    (1.3, _WRITTEN + _LATE + _COPIED + _SERVED + _REFUSED + _VERIFIED + _DELETED),
    (0.4, _WRITTEN + _BROKEN + _VERIFIED),
]
_FIRST_STORY: Final = _WRITTEN + _SERVED + _REFUSED + _SERVED + _COPIED + _VERIFIED + _DELETED

_WHEEL_S: Final = 1024
"""A story ends within this many seconds."""


def _hdfs(random: Random) -> _Seconds:
    draw, bits = random.random, random.getrandbits
    nodes = [
        b"10.%d.%d.%d" % (250 + bits(1), bits(8) % 254 + 1, bits(8) % 254 + 1) for _ in range(203)
    ]
    pick = _weighted(random, [weight for weight, _ in _STORIES])
    paces = [_pace(random) for _ in range(512)]
    wheel: list[list[bytes]] = [[] for _ in range(_WHEEL_S)]
    started = 0.0
    blocks = 0
    for second, load in enumerate(_load(random)):
        started += 4.4 * load
        while blocks < started:
            if blocks:
                story, block = _STORIES[pick()][1], bits(64) - 2**63
            else:
                story, block = _FIRST_STORY, FIRST_BLOCK
            port = bits(24)
            told = story % {
                b"id": block,
                b"nn": 26 + (port & 7),
                b"a": nodes[int(draw() * 203)],
                b"b": nodes[int(draw() * 203)],
                b"c": nodes[int(draw() * 203)],
                b"d": nodes[int(draw() * 203)],
                b"sub": port >> 11 & 63,
                b"p0": 32768 + (port & 32767),
                b"p1": 32768 + (port >> 5 & 32767),
                b"p2": 32768 + (port >> 9 & 32767),
                b"t0": 140 + (blocks + port) % 19000,
                b"t1": 150 + (blocks * 3 + port) % 19000,
                b"t2": 160 + (blocks * 5 + port) % 19000,
                b"t3": 170 + (blocks * 7 + port) % 19000,
                b"t4": 13 + (port >> 3 & 15),
                b"size": 67108864 if port % 5 else 65536 + (port & 0x3FFFFF) * 15,
                b"path": b"/user/root/rand%d/_temporary/_task_200811092030_%04d_m_%06d_0/part-%05d"
                % (port & 7, port >> 16 & 15, blocks % 2000, blocks % 2000),
            }
            for line, delay in zip(told[1:].split(b"\n"), paces[bits(9)], strict=False):
                wheel[(second + delay) % _WHEEL_S].append(line)
            blocks += 1
        now = wheel[second % _WHEEL_S]
        wheel[second % _WHEEL_S] = []
        if now and random.random() < 1 / 90:
            asked = b" ".join(b"blk_%d" % (bits(64) - 2**63) for _ in range(2 + bits(2)))
            node = nodes[int(draw() * 203)]
            now.append(
                b"19 INFO dfs.FSNamesystem: BLOCK* ask %b:50010 to delete  %b" % (node, asked)
            )
        stamp = (_START + timedelta(seconds=second)).strftime("%y%m%d %H%M%S ").encode()
        yield [stamp + line for line in now]


def _pace(random: Random) -> list[int]:
    """Return when each line of a story comes, in seconds after the first, never going back."""
    delays = [0, 0]
    for _ in range(11):
        delays.append(delays[-1] + int(random.random() ** 3 * 9))
    for _ in range(24):
        delays.append(delays[-1] + int(random.random() ** 2 * 50))
    return [min(delay, _WHEEL_S - 1) for delay in delays]


# ---------------------------------------------------------------------------------------- access


def _combined(random: Random) -> _Seconds:
    draw, bits = random.random, random.getrandbits
    clients = [
        b"%d.%d.%d.%d - - [" % (bits(7) + 20, bits(8), bits(8), bits(8) or 1) for _ in range(5000)
    ]
    pages = [b"/", b"/index.html", b"/login", b"/search?q=log", b"/favicon.ico", b"/robots.txt"]
    pages += [b"/static/app.%06x.js" % bits(24) for _ in range(8)]
    pages += [b"/img/%d.png" % (n + 1) for n in range(40)]
    pages += [b"/api/v1/items/%d" % (n * 37 + 11) for n in range(200)]
    page = _weighted(random, [1 / (n + 3) for n in range(len(pages))])
    methods, method = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE"], [80, 14, 3, 2, 1.0]
    statuses = [b"200", b"304", b"206", b"301", b"404", b"403", b"401", b"400", b"500", b"503"]
    status = _weighted(random, [78, 8, 1, 3, 5, 1.2, 1.4, 0.9, 1, 0.5])
    way = _weighted(random, method)
    requests = [
        b'] "%b %b HTTP/1.1" %b ' % (methods[way()], pages[page()], statuses[status()])
        for _ in range(4096)
    ]
    agents = [b' "%b" "%b"' % (source, agent) for source in _REFERRERS for agent in _AGENTS]
    count = len(agents)
    ready = 0.0
    for second, load in enumerate(_load(random)):
        ready += 30 * load
        batch = int(ready)
        ready -= batch
        now = _START + timedelta(seconds=second)
        stamp = f"{now:%d}/{_MONTHS[now.month - 1]}/{now:%Y:%H:%M:%S} +0000".encode()
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


# ---------------------------------------------------------------------------------------- syslog

_SYSLOG: Final = b"""\
20 sshd[%(pid)d]: Failed password for invalid user %(user)b from %(ip)b port %(port)d ssh2
14 sshd[%(pid)d]: Failed password for root from %(ip)b port %(port)d ssh2
10 sshd[%(pid)d]: Invalid user %(user)b from %(ip)b
10 sshd[%(pid)d]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh \
ruser= rhost=%(ip)b
9 sshd[%(pid)d]: Received disconnect from %(ip)b: 11: Bye Bye [preauth]
5 sshd[%(pid)d]: Accepted publickey for deploy from %(ip)b port %(port)d ssh2
5 sshd[%(pid)d]: pam_unix(sshd:session): session opened for user deploy by (uid=0)
12 CRON[%(pid)d]: (root) CMD (cd / && run-parts --report /etc/cron.hourly)
6 systemd[1]: Started Session %(port)d of user deploy.
3 kernel: [%(port)d.%(pid)06d] Out of memory: Kill process %(pid)d (java) score 871 or \
sacrifice child
4 kernel: [%(port)d.%(pid)06d] TCP: request_sock_TCP: Possible SYN flooding on port 443. \
Sending cookies.
2 ntpd[812]: synchronized to %(ip)b, stratum 2
"""
"""How often, of a hundred, and what."""

_USERS: Final = [b"admin", b"test", b"oracle", b"webmaster", b"guest", b"pi", b"ubuntu", b"git"]


def _syslog(random: Random) -> _Seconds:
    draw, bits = random.random, random.getrandbits
    addresses = [b"%d.%d.%d.%d" % (bits(7) + 60, bits(8), bits(8), bits(8)) for _ in range(1500)]
    said = [line.split(b" ", 1) for line in _SYSLOG.splitlines()]
    pick = _weighted(random, [float(weight) for weight, _ in said])
    ready = 0.0
    for second, load in enumerate(_load(random)):
        ready += 6 * load
        batch = int(ready)
        ready -= batch
        now = _START + timedelta(seconds=second)
        stamp = f"{_MONTHS[now.month - 1]} {now.day:2d} {now:%H:%M:%S} ".encode()
        told = []
        for _ in range(batch):
            number = bits(30)
            text = said[pick()][1] % {
                b"pid": 1000 + (number & 32767),
                b"user": _USERS[number >> 15 & 7],
                b"ip": addresses[int(draw() ** 2 * 1500)],
                b"port": 1024 + (number >> 10) % 60000,
            }
            told.append(b"%bnode-%d %b" % (stamp, 1 + (number >> 18 & 3), text))
        yield told


# ------------------------------------------------------------------------------------ JSON lines

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


def _json(random: Random) -> _Seconds:
    draw, bits = random.random, random.getrandbits
    lines = []
    for _, level, message, status in _JSON:
        fields = {"level": level, "service": "\0", "request_id": "\1", "message": message}
        text = json.dumps(fields, separators=(", ", ": "), ensure_ascii=True)
        text = text.replace("%d", "%(n)d").replace('"\\u0000"', '"%(service)b"')
        text = text.replace('"\\u0001"', '"req-%(id)012x"')
        lines.append(f'{text[1:-1]}, "status": {status}, "duration_ms": %(ms)d}}'.encode())
    pick = _weighted(random, [weight for weight, *_ in _JSON])
    services = [b"web", b"api", b"billing", b"search"]
    recent = [bits(48) for _ in range(256)]
    ready = 0.0
    for second, load in enumerate(_load(random)):
        ready += 40 * load
        batch = int(ready)
        ready -= batch
        stamp = (
            (_START + timedelta(seconds=second)).strftime('{"time": "%Y-%m-%dT%H:%M:%S.').encode()
        )
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


FORMATS: Final[dict[str, Callable[[Random], _Seconds]]] = {
    "hdfs": _hdfs,
    "combined": _combined,
    "syslog": _syslog,
    "json": _json,
}
"""What ``generate`` can write, by name."""
