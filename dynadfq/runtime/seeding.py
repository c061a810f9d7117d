"""Independent random streams from one seed.

Every random choice draws from a stream named after its purpose, such as ``("synthesis", shard)``. A
stream depends on the seed and the name only: work gives the same bytes in any order, in any number
of processes, and after it was resumed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *name: int | str) -> int:
    """Return the seed of a named stream: an integer of 63 bits.

    >>> derive(0, "synthesis", 3) == derive(0, "synthesis", 3)
    True
    >>> derive(0, "synthesis", 3) == derive(0, "synthesis", 4)
    False
    """
    text = repr((seed, *name)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def generator(seed: int, *name: int | str) -> torch.Generator:
    """Return the CPU generator of a named stream.

    Tensors are drawn on the CPU and then moved, so that all devices get the same numbers.
    """
    return torch.Generator().manual_seed(derive(seed, *name))


@contextmanager
def global_stream(seed: int, *name: int | str) -> Iterator[None]:
    """Set torch's global generators, which dropout uses, to a named stream for the block."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, *name))
        yield


def deterministic() -> None:
    """Ask torch for deterministic kernels, so that a seed reproduces the bytes on one machine."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # torch.use_deterministic_algorithms would import the compiler, which takes seconds.
    torch.set_deterministic_debug_mode("warn")
    # Filling memory takes a fifth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
