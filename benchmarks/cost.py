"""Cost of a cell: wall time and peak memory. It differs from run to run, so no other cell depends
on it.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dynadfq.runtime import device
from dynadfq.runtime.resume import library_digest
from stages.artifacts import write_json
from stages.runtime import root

MEGABYTE = 2**20  # bytes


@contextmanager
def measured(name: str, path: Path, where: str) -> Iterator[dict[str, Any]]:
    """Time the block and write its cost; what the block adds to the yielded dict is written too.

    seconds: wall time of the block.
    cpu_seconds: time that processors spent on this process during the block, all threads together;
        other work on the machine changes it less than wall time.
    peak_memory_mb: largest resident memory of the process, or on a GPU the most that tensors took
        there; 2**20 bytes.
    library: state of the library's code, see ``library_digest``.
    interrupted: an earlier attempt was killed, so that the time is not all of it.
    """
    on = device.resolve(where)
    mark = root(".scratch/grid") / name
    added: dict[str, Any] = {"interrupted": mark.exists()}
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    if on.type == "cuda":
        torch.cuda.reset_peak_memory_stats(on)
    start, cpu_start = time.perf_counter(), time.process_time()
    yield added
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    kind = torch.cuda.get_device_name(on) if on.type == "cuda" else "cpu"
    cost = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_memory_mb": _peak(on),
        "device": kind,
        "threads": torch.get_num_threads(),
        "library": library_digest()[:12],
    }
    write_json(path, {**cost, **added})
    mark.unlink()


def _peak(on: torch.device) -> float:
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on) / MEGABYTE
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return kilobytes * unit / MEGABYTE
