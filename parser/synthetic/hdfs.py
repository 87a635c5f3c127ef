"""A log of HDFS: what happens to each block is a story, whose lines come over minutes."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Final

from parser.synthetic.seconds import START, Seconds, busyness, weighted

__all__ = ["FIRST_BLOCK", "hdfs_log"]

FIRST_BLOCK: Final = 123
"""The first block of every HDFS log, so that there is always a ``block_123`` to ask for."""

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


def hdfs_log(random: Random) -> Seconds:
    """Return a log of blocks on some two hundred nodes, 4.4 new ones a second."""
    draw, bits = random.random, random.getrandbits
    nodes = [
        b"10.%d.%d.%d" % (250 + bits(1), bits(8) % 254 + 1, bits(8) % 254 + 1) for _ in range(203)
    ]
    pick = weighted(random, [weight for weight, _ in _STORIES])
    paces = [_pace(random) for _ in range(512)]
    wheel: list[list[bytes]] = [[] for _ in range(_WHEEL_S)]
    started = 0.0
    blocks = 0
    for second, load in enumerate(busyness(random)):
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
        stamp = (START + timedelta(seconds=second)).strftime("%y%m%d %H%M%S ").encode()
        yield [stamp + line for line in now]


def _pace(random: Random) -> list[int]:
    """Return when each line of a story comes, in seconds after the first, never going back."""
    delays = [0, 0]
    for _ in range(11):
        delays.append(delays[-1] + int(random.random() ** 3 * 9))
    for _ in range(24):
        delays.append(delays[-1] + int(random.random() ** 2 * 50))
    return [min(delay, _WHEEL_S - 1) for delay in delays]
