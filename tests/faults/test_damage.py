"""Damaged files: refused with file and offset, or cut in the last record; never a wrong value."""

from __future__ import annotations

import itertools
import random
import resource
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from kvserver.errors import DamageError, DirectoryError, JournalError, RecordError
from kvserver.journal import manifest as manifests
from kvserver.journal import segment as segments
from kvserver.journal.manifest import MANIFEST, Entry, Manifest
from kvserver.journal.record import HEADER, decode_body, encode_header, seed_of
from kvserver.journal.segment import Break
from parser.summary import SummaryError
from tests.faults.disk import MemoryDisk
from tests.faults.story import STATES, TURNS, Mistakes, compact_now, restart

Files = dict[str, bytes]


def files_of(disk: MemoryDisk) -> Files:
    return {name: bytes(disk.inodes[number].data) for name, number in disk.entries.items()}


def small_journal() -> tuple[Files, list[int]]:
    """A base, a closed segment and an open one; and where the records of the open one end."""
    disk = MemoryDisk()
    journal, _, _ = restart(disk)
    for turn in TURNS[:6]:
        journal.append(turn)
    compact_now(disk, journal, Mistakes())
    for turn in TURNS[6:9]:
        journal.append(turn)
    journal.want_rotation()
    journal.maintain()
    journal.rotate_if_needed()
    journal.maintain()
    borders = [0]
    for turn in TURNS[9:13]:
        journal.append(turn)
        borders.append(journal.active_bytes)
    assert [entry.open for entry in journal.manifest.entries] == [False, False, True]
    journal.close()
    return files_of(disk), borders


FILES, BORDERS = small_journal()
BASE, CLOSED, OPEN = sorted(
    (name for name in FILES if name.endswith(".kvj")),
    key=lambda name: (not name.startswith("base"), name),
)
BEFORE_OPEN = 9
LAST = 13


def verdict(files: Files) -> tuple[int | None, int, str]:
    """(turns recovered or None when refused, bytes cut, the refusal)."""
    try:
        journal, state, report = restart(MemoryDisk(files))
    except JournalError as error:
        return None, 0, str(error)
    journal.close()
    assert state in STATES, "a state that never was"
    return STATES.index(state), report.torn_bytes, ""


def test_the_whole_journal_recovers() -> None:
    assert verdict(FILES) == (LAST, 0, "")


def test_the_open_file_cut_at_every_offset_gives_exactly_the_whole_records() -> None:
    for size in range(len(FILES[OPEN]) + 1):
        turns, torn, _ = verdict({**FILES, OPEN: FILES[OPEN][:size]})
        whole = max(i for i, border in enumerate(BORDERS) if border <= size)
        assert (turns, torn) == (BEFORE_OPEN + whole, size - BORDERS[whole]), size


def test_what_was_cut_is_kept_beside_and_the_next_start_finds_nothing_torn() -> None:
    disk = MemoryDisk({**FILES, OPEN: FILES[OPEN][:-3]})
    journal, _, report = restart(disk)
    (torn,) = report.torn
    kept = files_of(disk)[f"{OPEN}.torn-{torn.offset}"]
    assert kept == FILES[OPEN][torn.offset : -3]
    journal.append([["set", b"a", b"b"]])
    journal.close()
    _, _, again = restart(disk.killed())
    assert again.torn == []


@pytest.mark.parametrize("name", [BASE, CLOSED])
def test_a_closed_file_cut_at_any_offset_is_refused(name: str) -> None:
    for size in range(len(FILES[name])):
        turns, _, refusal = verdict({**FILES, name: FILES[name][:size]})
        assert turns is None
        assert name in refusal
        assert "at byte" in refusal


def test_a_manifest_cut_at_any_offset_is_refused() -> None:
    for size in range(len(FILES[MANIFEST])):
        turns, _, refusal = verdict({**FILES, MANIFEST: FILES[MANIFEST][:size]})
        assert turns is None
        assert MANIFEST in refusal


