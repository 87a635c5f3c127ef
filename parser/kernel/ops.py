"""The few machine operations the compiled code is made of, over addresses and 64-bit integers.

Everything is a signed 64-bit integer: an address, a position, a set of 64 flags. ``add``, ``mul``
and the shifts wrap around as registers do; ``shr`` shifts zeros in. Loads and stores need no
alignment.

With numba's JIT off (``NUMBA_DISABLE_JIT=1``) every operation has a plain twin that also refuses
any address outside of the memory that was registered, so the tests can see a stray access.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = [
    "JIT",
    "LOW",
    "MAX",
    "MIN",
    "MIX",
    "add",
    "bswap",
    "clz",
    "compiled",
    "ctz",
    "find_code",
    "fold",
    "inlined",
    "ld8",
    "ld16",
    "ld32",
    "ld64",
    "mul",
    "popcount",
    "prefetch",
    "registered",
    "shl",
    "shr",
    "st8",
    "st32",
    "st64",
]

JIT: Final = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]  # numba makes it when imported

MAX: Final = 2**63 - 1
MIN: Final = -(2**63)
LOW: Final = 0xFFFFFFFF
"""The lower half of a number."""
MIX: Final = -0x3D4D51C2D82B14B1
"""An odd number without a pattern; multiplying by it spreads a hash over the upper bits."""

_I1, _I8, _I64 = ir.IntType(1), ir.IntType(8), ir.IntType(64)

_Function = TypeVar("_Function", bound=Callable[..., Any])
_One: TypeAlias = Callable[[int], int]
_Two: TypeAlias = Callable[[int, int], int]


def compiled(function: _Function) -> _Function:
    """Compile a helper; LLVM decides whether it is inlined."""
    jit: Any = numba.njit
    compile_it: Callable[[_Function], _Function] = jit(
        nogil=True, error_model="numpy", no_cfunc_wrapper=True
    )
    return compile_it(function)


def inlined(function: _Function) -> _Function:
    """Compile a helper into whatever calls it: for short ways that are nearly always taken."""
    jit: Any = numba.njit
    compile_it: Callable[[_Function], _Function] = jit(
        nogil=True, error_model="numpy", no_cfunc_wrapper=True, forceinline=True
    )
    return compile_it(function)


# ------------------------------------------------------------------------------ memory, plain twin

_MASK: Final = (1 << 64) - 1
_memory: dict[int, tuple[int, Any]] = {}


@contextmanager
def registered(*arrays: Any) -> Iterator[None]:
    """Allow access to the memory of these arrays while JIT is off; costs nothing when it is on."""
    if JIT:
        yield
        return
    before = dict(_memory)
    for array in arrays:
        flat = array.reshape(-1).view(np.uint8)
        _memory[flat.ctypes.data] = (flat.ctypes.data + flat.size, flat)
    try:
        yield
    finally:
        _memory.clear()
        _memory.update(before)


def _at(address: int, size: int) -> tuple[Any, int]:
    for start, (end, array) in _memory.items():
        if start <= address and address + size <= end:
            return array, address - start
    raise IndexError(f"{size} bytes at {address:#x} are not ours")


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def _plain_load(size: int) -> Callable[[int], int]:
    def load(address: int) -> int:
        array, at = _at(address, size)
        value = int.from_bytes(array[at : at + size].tobytes(), "little")
        return _signed(value) if size == 8 else value

    return load


def _plain_store(size: int) -> Callable[[int, int], None]:
    def store(address: int, value: int) -> None:
        array, at = _at(address, size)
        data = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        array[at : at + size] = np.frombuffer(data, np.uint8)

    return store


def _plain_find_code(address: int, code: int) -> int:
    return sum((ld32(address + 4 * at) == code) << at for at in range(8))


def _plain_ctz(value: int) -> int:
    return 64 if value == 0 else (value & -value).bit_length() - 1


def _plain_popcount(value: int) -> int:
    return (value & _MASK).bit_count()


def _plain_fold(x: int, y: int) -> int:
    product = (x & _MASK) * (y & _MASK)
    return _signed(product ^ product >> 64)


def _plain_clz(value: int) -> int:
    return 64 - (value & _MASK).bit_length()


# ---------------------------------------------------------------------------------- as LLVM code


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _load(bits: int) -> Any:
    kind = ir.IntType(bits)

    @intrinsic
    def load(typingctx: Any, address: Any) -> Any:  # noqa: ARG001 - numba's names
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - numba's names
            value = builder.load(_pointer(builder, args[0], kind), align=1)
            return value if bits == 64 else builder.zext(value, _I64)

        return types.int64(types.int64), codegen

    return load


def _store(bits: int) -> Any:
    kind = ir.IntType(bits)

    @intrinsic
    def store(typingctx: Any, address: Any, value: Any) -> Any:  # noqa: ARG001 - numba's names
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - numba's names
            value = args[1] if bits == 64 else builder.trunc(args[1], kind)
            builder.store(value, _pointer(builder, args[0], kind), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return store


def _pair(build: Callable[[Any, Any, Any], Any]) -> Any:
    """An operation of two integers."""

    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any) -> Any:  # noqa: ARG001 - numba's names
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - numba's names
            return build(builder, args[0], args[1])

        return types.int64(types.int64, types.int64), codegen

    return operation


def _single(build: Callable[[Any, Any], Any]) -> Any:
    """An operation of one integer."""

    @intrinsic
    def operation(typingctx: Any, a: Any) -> Any:  # noqa: ARG001 - numba's names
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - numba's names
            return build(builder, args[0])

        return types.int64(types.int64), codegen

    return operation


def _prefetch() -> Any:
    @intrinsic
    def operation(typingctx: Any, address: Any) -> Any:  # noqa: ARG001 - numba's names
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - numba's names
            i32 = ir.IntType(32)
            pointer = _I8.as_pointer()
            kind = ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32])
            function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
            flags = [ir.Constant(i32, flag) for flag in (0, 3, 1)]
            builder.call(function, [_pointer(builder, args[0], _I8), *flags])
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    return operation


def _find_code() -> Any:
    """Which of eight 32-bit numbers at an address are the code, as eight flags."""
    kind = ir.VectorType(ir.IntType(32), 8)

    def build(builder: Any, address: Any, code: Any) -> Any:
        held = builder.load(_pointer(builder, address, kind), align=4)
        narrow = builder.trunc(code, ir.IntType(32))
        wanted = ir.Constant(kind, ir.Undefined)
        for lane in range(8):
            wanted = builder.insert_element(wanted, narrow, ir.Constant(ir.IntType(32), lane))
        same = builder.icmp_unsigned("==", held, wanted)
        return builder.zext(builder.bitcast(same, ir.IntType(8)), _I64)

    return _pair(build)


def _fold() -> Any:
    """Both halves of a product of 128 bits, one laid over the other."""
    wide = ir.IntType(128)

    def build(builder: Any, x: Any, y: Any) -> Any:
        product = builder.mul(builder.zext(x, wide), builder.zext(y, wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), _I64)
        return builder.xor(builder.trunc(product, _I64), high)

    return _pair(build)


def _plain_prefetch(address: int) -> None:
    """Nothing is slow enough here to be fetched early."""


def _plain_shl(x: int, y: int) -> int:
    assert 0 <= y < 64
    return _signed(x << y)


def _plain_shr(x: int, y: int) -> int:
    assert 0 <= y < 64
    return _signed((x & _MASK) >> y)


def _plain_bswap(x: int) -> int:
    return int.from_bytes((x & _MASK).to_bytes(8, "little"), "big", signed=True)


ld8: _One = _load(8) if JIT else _plain_load(1)
ld16: _One = _load(16) if JIT else _plain_load(2)
ld32: _One = _load(32) if JIT else _plain_load(4)
ld64: _One = _load(64) if JIT else _plain_load(8)
st8: Callable[[int, int], None] = _store(8) if JIT else _plain_store(1)
st32: Callable[[int, int], None] = _store(32) if JIT else _plain_store(4)
st64: Callable[[int, int], None] = _store(64) if JIT else _plain_store(8)
add: _Two = _pair(lambda b, x, y: b.add(x, y)) if JIT else lambda x, y: _signed(x + y)
mul: _Two = _pair(lambda b, x, y: b.mul(x, y)) if JIT else lambda x, y: _signed(x * y)
shl: _Two = _pair(lambda b, x, y: b.shl(x, y)) if JIT else _plain_shl
shr: _Two = _pair(lambda b, x, y: b.lshr(x, y)) if JIT else _plain_shr
clz: _One = _single(lambda b, x: b.ctlz(x, ir.Constant(_I1, 0))) if JIT else _plain_clz
ctz: _One = _single(lambda b, x: b.cttz(x, ir.Constant(_I1, 0))) if JIT else _plain_ctz
bswap: _One = _single(lambda b, x: b.bswap(x)) if JIT else _plain_bswap
popcount: _One = _single(lambda b, x: b.ctpop(x)) if JIT else _plain_popcount
fold: _Two = _fold() if JIT else _plain_fold
find_code: _Two = _find_code() if JIT else _plain_find_code
prefetch: Callable[[int], None] = _prefetch() if JIT else _plain_prefetch
