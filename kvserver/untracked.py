"""What the garbage collector need not walk over: a subclass of ``bytes``, and a dict of values.

Every class that Python code defines is tracked by the collector, even one that can refer to
nothing: 16 bytes more for each value, and with four million of them a collection that stops a
server for half a second. The C API (stable, since 3.3) makes a subclass without that; ``ctypes``
reaches it. On another Python than CPython an ordinary subclass does the same.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

__all__ = ["untrack", "untracked_bytes"]

_END_OF_SLOTS = 0
_DOC = 56


class _Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("value", ctypes.c_char_p))


class _Spec(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),  # 0: that of the base
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    )


_untrack: Any = None
if sys.implementation.name == "cpython":
    _untrack = ctypes.pythonapi.PyObject_GC_UnTrack
    _untrack.restype = None
    _untrack.argtypes = [ctypes.py_object]

_kept: list[Any] = []
"""What types may still point to."""


def untrack(container: dict[Any, Any]) -> None:
    """Take a dict out of the collector's sight, until it is given something that may be tracked.

    A dict of bytes alone is out of its sight already. What is in this one must not refer to it, not
    even by way of others: then nothing is lost. Costs 0.3 µs.
    """
    if sys.implementation.name == "cpython" and type(container) is dict:
        _untrack(container)


def untracked_bytes(name: str, doc: str) -> Any:
    """Return a new subclass of ``bytes``; ``name`` is ``module.name``."""
    if sys.implementation.name != "cpython":
        module, _, own = name.rpartition(".")
        return type(own, (bytes,), {"__slots__": (), "__module__": module, "__doc__": doc})
    slots = (_Slot * 2)(_Slot(_DOC, doc.encode()), _Slot(_END_OF_SLOTS, None))
    spec = _Spec(name.encode(), 0, 0, 0, slots)
    _kept.append((spec, slots))
    make = ctypes.pythonapi.PyType_FromSpecWithBases
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.POINTER(_Spec), ctypes.py_object]
    return make(ctypes.byref(spec), (bytes,))