def flip_every_bit(name: str) -> tuple[int, list[tuple[int, int]]]:
    """Flip each bit of a file in turn; return how many were refused, and which were not noticed."""
    data = FILES[name]
    refused, unnoticed = 0, []
    for at, bit in itertools.product(range(len(data)), range(8)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << bit
        try:
            turns, torn, _ = verdict({**FILES, name: bytes(damaged)})
        except (AssertionError, TypeError, SummaryError):
            unnoticed.append((at, bit))
            continue
        if turns is None:
            refused += 1
        elif turns != LAST or torn:
            unnoticed.append((at, bit))
    return refused, unnoticed


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [OPEN, CLOSED, BASE, MANIFEST], ids=["open", "closed", "base", "manifest"]
)
def test_every_bit_of_a_file_matters_and_every_flip_is_refused(name: str) -> None:
    refused, unnoticed = flip_every_bit(name)
    assert unnoticed == []
    assert refused == 8 * len(FILES[name])


def careless_judge(*arguments: Any) -> Break:
    broken = HONEST_JUDGE(*arguments)
    return Break(broken.offset, broken.sequence, broken.reason, torn=True)


HONEST_JUDGE = segments.judge


class Anything:
    """A CRC that always fits."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # equal to everything, so no key

    def __ne__(self, other: object) -> bool:
        return False


class NoCrc:
    """A header whose CRCs always fit."""

    def unpack_from(self, data: bytes, offset: int) -> tuple[bytes, int, int, Anything, Anything]:
        magic, length, sequence, _, _ = HEADER.unpack_from(data, offset)
        return magic, length, sequence, Anything(), Anything()


@pytest.mark.parametrize(
    ("name", "replacement"),
    [("judge", careless_judge), ("HEADER", NoCrc())],
    ids=["every break counts as torn", "the CRCs are not compared"],
)
def test_the_flips_notice_a_mistake(
    monkeypatch: pytest.MonkeyPatch, name: str, replacement: Any
) -> None:
    monkeypatch.setattr(segments, name, replacement)
    assert flip_every_bit(OPEN)[1]


def test_records_swapped_repeated_or_dropped_are_refused() -> None:
    data = FILES[OPEN]
    records = [data[a:b] for a, b in itertools.pairwise(BORDERS)]
    for i, j in itertools.permutations(range(len(records)), 2):
        swapped = list(records)
        swapped[i], swapped[j] = swapped[j], swapped[i]
        repeated = [*records[:i], records[j], *records[i:]]
        for wrong in (swapped, repeated):
            assert verdict({**FILES, OPEN: b"".join(wrong)})[0] is None, (i, j)
    for i in range(len(records) - 1):
        dropped = records[:i] + records[i + 1 :]
        assert verdict({**FILES, OPEN: b"".join(dropped)})[0] is None, i


def test_a_segment_of_another_directory_is_refused() -> None:
    other, _ = small_journal()
    theirs = next(name for name in other if name.startswith("segment") and name not in FILES)
    assert verdict({**FILES, OPEN: other[theirs]})[0] is None
    assert verdict({**FILES, CLOSED: FILES[OPEN]})[0] is None


@pytest.mark.parametrize("size", [1, 7, 23, 24, 25, 511, 512, 513, 4096, 65536])
def test_zeros_at_the_end_are_torn_and_cut(size: int) -> None:
    assert verdict({**FILES, OPEN: FILES[OPEN] + bytes(size)}) == (LAST, size, "")


@pytest.mark.parametrize("size", [1, 2, 5, 23, 24, 25, 100, 5000])
def test_garbage_at_the_end_is_refused(size: int) -> None:
    garbage = random.Random(size).randbytes(size - 1) + b"\xff"
    turns, _, refusal = verdict({**FILES, OPEN: FILES[OPEN] + garbage})
    assert turns is None
    assert f"{OPEN} at byte {len(FILES[OPEN])}" in refusal


def test_a_record_behind_zeros_is_damage_and_no_tear() -> None:
    record = FILES[OPEN][BORDERS[1] : BORDERS[2]]
    wiped = FILES[OPEN].replace(record, bytes(len(record)))
    turns, _, refusal = verdict({**FILES, OPEN: wiped})
    assert turns is None
    assert "a valid record follows" in refusal


def test_strict_recovery_refuses_a_tear_too() -> None:
    with pytest.raises(DamageError, match="incomplete record"):
        restart(MemoryDisk({**FILES, OPEN: FILES[OPEN][:-3]}), mode="strict")


def test_stray_files_of_ours_are_removed_and_others_left_alone() -> None:
    strays = ["MANIFEST.json.tmp", "base-00000099-0000000000000001.kvj.tmp"]
    strays += ["segment-00000098-0000000000000002.kvj"]
    disk = MemoryDisk({**FILES, **dict.fromkeys(strays, b"x"), "notes.txt": b"mine"})
    journal, _, report = restart(disk)
    journal.close()
    assert sorted(report.removed) == sorted(strays)
    assert "notes.txt" in disk.entries


@pytest.mark.parametrize("name", [BASE, CLOSED, OPEN, MANIFEST])
def test_a_missing_file_is_refused_by_name(name: str) -> None:
    files = {n: d for n, d in FILES.items() if n != name}
    turns, _, refusal = verdict(files)
    assert turns is None
    assert name in refusal
    assert "missing" in refusal


def changed_manifest(change: Callable[[list[Entry]], list[Entry]]) -> bytes:
    manifest = manifests.decode(FILES[MANIFEST])
    return manifests.encode(Manifest(tuple(change(list(manifest.entries)))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"\xff\xfe",
        b"[" * 100_000,
        FILES[MANIFEST].replace(b'"version": 1', b'"version": true'),
        FILES[MANIFEST].replace(b'"version": 1', b'"version": 1, "new": 2'),
        FILES[MANIFEST].replace(b"segment-", b"../../ent-"),
        FILES[MANIFEST] + b"\n",
        changed_manifest(lambda entries: [*entries, entries[-1]]),
        changed_manifest(lambda entries: entries[1:]),
        changed_manifest(lambda entries: entries[:-1]),
        changed_manifest(lambda entries: [entries[1], entries[0], entries[2]]),
        changed_manifest(lambda entries: []),
    ],
)
def test_a_manifest_that_nobody_wrote_is_refused_and_nothing_is_touched(data: bytes) -> None:
    disk = MemoryDisk({**FILES, MANIFEST: data})
    with pytest.raises(DamageError, match=MANIFEST):
        restart(disk)
    assert disk.trace == []
    assert not disk.locked


def test_a_manifest_without_a_closed_file_is_refused_at_the_gap() -> None:
    short = changed_manifest(lambda entries: [entries[0], entries[2]])
    turns, _, refusal = verdict({**FILES, MANIFEST: short})
    assert turns is None
    assert f"{OPEN} at byte 0 (record 7)" in refusal


def test_a_manifest_of_a_newer_version_is_refused_as_such() -> None:
    newer = FILES[MANIFEST].replace(b'"version": 1', b'"version": 2, "shards": [1]')
    with pytest.raises(DirectoryError, match="newer kvserver"):
        restart(MemoryDisk({**FILES, MANIFEST: newer}))


def hostile_bodies() -> list[bytes]:
    rng = random.Random(8)
    bodies = [
        b"",
        b"\xc0",
        b"\x81\xa1a\x01",
        b"\x91" * 100_000 + b"\xc0",
        b"\x91\x91" + b"\x91" * 900 + b"\xc0" + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" + msgpack.packb(msgpack.ExtType(5, b"abc")),
        b"\x91\x92" + msgpack.packb(msgpack.Timestamp(1)) + b"\xc0",
        b"\x91\xc0",
        b"\x91\x90",
        b"\x91\x81\x90\xc0",
        b"\x90\x90",
        b"\x91\x91\xc1",
        msgpack.packb([["ovr", b"a", 1 << 60, b"x"]]),
        msgpack.packb([["tab", b"a;" * 9, [0, 0, 0, 0, 0]]]),
        msgpack.packb([["tab", b"a;" * 9, [0, 1 << 60, 0, 0, 0]]]),
        msgpack.packb([["tab", b"a;" * (1 << 17), [0, 0, 0, 0, 1]]]),
    ]
    # every nested array claims as many elements as it may
    bodies.append((b"\xdd\x00\x40\x00\x00") * 1000)
    whole = msgpack.packb(TURNS[0])
    for _ in range(2000):
        body = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        bodies.append(bytes(body))
    return bodies


def test_hostile_bodies_with_a_good_crc_are_errors_of_ours_and_cost_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for body in hostile_bodies():
        try:
            effects = decode_body(body)
        except RecordError:
            continue
        assert all(type(effect) is list and effect for effect in effects)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10


def test_a_hostile_record_in_a_file_is_refused_with_its_place() -> None:
    sequence = LAST + 1
    for body in hostile_bodies()[:20]:
        header = encode_header(body, sequence, seed_of(manifests.id_of(OPEN)))
        turns, _, refusal = verdict({**FILES, OPEN: FILES[OPEN] + header + body})
        if turns is None:
            assert f"at byte {len(FILES[OPEN])} (record {sequence})" in refusal
        else:
            assert body == b"\x90"
