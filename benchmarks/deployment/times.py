"""Milliseconds per image of the float network and of the student, engine beside engine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from dynadfq.export.engines import Answer
from dynadfq.runtime.timing import interleaved

# Times are given relative to the first of these that is available.
REFERENCE = ("onnxruntime float32", "float")


def times(
    timed: Mapping[str, Answer], shape: tuple[int, ...], batch: int, repeats: int
) -> list[dict[str, Any]]:
    """Return a row per function, which run in turn on noise.

    Each row has milliseconds per image (``median``, ``lower_quartile``, ``upper_quartile``,
    ``best``) and two ratios to the reference: of the medians, and of the best.
    """
    images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = interleaved({name: partial(run, images) for name, run in timed.items()}, repeats)
    reference = found[next(name for name in REFERENCE if name in found)]
    rows = []
    for name, timing in found.items():
        seconds = timing._asdict()
        del seconds["repeats"]
        row = {"name": name, "batch": batch, "repeats": timing.repeats}
        row |= {field: 1000 * value / batch for field, value in seconds.items()}
        row["ratio"] = timing.median / reference.median
        row["ratio_of_best"] = timing.best / reference.best
        rows.append(row)
    return rows
