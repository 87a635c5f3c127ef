"""Steps of masking on eight words of flags at once: 512 bytes of text.

Each step is one formula, written once. It is applied to vector registers in compiled code, and to
plain integers with the JIT off. ``x(-1)`` is a bitmap's word before, ``x(1)`` the one behind, so
that ``x(0) << 1 | x(-1) >> 63`` are the flags of the byte before each byte.

Tokens and paths that span two words are left to parser/kernel/scan.py.
"""

# ruff: noqa: PLR0917 - compiled functions take positional arguments only

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from parser.kernel.ops import JIT, ld64, st64

__all__ = ["LANES", "join_words", "pair_words", "path_words", "token_words"]

LANES: Final = 8
_I64: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(_I64, LANES)
_MASK: Final = (1 << 64) - 1


class _Register:
    """Eight words in a vector register."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _with(self, value: Any) -> _Register:
        return _Register(self.builder, value)

    def _constant(self, number: int) -> Any:
        return ir.Constant(_VECTOR, [number] * LANES)

    def __and__(self, other: _Register) -> _Register:
        return self._with(self.builder.and_(self.value, other.value))

    def __or__(self, other: _Register) -> _Register:
        return self._with(self.builder.or_(self.value, other.value))

    def __add__(self, other: _Register) -> _Register:
        return self._with(self.builder.add(self.value, other.value))

    def __invert__(self) -> _Register:
        return self._with(self.builder.not_(self.value))

    def __lshift__(self, count: int) -> _Register:
        return self._with(self.builder.shl(self.value, self._constant(count)))

    def __rshift__(self, count: int) -> _Register:
        return self._with(self.builder.lshr(self.value, self._constant(count)))


class _Word(int):
    """One word, as a plain integer that wraps around."""

    def __and__(self, other: int) -> _Word:
        return _Word(int(self) & int(other))

    def __or__(self, other: int) -> _Word:
        return _Word(int(self) | int(other))

    def __add__(self, other: int) -> _Word:
        return _Word((int(self) + int(other)) & _MASK)

    def __invert__(self) -> _Word:
        return _Word(int(self) ^ _MASK)

    def __lshift__(self, count: int) -> _Word:
        return _Word(int(self) << count & _MASK)

    def __rshift__(self, count: int) -> _Word:
        return _Word(int(self) >> count)


Bitmap = Callable[[int], Any]
"""A bitmap as a formula sees it: the word at a distance."""


def _behind(x: Bitmap, count: int = 1) -> Any:
    """Flags of the byte `count` before."""
    return x(0) << count | x(-1) >> (64 - count)


def _ahead(x: Bitmap, count: int = 1) -> Any:
    """Flags of the byte `count` behind."""
    return x(0) >> count | x(1) << (64 - count)


def _tokens(word: Bitmap, dot: Bitmap, digit: Bitmap) -> tuple[Any, Any]:
    """Tokens, and those of them that hold a digit, as far as they are in one word."""
    token = word(0) | (dot(0) & _behind(word) & _ahead(word))
    # From a token's first digit to its end: the sum carries through.
    filled = token & (~(token + digit(0)) | digit(0))
    # And to its start: by steps of 1, 2, 4 … as far as the token reaches.
    reach = token
    for count in (1, 2, 4, 8, 16, 32):
        filled = filled | (reach & filled >> count)
        reach = reach & reach >> count
    return token, filled


def _paths(word: Bitmap, dot: Bitmap, path: Bitmap, slash: Bitmap, equals: Bitmap) -> tuple[Any]:
    """Paths, as far as they are in the word in which they begin."""

    def inside(at: int) -> Any:
        return word(at) | dot(at) | path(at)

    def before(at: int) -> Any:
        return ~inside(at) | equals(at)

    start = slash(0) & _behind(before) & _ahead(inside)
    return (inside(0) & (~(inside(0) + start) | start),)


def _pairs(
    token: Bitmap, filled: Bitmap, path: Bitmap, letter: Bitmap, colon: Bitmap
) -> tuple[Any]:
    """Masked tokens and paths, with tokens of exactly two letters a-f beside a colon."""
    here = letter(0) & token(0)
    first = here & _ahead(letter) & ~_behind(token) & ~_ahead(token, 2)
    second = here & _behind(letter) & ~_ahead(token) & ~_behind(token, 2)
    first = first & (_behind(colon) | _ahead(colon, 2))
    second = second & (_behind(colon, 2) | _ahead(colon))
    return (filled(0) | path(0) | first | second,)


def _joins(token: Bitmap, value: Bitmap, join: Bitmap) -> tuple[Any]:
    """All masked bytes: values, with the one or two bytes that join them."""

    def joint(at: int) -> Any:
        return join(at) & ~token(at)

    one = joint(0) & _behind(value) & _ahead(value)
    two = joint(0) & _ahead(joint) & _behind(value) & _ahead(value, 2)
    end = joint(0) & _behind(joint) & _behind(value, 2) & _ahead(value)
    return (value(0) | one | two | end,)


def _step(formula: Callable[..., tuple[Any, ...]], sources: int, targets: int) -> Any:
    """Make an operation of a formula: the addresses of its bitmaps' words, then where to write."""
    count = sources + targets
    if not JIT:
        return _plain(formula, sources)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001 - numba's names
        def bitmap(address: Any) -> Bitmap:
            def load(distance: int) -> _Register:
                place = builder.add(address, ir.Constant(_I64, 8 * distance))
                pointer = builder.inttoptr(place, _VECTOR.as_pointer())
                return _Register(builder, builder.load(pointer, align=8))

            return load

        results = formula(*(bitmap(address) for address in args[:sources]))
        for address, result in zip(args[sources:], results, strict=True):
            pointer = builder.inttoptr(address, _VECTOR.as_pointer())
            builder.store(result.value, pointer, align=8)
        return context.get_dummy_value()

    signature = types.void(*[types.int64] * count)
    if count == 6:

        @intrinsic
        def six(typingctx: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:  # noqa: ARG001 - numba's names
            return signature, codegen

        return six

    if count == 5:

        @intrinsic
        def five(typingctx: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:  # noqa: ARG001 - numba's names
            return signature, codegen

        return five

    @intrinsic
    def four(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:  # noqa: ARG001 - numba's names
        return signature, codegen

    return four


def _plain(formula: Callable[..., tuple[Any, ...]], sources: int) -> Callable[..., None]:
    def step(*addresses: int) -> None:
        def bitmap(address: int) -> Bitmap:
            return lambda distance: _Word(ld64(address + 8 * distance) & _MASK)

        lanes = [
            formula(*(bitmap(address + 8 * lane) for address in addresses[:sources]))
            for lane in range(LANES)
        ]
        for lane, results in enumerate(lanes):
            for address, result in zip(addresses[sources:], results, strict=True):
                st64(address + 8 * lane, int(result))

    return step


token_words = _step(_tokens, 3, 2)
path_words = _step(_paths, 5, 1)
pair_words = _step(_pairs, 5, 1)
join_words = _step(_joins, 3, 1)
