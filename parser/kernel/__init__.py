"""Compiled kernels: a format becomes one function that reads millions of lines a second.

    formats.Format ─ codegen ─► source ─ loader ─► machine code ─ engine ─► RangeSummary

Importing this package imports numba; parser.extract.engine_for does so only for large inputs.
"""

from __future__ import annotations

from parser.kernel.engine import Kernel
from parser.kernel.errors import UnsupportedFormatError

__all__ = ["Kernel", "UnsupportedFormatError"]
