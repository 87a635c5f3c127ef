"""A source is its content, whatever it is called."""

from __future__ import annotations

import gzip
import itertools
import os
import shutil
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from parser.fingerprint import (
    BEGIN_BYTES,
    MARK_BYTES,
    Index,
    Marker,
    SourceInfo,
    find,
    info_of,
    mark_hash,
    mark_offsets,
    same_beginning,
    source_id,
)
from parser.source import Looked, Problem, inspect, look_at


def log(n: int, salt: int = 0) -> bytes:
    return b"".join(b"line %d of log %d, and something more\n" % (i, salt) for i in range(n))


def known(path: Path, source: int = 1) -> SourceInfo:
    """What the store keeps of a file that was counted as it is now."""
    looked = look(path)
    return SourceInfo(
        source,
        ranges=[(0, path.stat().st_size)],
        begin=looked.begin,
        marks=dict(looked.marks),
        path=str(path),
        inode=tuple(looked.inode or ()),
    )


def look(path: Path) -> Looked:
    found = inspect(str(path))
    assert not isinstance(found, Problem)
    return look_at(found)


@given(st.binary(max_size=9000), st.lists(st.integers(1, 3000), max_size=20))
def test_marks_are_the_same_however_the_content_streams(data: bytes, sizes: list[int]) -> None:
    marker = Marker()
    at = 0
    for size in sizes:
        marker.feed(data[at : at + size])
        at += size
    marker.feed(data[at:])
    assert marker.marks == {
        offset: mark_hash(data[offset - MARK_BYTES : offset]) for offset in mark_offsets(len(data))
    }


def test_a_log_of_any_size_has_a_handful_of_marks() -> None:
    assert len(list(mark_offsets(10 * 2**30))) < 50
    offsets = list(mark_offsets(2**40))
    assert all(b <= a * 1.5 + 1 for a, b in itertools.pairwise(offsets))


def test_renamed_copied_compressed_and_grown_is_the_same_source(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(1000))
    info = known(path)
    copied = shutil.copy(path, tmp_path / "copy.log")
    packed = tmp_path / "app.log.1.gz"
    packed.write_bytes(gzip.compress(log(1000)))
    part = tmp_path / "part.log"
    part.write_bytes(log(40))
    grown = tmp_path / "grown.log"
    grown.write_bytes(log(5000))
    renamed = path.rename(tmp_path / "renamed.log")
    for other in (Path(copied), packed, part, grown, renamed):
        assert find([info], look(other)) is info, other


def test_a_new_file_under_an_old_name_and_inode_is_another_source(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(1000))
    info = known(path)
    os.truncate(path, 0)
    with path.open("r+b") as file:
        file.write(log(1000, salt=1))
    assert find([info], look(path)) is None


def test_logs_that_begin_alike_differ_from_the_mark_on_where_they_do(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(log(200) + log(2000, salt=1))
    info = known(one)
    two.write_bytes(log(200))
    assert find([info], look(two)) is info  # as far as it goes, it is the same
    two.write_bytes(log(200) + log(2000, salt=2))
    assert find([info], look(two)) is None


def test_a_short_log_that_grew_is_the_same_source(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(3))
    info = known(path)
    assert len(info.begin) < BEGIN_BYTES
    path.write_bytes(log(500))
    assert find([info], look(path)) is info
    path.write_bytes(log(3)[:-1] + b"!\n")
    assert find([info], look(path)) is None


def test_a_beginning_of_a_few_bytes_proves_nothing_without_path_or_inode(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"started\n")
    info = known(path)
    copied = Path(shutil.copy(path, tmp_path / "copy.log"))
    assert find([info], look(copied)) is info  # equal content is the same source
    other = tmp_path / "other.log"
    other.write_bytes(b"started\nand something else\n")
    assert find([info], look(other)) is None
    with path.open("ab") as file:
        file.write(b"and more\n")
    assert find([info], look(path)) is info
    assert find([info], look(path.rename(tmp_path / "app.log.1"))) is info


def test_of_several_sources_that_fit_the_first_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(10))
    first, second = known(path, 1), known(path, 2)
    assert find([first, second], look(path)) is first


def test_an_index_leaves_out_only_what_cannot_fit() -> None:
    begins = [log(3), b"", b"line", log(3, salt=1), log(1)[:20], log(90), b"another one" * 9]
    infos = [SourceInfo(n, begin=begin) for n, begin in enumerate(begins)]
    index = Index(infos)
    for begin in [*begins, log(2), b"line 0 of log 7", b"x" * 99]:
        fit = [info for info in infos if same_beginning(info.begin, begin)]
        found = index.candidates(begin)
        assert [info for info in found if info in fit] == fit
    assert index.ids == set(range(len(begins)))


def test_what_the_store_keeps_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log(1000))
    info = known(path)
    again = info_of(info.id, info.ranges, {}, info.about())
    assert again == info
    assert info_of(7, [], {}, {"begin": 5, "marks": "x", "path": None, "inode": 3}) == SourceInfo(7)


def test_an_id_depends_on_the_first_bytes_alone() -> None:
    begin = log(100)
    assert source_id(begin) == source_id(begin[:BEGIN_BYTES]) != 0
    assert source_id(begin) != source_id(begin, 1)
    assert source_id(begin) != source_id(b"x" + begin)
