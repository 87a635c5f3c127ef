"""A compiled kernel as a flat piece of machine code, which is loaded without numba.

Importing numba and having it load a kernel takes half a second; mapping 36 KB takes none. So once a
kernel has been compiled, its code is generated again in a form that runs wherever it lies: all
functions but ``run`` are local, constants are reached relative to the code, and nothing outside is
called. Whatever is not exactly so (another processor family, a call of the C library, a relocation
we do not know) makes no image, and numba loads the kernel as before.

An image carries a seal of its content: one that was damaged is not run. Its name holds what
processor it was made for, see ``loader``.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

__all__ = ["make", "processor", "runnable", "supported"]

_MAGIC: Final = b"kvimage1"
_HEAD: Final = struct.Struct("<8sQ16s")  # magic, offset of the function in the code, seal
_RETURN: Final = "i32 (ptr, ptr, i64)"
"""What numba makes of ``int64(int64)``: status, place of the result, place of an exception."""

_PC32, _PLT32, _PC64 = 2, 4, 24  # relocations, as the ABI of x86-64 numbers them
_WRITABLE, _ALLOCATED = 1, 2
_PROGBITS, _RELA, _SYMTAB = 1, 4, 2
_READ, _WRITE, _EXECUTE = 1, 2, 4  # as mmap and mprotect take them
_PRIVATE_ANONYMOUS: Final = 0x22


def supported() -> bool:
    """Whether images can be made and run here."""
    return sys.platform == "linux" and os.uname().machine == "x86_64"


@cache
def processor() -> bytes:
    """Return what tells processors apart that may need different code."""
    wanted = (b"vendor_id", b"cpu family", b"model\t", b"flags")
    first = Path("/proc/cpuinfo").read_bytes().partition(b"\n\n")[0]
    return b"\n".join(line for line in first.split(b"\n") if line.startswith(wanted))


# -------------------------------------------------------------------------------------- running


def runnable(image: bytes) -> Callable[[int], int] | None:
    """Put an image into memory and return its function; None when it cannot be run."""
    if len(image) < _HEAD.size:
        return None
    magic, entry, seal = _HEAD.unpack_from(image)
    code = image[_HEAD.size :]
    if magic != _MAGIC or seal != _seal(entry, code):
        return None
    address = _placed(code)
    if address is None:
        return None
    call = ctypes.CFUNCTYPE(
        ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64
    )(address + entry)  # fmt: skip  # releases the GIL, as numba's nogil does

    def run(header: int) -> int:
        result, exception = ctypes.c_int64(), ctypes.c_void_p()
        status = call(ctypes.byref(result), ctypes.byref(exception), header)
        assert status == 0, "kernels raise nothing"
        return result.value

    return run


def _placed(code: bytes) -> int | None:
    """Copy code to memory of its own, which is never freed, and make it executable."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    ]  # fmt: skip
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    address = libc.mmap(None, len(code), _READ | _WRITE, _PRIVATE_ANONYMOUS, -1, 0)
    if address in {None, ctypes.c_void_p(-1).value}:
        return None
    ctypes.memmove(address, code, len(code))
    if libc.mprotect(address, len(code), _READ | _EXECUTE) != 0:
        return None
    return int(address)


def _seal(entry: int, code: bytes) -> bytes:
    return blake2b(code, digest_size=16, salt=struct.pack("<Q", entry)).digest()


# --------------------------------------------------------------------------------------- making


def make(compiled: Any) -> bytes | None:
    """Return the image of a function that numba compiled, None when it cannot have one."""
    if not supported():
        return None
    result = next(iter(compiled.overloads.values()))
    name: str = result.fndesc.llvm_func_name
    linked = _linked(_object(result.library, name), name)
    if linked is None:
        return None
    entry, code = linked
    return _HEAD.pack(_MAGIC, entry, _seal(entry, code)) + code


def _object(library: Any, name: str) -> bytes:
    """Generate position-independent code of one function and what it calls."""
    import llvmlite.binding as llvm

    bitcode = library._get_module_for_linking().as_bitcode()  # noqa: SLF001 - numba has no other door
    module = llvm.parse_bitcode(bitcode)
    for thing in (*module.functions, *module.global_variables):
        if not thing.is_declaration:
            thing.linkage = "external" if thing.name == name else "internal"
    if str(module.get_function(name).global_value_type) != _RETURN:
        return b""
    _, cpu, features = library.codegen.magic_tuple()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small"
    )
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    made: bytes = machine.emit_object(module)
    return made


def _linked(elf: bytes, name: str) -> tuple[int, bytes] | None:
    """Lay out the sections of an object and link them: where the function is, and the code."""
    if elf[:6] != b"\x7fELF\x02\x01":
        return None
    sections = _sections(elf)
    code = bytearray()
    places: dict[int, int] = {}  # number of a section -> where it begins
    for number, (_, kind, flags, _, offset, size, _, _, align, _) in enumerate(sections):
        if not flags & _ALLOCATED or not size:
            continue
        if kind != _PROGBITS or flags & _WRITABLE:
            return None
        code += bytes(-len(code) % max(align, 1))
        places[number] = len(code)
        code += elf[offset : offset + size]
    symbols = _symbols(elf, sections)
    for _, kind, _, _, offset, size, _, target, _, _ in sections:
        if kind != _RELA or target not in places:
            continue
        for at in range(offset, offset + size, 24):
            where, info, addend = struct.unpack_from("<QQq", elf, at)
            _, section, value = symbols[info >> 32]
            if section not in places:
                return None  # something outside
            place = places[target] + where
            distance = places[section] + value + addend - place
            if info & 0xFFFFFFFF in {_PC32, _PLT32}:
                struct.pack_into("<i", code, place, distance)
            elif info & 0xFFFFFFFF == _PC64:
                struct.pack_into("<q", code, place, distance)
            else:
                return None
    for known, section, value in symbols:
        if known == name.encode() and section in places:
            return places[section] + value, bytes(code)
    return None


def _sections(elf: bytes) -> list[tuple[int, ...]]:
    (start,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    return [struct.unpack_from("<IIQQQQIIQQ", elf, start + n * size) for n in range(count)]


def _symbols(elf: bytes, sections: list[tuple[int, ...]]) -> list[tuple[bytes, int, int]]:
    """Return name, section and value of each symbol."""
    out: list[tuple[bytes, int, int]] = []
    for _, kind, _, _, offset, size, link, _, _, _ in sections:
        if kind != _SYMTAB:
            continue
        names = sections[link][4]
        for at in range(offset, offset + size, 24):
            text, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", elf, at)
            begin = names + text
            out.append((elf[begin : elf.index(b"\0", begin)], section, value))
    return out
