"""Memory that glibc keeps between the steps of a computation."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Options of <malloc.h>'s mallopt, and what glibc itself settles at in a process that frees large
# blocks: its threshold for mmap grows to 32 MiB, the one for trimming to twice that.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}
USUAL = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 2**25, M_TRIM_THRESHOLD: 2**26, M_TOP_PAD: 2**17}
SWITCH = "DYNADFQ_KEEP_MEMORY"  # 0 is off

_lock = threading.Lock()
_blocks = 0  # that are running


@contextmanager
def kept_memory() -> Iterator[None]:
    """Make glibc keep freed memory while the block runs, and return it afterwards.

    The kernel clears every page it hands out. glibc returns blocks over 32 MiB at once, and the
    next step requests them again, which on 224 × 224 images is a third of its CPU time
    (docs/performance.md). Blocks may be nested and run in several threads; the last one that ends
    returns the memory. From then on glibc's thresholds stay fixed at what they usually grow to: a
    program that sets one of them ends their adaptation. Does nothing without glibc, or if the
    environment sets ``DYNADFQ_KEEP_MEMORY=0`` or options of glibc's own (``MALLOC_…``, or
    ``glibc.malloc.…`` in ``GLIBC_TUNABLES``).
    """
    library = None if _chosen() else _glibc()
    if library is None:
        yield
        return
    _count(library, 1)
    try:
        yield
    finally:
        _count(library, -1)


def _chosen() -> bool:
    """Whether the environment says how memory is kept."""
    if os.environ.get(SWITCH) == "0" or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return True
    return any(name.startswith("MALLOC_") for name in os.environ)


@cache
def _glibc() -> Any:
    """The C library if it is glibc."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "gnu_get_libc_version") else None


def _count(library: Any, change: int) -> None:
    """Count a block that begins or ends; set glibc's options with the first and the last."""
    global _blocks
    with _lock:
        before, _blocks = _blocks, _blocks + change
        if 0 in (before, _blocks):
            for option, value in (KEEP if _blocks else USUAL).items():
                library.mallopt(option, value)
        if _blocks == 0:
            library.malloc_trim(0)
