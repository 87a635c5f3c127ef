"""``kvserver check`` says what a start would do; ``kvserver repair`` says what it dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kvserver.errors import DamageError
from kvserver.journal.cli import check, repair
from kvserver.journal.fs import RealFileSystem
from kvserver.journal.recovery import recover
from kvserver.keyspace import Keyspace

RECORDS = 40


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A base, closed segments, an open one."""
    path = tmp_path / "data"
    journal, _ = recover(
        RealFileSystem(path, create=True), lambda _effects: None, segment_bytes=400
    )
    for n in range(RECORDS):
        journal.append([["set", b"key:%d" % n, b"value %d" % n]])
        journal.maintain()
    journal.close()
    return path


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("segment-*.kvj"))


def start(directory: Path, **options: Any) -> Keyspace:
    keyspace = Keyspace(lambda: 0)
    journal, _ = recover(RealFileSystem(directory), keyspace.apply_many, **options)
    journal.close()
    return keyspace


def run_check(directory: Path) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(check, [str(directory), "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_a_sound_directory_is_listed_and_nothing_in_it_changes(directory: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    result = CliRunner().invoke(check, [str(directory)])
    assert result.exit_code == 0
    assert f"sound: {RECORDS} keys in {RECORDS} records" in result.stdout
    assert all(path.name in result.stdout for path in segments(directory))
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_a_torn_tail_is_exit_1_and_says_what_would_be_cut(directory: Path) -> None:
    last = max(segments(directory), key=lambda path: path.stat().st_size and path.name)
    last.write_bytes(last.read_bytes()[:-3])
    code, report = run_check(directory)
    assert (code, report["verdict"]) == (1, "torn")
    assert last.name in report["reason"]
    assert len(start(directory).data) == RECORDS - 1


def test_damage_is_exit_2_and_names_file_and_offset(directory: Path) -> None:
    first = segments(directory)[0]
    data = bytearray(first.read_bytes())
    data[30] ^= 1
    first.write_bytes(data)
    code, report = run_check(directory)
    assert (code, report["verdict"]) == (2, "damaged")
    assert f"{first.name} at byte 0 (record 1)" in report["reason"]
    result = CliRunner().invoke(check, [str(directory)])
    assert "kvserver repair" in result.stderr


def test_a_directory_that_is_none_is_one_line_and_exit_1(tmp_path: Path) -> None:
    result = CliRunner().invoke(check, [str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "nowhere: No such file or directory" in result.stderr


def damage_three_ways(directory: Path) -> None:
    first, second, third, *_ = segments(directory)
    data = bytearray(first.read_bytes())
    data[30] ^= 1  # the body of the first record
    first.write_bytes(data)
    data = bytearray(second.read_bytes())
    data[5] ^= 1  # a length
    second.write_bytes(data)
    third.unlink()


def test_repair_keeps_all_but_what_is_damaged_and_names_that(
    directory: Path, tmp_path: Path
) -> None:
    damage_three_ways(directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    new = tmp_path / "new"
    result = CliRunner().invoke(repair, [str(directory), "--to", str(new), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    lost = {n for piece in report["dropped"] for n in range(piece["first"], piece["last"] + 1)}
    keys = {b"key:%d" % (n - 1) for n in range(1, RECORDS + 1) if n not in lost}
    assert start(new).data.keys() == keys
    assert {1} < lost < set(range(1, RECORDS + 1))
    assert run_check(new)[0] == 0
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_repair_without_a_manifest_finds_the_order_by_itself(
    directory: Path, tmp_path: Path
) -> None:
    (directory / "MANIFEST.json").unlink()
    result = CliRunner().invoke(repair, [str(directory), "--to", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    assert "the manifest is missing" in result.stdout
    assert len(start(tmp_path / "new").data) == RECORDS


def test_repair_does_not_write_into_a_directory_that_holds_something(
    directory: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(repair, [str(directory), "--to", str(directory)])
    assert result.exit_code == 1
    assert "not empty" in result.stderr


def test_salvage_starts_with_what_can_be_read_and_keeps_the_damaged_files(directory: Path) -> None:
    damage_three_ways(directory)
    with pytest.raises(DamageError):
        start(directory)
    saved = start(directory, mode="salvage")
    assert 0 < len(saved.data) < RECORDS
    assert (directory / "MANIFEST.json.damaged").exists()
    assert len(list(directory.glob("segment-*.damaged"))) >= 2
    assert start(directory).data == saved.data


def test_salvage_of_a_sound_directory_changes_nothing(directory: Path) -> None:
    before = sorted(path.name for path in directory.iterdir())
    assert len(start(directory, mode="salvage").data) == RECORDS
    assert sorted(path.name for path in directory.iterdir()) == before
