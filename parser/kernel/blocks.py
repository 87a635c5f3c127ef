"""Sixty-four bytes at once: their classes as bitmaps, and those of them that are kept.

Each operation has a plain twin for when the JIT is off, as those of parser/kernel/ops.py have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from parser.kernel.ops import JIT, ld8, st8, st64

__all__ = ["PACKS", "keep_bytes", "make_classifier"]

Class = Sequence[tuple[int, int]]
"""A class of bytes as ranges, both ends included."""

_BLOCK: Final = 64
_FLAGS: Final = 8
"""So many classes has one byte of a table that is looked up."""

_FEATURES: Final = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
LOOKS_UP: Final = "+avx512vbmi" in _FEATURES
"""Whether the processor compiled for looks up 64 bytes in a table of 128 at once."""

PACKS: Final = "+avx512vbmi2" in _FEATURES or not JIT
"""Whether it has an operation for `keep_bytes`; without, that takes some hundred."""

_I64: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(ir.IntType(8), _BLOCK)
_BITS: Final = ir.VectorType(ir.IntType(1), _BLOCK)


def _splat(value: int) -> Any:
    return ir.Constant(_VECTOR, [value] * _BLOCK)


def _block_at(builder: Any, address: Any, distance: int = 0) -> Any:
    place = builder.add(address, ir.Constant(_I64, distance))
    return builder.load(builder.inttoptr(place, _VECTOR.as_pointer()), align=1)


def _external(builder: Any, name: str, *arguments: Any) -> Any:
    """Call an operation of LLVM that makes a block of others."""
    kind = ir.FunctionType(_VECTOR, [argument.type for argument in arguments])
    held = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(held, arguments)


def make_classifier(classes: Sequence[Class], literals: Sequence[bytes]) -> Any:
    """Return ``classify(source, into, stride)``: bitmaps of one block of 64 bytes.

    Bit n of bitmap k (at ``into + k * stride``) says whether byte n is of class k, or, after the
    classes, whether literal k begins at byte n. Reads up to three bytes behind the block.
    """
    if not JIT:
        return _plain_classifier(classes, literals)

    @intrinsic
    def classify(typingctx: Any, source: Any, into: Any, stride: Any) -> Any:  # noqa: ARG001 - numba's names
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - numba's names
            source, into, stride = args
            shifted = [
                _block_at(builder, source, at)
                for at in range(max((min(len(text), 4) for text in literals), default=1))
            ]
            members = _looked_up if LOOKS_UP else _compared
            found = members(builder, shifted[0], classes)
            for text in literals:
                here = None
                for at, byte in enumerate(text[:4]):
                    one = builder.icmp_unsigned("==", shifted[at], _splat(byte))
                    here = one if here is None else builder.and_(here, one)
                found.append(here)
            for at, flags in enumerate(found):
                place = builder.add(into, builder.mul(stride, ir.Constant(_I64, at)))
                pointer = builder.inttoptr(place, _I64.as_pointer())
                builder.store(builder.bitcast(flags, _I64), pointer, align=8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), codegen

    return classify


def _compared(builder: Any, block: Any, classes: Sequence[Class]) -> list[Any]:
    """The classes of a block, by comparisons that every processor has."""
    return [_member(builder, block, ranges) for ranges in classes]


def _member(builder: Any, block: Any, ranges: Class) -> Any:
    found = None
    for low, high in ranges:
        if low == high:
            one = builder.icmp_unsigned("==", block, _splat(low))
        else:
            moved = builder.sub(block, _splat(low)) if low else block
            one = builder.icmp_unsigned("<", moved, _splat(high - low + 1))
        found = one if found is None else builder.or_(found, one)
    return found


def _looked_up(builder: Any, block: Any, classes: Sequence[Class]) -> list[Any]:
    """The classes of a block, eight by one lookup, where all bytes from 0x80 up are alike."""
    tables = [
        [any(low <= b <= high for low, high in ranges) for b in range(256)] for ranges in classes
    ]
    alike = [at for at, table in enumerate(tables) if len(set(table[128:])) == 1]
    found = {
        at: _member(builder, block, classes[at]) for at in range(len(classes)) if at not in alike
    }
    upper = builder.icmp_signed("<", block, _splat(0))
    for first in range(0, len(alike), _FLAGS):
        chosen = alike[first : first + _FLAGS]
        table = [sum(tables[at][b] << bit for bit, at in enumerate(chosen)) for b in range(256)]
        halves = [ir.Constant(_VECTOR, table[half : half + _BLOCK]) for half in (0, _BLOCK)]
        flags = _external(builder, "llvm.x86.avx512.vpermi2var.qi.512", halves[0], block, halves[1])
        flags = builder.select(upper, _splat(table[128]), flags)
        for bit, at in enumerate(chosen):
            one = builder.and_(flags, _splat(1 << bit))
            found[at] = builder.icmp_unsigned("!=", one, _splat(0))
    return [found[at] for at in range(len(classes))]


def _plain_classifier(classes: Sequence[Class], literals: Sequence[bytes]) -> Any:
    tables = [
        bytes(48 + any(low <= byte <= high for low, high in ranges) for byte in range(256))
        for ranges in classes
    ]

    def classify(source: int, into: int, stride: int) -> None:
        block = bytes(ld8(source + at) for at in range(_BLOCK + 3))
        for number, table in enumerate(tables):
            flags = int(block[:_BLOCK].translate(table)[::-1], 2)
            st64(into + number * stride, flags)
        for number, text in enumerate(literals, len(classes)):
            bits = sum(block.startswith(text[:4], place) << place for place in range(_BLOCK))
            st64(into + number * stride, bits)

    return classify


def _keep_bytes() -> Any:
    @intrinsic
    def operation(typingctx: Any, source: Any, breaks: Any, kept: Any, into: Any) -> Any:  # noqa: ARG001 - numba's names
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - numba's names
            source, breaks, kept, into = args
            text = _block_at(builder, source)
            text = builder.select(builder.bitcast(breaks, _BITS), _splat(10), text)
            name = "llvm.experimental.vector.compress.v64i8"
            packed = _external(builder, name, text, builder.bitcast(kept, _BITS), _splat(0))
            builder.store(packed, builder.inttoptr(into, _VECTOR.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, types.int64), codegen

    return operation


def _plain_keep_bytes(source: int, breaks: int, kept: int, into: int) -> None:
    packed = [
        10 if breaks >> at & 1 else ld8(source + at) for at in range(_BLOCK) if kept >> at & 1
    ]
    for at, byte in enumerate(packed + [0] * (_BLOCK - len(packed))):
        st8(into + at, byte)


keep_bytes: Callable[[int, int, int, int], None] = _keep_bytes() if JIT else _plain_keep_bytes
"""``keep_bytes(source, breaks, kept, into)``: the kept ones of 64 bytes, moved together.

A byte that is flagged in `breaks` becomes a line break. Writes 64 bytes, zeros behind the last.
"""
