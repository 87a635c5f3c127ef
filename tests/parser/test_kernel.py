"""The compiled kernel and the interpreter give the same results, bit for bit.

Compiling takes seconds a format, so by default only two formats run as machine code; all formats
run as the plain functions the kernel is generated as, in a process without the JIT, where every
access to memory is checked.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parser import extract
from parser.extract import RangeSummary, engine_for
from parser.format import Format, make_format
from parser.formats import BUILTIN
from parser.interpreter import Interpreter
from parser.kernel import image
from parser.kernel.codegen import generate
from parser.kernel.engine import Kernel
from parser.kernel.errors import UnsupportedFormatError
from parser.kernel.loader import is_ready
from parser.kernel.ops import JIT
from parser.summary import Summary, merge, unpack
from parser.times import zone_named
from tests.support import DATA_DIR, ROOT

HINT = 1_735_000_000_000
OWN = {
    # Keys of different rules that can be the same, fields beside each other, a message that is
    # not between spaces, times in parts.
    "tangled": make_format(
        "tangled",
        layouts=[
            "<date:%d.%m.%Y>;<time:%H:%M:%S.%f%z>;<who:word>,<n:int>=<content>",
            "<time:%s> <_:hex> <q:quoted> [<who>] - <content>",
            "(<day:%j>/<time:%Y>) <who:id> <where:ip> <content>",
            "<time:%b %e %I:%M %p> <who:alpha>: <content>",
        ],
        keys=[
            "content ~ <int> -> n{}",
            "content ~ n<hex> -> n{}",
            "who -> {}",
            "else content ~ <alpha>.<id> -> {}x",
            "else who, content -> {}+{}",
        ],
        tags=["n", "who"],
        numbers=["n"],
        level="who",
    ),
    "amounts": make_format(
        "amounts",
        layouts=["<who> took <n> of <m>: <content>"],
        keys=["who -> {}"],
        numbers=["n", "m"],
    ),
    "bare": make_format("bare", layouts=["<content>"], keys=["content ~ <ip> -> ip_{}"]),
}
FORMATS = {
    **{name: entry for name, entry in BUILTIN.items() if entry.kind == "layout"},
    **OWN,
}
COMPILED = ["hdfs", "combined"]
EXAMPLES = int(os.environ.get("KVSTORE_KERNEL_EXAMPLES", "25"))

LINES = {
    "hdfs": [b"081109 203600 14 WARN dfs.X: blk_-1 blk_2 blk_2 to 10.0.0.1:50010 /a/b.1"],
    "syslog": [
        b"<13>Feb 29 17:32:18 10.0.0.99 su[17]: on /dev/pts/8",
        b"2024-05-01T12:00:00.123456+02:00 web systemd: Started",
        b"Jun 14 15:16:01 combo last words",
    ],
    "syslog5424": [
        b'<165>1 2003-10-11T22:14:15.003Z host app - ID47 [ex@1 a="b]\\"" c="d"][x] An event'
    ],
    "apache-error": [
        b"[Wed Oct 11 14:32:52.123456 2017] [core:error] [pid 35708:tid 43] [client ::1] AH001: x"
    ],
    "combined": [
        b'10.0.0.1 - - [17/May/2015:10:05:03 +0000] "\\x16\\x03\\"" 400 - "-" "a \\" b"',
        b'10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /a/b?c=1&d=00:1b HTTP/1.1" 200 17 "-" "-"',
    ],
    "tangled": [
        b"01.02.2003;04:05:06.7+0100;me,17=done n12 n-3 x.y a",
        b'1714564800 ff "a\\"b" [you] - nothing a.b_c',
        b"(366/2024) some-one 10.0.0.1 12 n12",
        b"feb 29 12:07 AM me: 1",
    ],
    "amounts": [
        b"me took 12.5 of -0.75: it",
        b"me took .5 of 5.: nothing",
        b"you took 123456789012345678.9 of 1.2.3: too much",
        b"you took 1234567890123456789.0 of 1234567.25: nearly",
        b"-1 took -.5 of 7.x: -1.",
    ],
    "bare": [b"10.0.0.1 to ::1, fe80::1:2 and 1:2:3:4:5:6:7:8 not 1.2.3 x1.2.3.4"],
}
FRAGMENTS = [
    b" ", b"  ", b"\t", b"\r", b"\0", b"\n", b"\n\n", b":", b": ", b".", b"...", b",", b";", b"=",
    b'"', b"\\", b"[", b"] ", b"(", b"-", b" - ", b"/", b"|", b"blk_", b"blk_-1", b"10.0.0.1",
    b"1.2.3", b"fe80::1", b"::", b"1:2:3:4:5:6:7:8", b"00:1b:fc:ea", b":fc:", b"ab", b"a1", b"0x1f",
    b"<*>", b"\xff", b"\xc3\xa9", b"x" * 70, b"7" * 70, b"a." * 40, b"12/34/" * 30, b"\xef\xbb\xbf",
    b"  at x.Y(Z.java:1) blk_9 10.9.9.9", b"java.io.IOException: x 10.8.8.8", b"Caused by: blk_8",
    b"... 3 more", b"9" * 19, b"-5", b"12.75", b"-0.5", b"9" * 17 + b".25",
    b"task_1_0002_m_3", b"session 0x1f", b"q" * 300,
]  # fmt: skip


def formats_here() -> list[str]:
    return COMPILED if JIT and os.environ.get("KVSTORE_ALL_KERNELS") != "1" else list(FORMATS)


def keys_of(result: RangeSummary) -> dict[bytes, Summary]:
    flat = msgpack.unpackb(result.packed, max_bin_len=1 << 30)
    assert len(flat) == 2 * result.keys
    keys = {key: unpack(delta) for key, delta in zip(flat[::2], flat[1::2], strict=True)}
    assert len(keys) == result.keys
    return keys


def same(one: RangeSummary, other: RangeSummary) -> None:
    assert keys_of(one) == keys_of(other)
    assert one.patterns == other.patterns
    assert one.rejected == other.rejected
    for name in ("lines", "matched", "unparsed", "skipped", "continued", "keys"):
        assert getattr(one, name) == getattr(other, name), name


_kernels: dict[tuple[str, bool], tuple[Interpreter, Kernel]] = {}


def engines(name: str, *, multiline: bool) -> tuple[Interpreter, Kernel]:
    known = _kernels.get((name, multiline))
    if known is None:
        zone = zone_named("Europe/Berlin")
        fmt: Format = FORMATS[name]
        known = (
            Interpreter(fmt, multiline=multiline, tz=zone, year_hint_ms=HINT),
            Kernel(fmt, multiline=multiline, tz=zone, year_hint_ms=HINT),
        )
        _kernels[name, multiline] = known
    return known


@st.composite
def logs(draw: st.DrawFn, name: str) -> bytes:
    """A log: lines of the format, most of them damaged a little, and garbage."""
    known = [FORMATS[name].example, *LINES.get(name, [])]
    out = []
    for _ in range(draw(st.integers(0, 6))):
        line = draw(st.sampled_from(known)) if draw(st.integers(0, 9)) else draw(st.binary())
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(line)))
            if draw(st.booleans()):
                line = line[:at] + draw(st.sampled_from(FRAGMENTS)) + line[at:]
            else:
                line = line[:at] + line[at + draw(st.integers(1, 12)) :]
        out.append(line)
    return b"\n".join(out) + draw(st.sampled_from([b"", b"\n", b"\r\n"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", formats_here())
@settings(max_examples=EXAMPLES)
@given(st.data(), st.booleans(), st.sampled_from([0, 1, 10_000_000_000]))
def test_equal_on_any_log(name: str, data: st.DataObject, multiline: bool, offset: int) -> None:
    text = data.draw(logs(name))
    interpreter, kernel = engines(name, multiline=multiline)
    expected = interpreter.summarize(text, source=2**63 + 5, offset=offset)
    same(kernel.summarize(memoryview(text), source=2**63 + 5, offset=offset), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", formats_here())
def test_equal_on_lines_of_every_length_at_every_place_of_a_block(name: str) -> None:
    interpreter, kernel = engines(name, multiline=False)
    lines = [FORMATS[name].example, *LINES.get(name, [])]
    text = b"".join(
        line + b" " + (b"ab 12 c:d " * 20)[: step % 139] + b"\n"
        for step in range(0, 280, 1 if JIT else 40)
        for line in lines
    )
    same(
        kernel.summarize(text, source=1, offset=0), interpreter.summarize(text, source=1, offset=0)
    )


def test_equal_when_every_table_has_to_grow() -> None:
    interpreter, kernel = engines("hdfs", multiline=False)
    count = 30_000 if JIT else 40
    line = b"081109 203615 148 L%d dfs.X: block blk_%d of blk_%d x%s y\n"
    text = b"".join(line % (n % 20_000, n, n % 3, f"{n % 9000:x}".encode()) for n in range(count))
    letters = bytes.maketrans(b"0123456789", b"ghijklmnop")
    head, tail = text[: len(text) // 2], text[len(text) // 2 :]
    text = head + tail.replace(b" x", b" z").replace(b"dfs.X", b"dfs.Y")
    words = b"".join(
        b"081109 203615 148 INFO dfs.X: block blk_7 %s\n" % str(n).encode().translate(letters)
        for n in range(count // 3)
    )
    text += words
    same(
        kernel.summarize(text, source=1, offset=0), interpreter.summarize(text, source=1, offset=0)
    )


@pytest.mark.parametrize("size", [8_000, 100_000, (1 << 20) - 20, (1 << 20) + 20, 3 << 20])
def test_equal_on_lines_longer_than_a_window(size: int) -> None:
    if not JIT and size > 10_000:
        pytest.skip("takes minutes without the JIT")
    interpreter, kernel = engines("hdfs", multiline=True)
    line = FORMATS["hdfs"].example
    long = line + b" blk_17" + b" y7" * (size // 3)
    text = b"\n".join(
        [line, long, b" at " + long, line, long[: size // 2] + b" " * size, b"", line]
    )
    same(
        kernel.summarize(text, source=1, offset=0), interpreter.summarize(text, source=1, offset=0)
    )


def test_equal_on_real_logs() -> None:
    for name, path in [
        ("hdfs", "loghub/HDFS/HDFS_2k.log"), ("combined", "access/apache_combined.log"),
    ]:  # fmt: skip
        if not (DATA_DIR / path).exists() or not JIT:
            pytest.skip(f"real log not here, or no JIT: {path}")
        text = (DATA_DIR / path).read_bytes()
        interpreter, kernel = engines(name, multiline=True)
        expected = interpreter.summarize(text, source=1, offset=0)
        same(kernel.summarize(text, source=1, offset=0), expected)


def test_equal_examples_are_of_the_first_line_that_has_a_key() -> None:
    interpreter, kernel = engines("hdfs", multiline=True)
    head = b"081109 203615 1 "
    text = b"\n".join(
        [
            head + b"INFO a: same 1",
            head + b"WARN a: same 2",
            b"  at blk_1",
            head + b"INFO a: same 3",
            b"  at blk_2",
        ]
    )
    expected = interpreter.summarize(text, source=1, offset=0)
    assert [seen.example for seen in expected.patterns.values()] == [b"same 2"]
    same(kernel.summarize(text, source=1, offset=0), expected)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=20 if JIT else 3)
def test_ranges_of_any_size_add_up_to_the_whole(data: st.DataObject) -> None:
    text = data.draw(logs("hdfs"))
    _, kernel = engines("hdfs", multiline=False)
    whole = kernel.summarize(text, source=1, offset=0)
    for size in (1, 7, 64, 100, 333):
        total: dict[bytes, Summary] = {}
        lines = start = 0
        while start < len(text):
            end = text.find(b"\n", min(start + size, len(text)) - 1) + 1 or len(text)
            part = kernel.summarize(text[start:end], source=1, offset=start)
            lines += part.lines
            for key, summary in keys_of(part).items():
                total[key] = merge(total.get(key, Summary()), summary)
            start = end
        assert (lines, total) == (whole.lines, keys_of(whole))


@pytest.mark.slow
def test_equal_for_all_formats_with_the_jit_off() -> None:
    if not JIT:
        pytest.skip("this is the run without it")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
         str(Path(__file__)), "-k", "equal or ranges"],
        cwd=ROOT, env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


def test_every_builtin_layout_can_be_compiled_and_nothing_else_is() -> None:
    for name, entry in FORMATS.items():
        assert "def run(a):" in generate(entry).source, name
    with pytest.raises(UnsupportedFormatError):
        generate(BUILTIN["json"])
    with pytest.raises(UnsupportedFormatError):
        generate(make_format("x", layouts=["<when:iso> <content>"], tags=["when"]))


def test_the_engine_is_the_one_that_is_done_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hdfs = BUILTIN["hdfs"]
    if JIT:
        engines("hdfs", multiline=False)
        assert is_ready(generate(hdfs).source)
        assert isinstance(engine_for(hdfs, expected_bytes=extract.SMALL_BYTES), Kernel)
    assert isinstance(engine_for(hdfs, expected_bytes=1000), Interpreter)
    assert isinstance(engine_for(BUILTIN["json"], expected_bytes=10**9), Interpreter)
    monkeypatch.setenv("KVSTORE_CACHE_DIR", str(tmp_path / "empty"))
    assert isinstance(engine_for(hdfs, expected_bytes=extract.SMALL_BYTES), Interpreter)


def test_a_small_file_does_not_wait_for_numba() -> None:
    code = (
        "import sys; from parser.extract import engine_for; from parser.formats import BUILTIN; "
        "engine_for(BUILTIN['hdfs'], expected_bytes=300_000).summarize(b'x', source=1, offset=0); "
        "sys.exit('numba' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.skipif(not JIT, reason="nothing is cached without the JIT")
def test_a_kernel_loads_from_a_read_only_cache_and_does_without_one(tmp_path: Path) -> None:
    code = (
        "from parser.kernel.loader import load; "
        "run = load('import numba\\n@numba.njit(\"int64(int64)\", cache=CACHE)\\n'"
        "'def run(a):\\n    return a + 1\\n'); assert run(1) == 2"
    )
    cache = tmp_path / "cache"
    for directory in (cache, cache, Path("/dev/null/nowhere")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "KVSTORE_CACHE_DIR": str(directory)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if directory.exists():
            directory.chmod(0o500)
            assert list(directory.glob("__pycache__/*.nbi"))
    cache.chmod(0o700)


@pytest.mark.skipif(not (JIT and image.supported()), reason="there are no images here")
def test_a_kernel_that_was_compiled_once_loads_without_numba_and_never_a_damaged_one(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from parser.kernel.loader import load; "
        "run = load('import numba\\n@numba.njit(\"int64(int64)\", cache=CACHE)\\n'"
        "'def run(a):\\n    return a * 3 - 7\\n'); assert run(1 << 60) == 3 * (1 << 60) - 7; "
        "print(*(name in sys.modules for name in ('numba', 'numpy')))"
    )

    def loaded_by_numba() -> bool:
        environment = {**os.environ, "KVSTORE_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout in {"True True\n", "False False\n"}
        return done.stdout == "True True\n"

    assert loaded_by_numba()
    assert not loaded_by_numba()
    (made,) = tmp_path.glob("*.image")
    whole = made.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]):
        made.write_bytes(damaged)
        assert loaded_by_numba()
        assert made.read_bytes() == whole
        assert not loaded_by_numba()
    tmp_path.chmod(0o770)  # others could put code there
    assert loaded_by_numba()
    tmp_path.chmod(0o700)


@pytest.mark.skipif(not JIT, reason="nothing is cached without the JIT")
def test_kernels_that_nobody_has_used_for_a_month_go_when_another_one_is_compiled(
    tmp_path: Path,
) -> None:
    def load(number: int) -> set[str]:
        """Load a kernel in a process of its own; return which kernels are there afterwards."""
        head = 'import numba\n@numba.njit("int64(int64)", cache=CACHE)\n'
        source = f"{head}def run(a):\n    return a + {number}\n"
        code = f"from parser.kernel.loader import load; load({source!r})"
        environment = {**os.environ, "KVSTORE_CACHE_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
        return {path.stem for path in tmp_path.glob("*.py")}

    def age(days: int) -> None:
        for path in tmp_path.rglob("kvkernel_*"):
            then = path.stat().st_mtime - days * 86_400
            os.utime(path, (then, then))

    (first,) = load(1)
    (second,) = load(2) - {first}
    age(20)
    assert load(1) == {first, second}
    age(20)
    (third,) = load(3) - {first, second}
    assert load(3) == {first, third}
    assert not list(tmp_path.rglob(f"{second}*"))


@pytest.mark.skipif(not image.supported(), reason="there are no images here")
def test_code_that_needs_anything_outside_of_itself_makes_no_image() -> None:
    import numba
    import numpy as np

    @numba.njit("int64(int64)")
    def calls_the_c_library(size: int) -> int:
        return int(np.zeros(size)[0])

    @numba.njit("int64(int64)")
    def stays_within(size: int) -> int:
        return size + 1

    if JIT:
        assert image.make(calls_the_c_library) is None
        assert image.make(stays_within) is not None
    assert image.runnable(b"") is None
