"""Compiled kernels: a format becomes one function that reads millions of lines a second.

    format.Format ─ codegen ─► source ─ loader ─► machine code ─ engine ─► RangeSummary

Import what is needed from the modules: `engine` imports numba, `codegen` and `loader` do not, so
that it can be found out without numba whether a kernel is there.
"""
