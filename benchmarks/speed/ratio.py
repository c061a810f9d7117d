"""Ratios of two things that are measured in turn, many times over, in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time

import numpy as np
import torch

WARM_UP = 2  # rounds that do not count


@dataclass(frozen=True)
class Result:
    """A ratio, or a time, and the aim that was set for it.

    name: what was measured, such as "A / B".
    median, lower, upper: over the rounds, with quartiles. above, below: medians of the two parts,
        in ``unit``.
    aim: largest value that is good enough; None where none was set.
    note: how it was measured, or why it was not.
    """

    number: int
    name: str
    median: float | None
    lower: float | None
    upper: float | None
    rounds: int
    aim: float | None
    above: float | None = None
    below: float | None = None
    unit: str = "ms"
    note: str = ""

    @property
    def verdict(self) -> str:
        """reached, missed, no aim, or not measured."""
        if self.median is None:
            return "not measured"
        return "no aim" if self.aim is None else "reached" if self.median <= self.aim else "missed"


def alternate(
    above: Callable[[], object], below: Callable[[], object], rounds: int, device: torch.device
) -> Seconds:
    """Return the seconds of two functions per round; they run in turn, in changing order."""
    seconds: Seconds = []
    for number in range(WARM_UP + rounds):
        swapped = number % 2 == 1
        first, second = (
            elapsed(function, device)
            for function in ((below, above) if swapped else (above, below))
        )
        if number >= WARM_UP:
            seconds.append((second, first) if swapped else (first, second))
    return seconds


def elapsed(function: Callable[[], object], device: torch.device) -> float:
    """Return CPU seconds of this process; with a GPU wall seconds, synchronized."""
    if device.type != "cuda":
        start = process_time()
        function()
        return process_time() - start
    torch.cuda.synchronize(device)
    start = perf_counter()
    function()
    torch.cuda.synchronize(device)
    return perf_counter() - start


Seconds = list[tuple[float, float]]


def summed_up(
    number: int,
    name: str,
    pairs: Sequence[tuple[float, float]],
    aim: float | None,
    unit: str = "ms",
    note: str = "",
) -> Result:
    """Return the result of pairs in seconds or MiB: quartiles of their ratios."""
    lower, median, upper = np.percentile(
        [above / below for above, below in pairs], [25, 50, 75]
    ).tolist()
    above, below = (np.median(np.array(pairs), axis=0) * (1000 if unit == "ms" else 1)).tolist()
    return Result(number, name, median, lower, upper, len(pairs), aim, above, below, unit, note)
