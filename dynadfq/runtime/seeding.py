"""One seed in, independent random streams out.

Every random decision draws from a stream named by what it is for, for example ``("synthesis",
shard)``. A stream depends on the seed and its name alone: work may be done in any order, by any
number of processes, or resumed, and gives the same bytes.
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
    """Return a CPU generator for a named stream; tensors are drawn on the CPU and moved, so that
    devices agree.
    """
    return torch.Generator().manual_seed(derive(seed, *name))


@contextmanager
def global_stream(seed: int, *name: int | str) -> Iterator[None]:
    """Run a block on a named stream of torch's global generators (dropout has no other); restore
    them afterwards.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, *name))
        yield


def deterministic() -> None:
    """Ask torch for deterministic kernels: the same seed gives the same bytes on the same
    machine.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode(
        "warn"
    )  # use_deterministic_algorithms would import the compiler, for seconds
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs a fifth of the time
    torch.backends.cudnn.benchmark = False
