"""Memory habits of the C library that make a training step on a CPU faster."""

from __future__ import annotations

import ctypes
import sys

# From malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, instead of giving it back at every step.

    A training step allocates and frees the same large tensors again and again; fresh pages of
    the system are zeroed and mapped one by one, which took 6 % of a step. The process keeps its
    peak of memory until it ends. False where the C library is another one than glibc.
    Source: measured: benchmarks/results/train.md.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26))
    return all(mallopt(name, value) == 1 for name, value in settings)
