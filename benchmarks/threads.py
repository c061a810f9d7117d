"""The number of threads of a process."""

from __future__ import annotations

import os


def per_job(jobs: int) -> int:
    """Threads for each of ``jobs`` processes, so that together they take no more than there are
    cores.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, cores // jobs)
