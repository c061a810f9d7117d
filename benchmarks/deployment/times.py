"""Milliseconds an image of the float network and of the student, engine beside engine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch

from dynadfq.export.engines import Answer
from dynadfq.runtime.timing import interleaved

REFERENCE = (
    "onnxruntime float32",
    "float",
)  # times are given relative to the first of these that is there


class Time(NamedTuple):
    """Milliseconds an image: median, quartiles and best of so many repeats; ``ratio`` is that of
    the medians.
    """

    name: str
    batch: int
    median: float
    lower_quartile: float
    upper_quartile: float
    best: float
    repeats: int
    ratio: float
    ratio_of_best: float


def times(
    timed: Mapping[str, Answer], shape: tuple[int, ...], batch: int, repeats: int
) -> list[Time]:
    """Run all in turn on noise."""
    images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = interleaved({name: partial(run, images) for name, run in timed.items()}, repeats)
    reference = found[next(name for name in REFERENCE if name in found)]
    an_image = 1000 / batch  # milliseconds, of a batch's seconds
    return [
        Time(
            name,
            batch,
            median=time.median * an_image,
            lower_quartile=time.lower_quartile * an_image,
            upper_quartile=time.upper_quartile * an_image,
            best=time.best * an_image,
            repeats=repeats,
            ratio=time.median / reference.median,
            ratio_of_best=time.best / reference.best,
        )
        for name, time in found.items()
    ]
