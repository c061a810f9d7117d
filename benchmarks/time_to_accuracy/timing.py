"""Clocks, and how long a method's work takes on this machine."""

from __future__ import annotations

import time
from typing import NamedTuple


class Rates(NamedTuple):
    """CPU time of a method on this machine, in seconds.

    per_iteration: of an image, or of the generator's batch.
    per_set: of an image set, whatever its iterations.
    per_step: of fine-tuning.
    per_student: of a student, whatever its steps: quantization, calibration and the like.
    """

    per_iteration: float
    per_set: float
    per_step: float
    per_student: float


class Clock:
    """CPU and wall time of a ``with`` block."""

    cpu = wall = 0.0

    def __enter__(self) -> Clock:
        self._start = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu = time.process_time() - self._start[0]
        self.wall = time.perf_counter() - self._start[1]
