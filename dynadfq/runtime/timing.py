"""Wall-clock times of functions that take turns, so that a slow machine slows all of them.

Their order changes from round to round: a function finds in the caches what the one before it left
there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from time import perf_counter
from typing import NamedTuple

import numpy as np


class Timing(NamedTuple):
    """Seconds per call: median, quartiles and minimum over the repeats."""

    median: float
    lower_quartile: float
    upper_quartile: float
    best: float
    repeats: int


def interleaved(
    functions: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 2
) -> dict[str, Timing]:
    """Return the times of functions, each called once per round.

    Args:
        functions: by name.
        repeats: number of rounds that are timed.
        warm_up: number of rounds before them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(warm_up + repeats):
        for name in Random(number).sample([*functions], len(functions)):
            function = functions[name]
            start = perf_counter()
            function()
            elapsed = perf_counter() - start
            if number >= warm_up:
                seconds[name].append(elapsed)
    return {name: _timing(values) for name, values in seconds.items()}


def _timing(seconds: list[float]) -> Timing:
    lower, median, upper = np.percentile(seconds, [25, 50, 75]).tolist()
    return Timing(median, lower, upper, min(seconds), len(seconds))
