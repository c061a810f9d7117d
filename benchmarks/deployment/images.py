"""Calibration images: real ones, synthetic ones of two methods, and noise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import dynadfq
from benchmarks.deployment.networks import Network
from dynadfq.data.labelled import LabelledSet
from dynadfq.deploy.images import optimizer
from dynadfq.ops.config import Precision
from dynadfq.synthesis.dataset import SyntheticSet

KINDS = ("real", "dynadfq", "zeroq", "noise")
SYNTHESIS_BATCH = 16


class Images(NamedTuple):
    """Calibration images, read like a ``SyntheticSet``.

    pixels: (N, C, H, W) normalized.
    seconds: that they took; 0 where they are read from a disk.
    """

    pixels: Tensor
    seconds: float

    def take(self, indices: Tensor) -> Any:
        """Return the images at (B,) indices."""
        return SimpleNamespace(images=self.pixels[indices])

    def batches(self, size: int, count: int | None = None) -> Iterator[Any]:
        """Yield the first ``count`` images in batches."""
        for part in self.pixels[:count].split(size):
            yield SimpleNamespace(images=part)


def calibration_images(
    kind: str,
    count: int,
    teacher: dynadfq.Teacher,
    network: Network,
    real: LabelledSet,
    work: Path,
    precision: Precision,
) -> Images:
    """Return calibration images of a kind; synthetic ones are kept in a folder.

    Args:
        kind: one of ``KINDS``.
        count: number of images.
        teacher: the network.
        network: settings of its images.
        real: labelled images; some, evenly spread, are the real ones.
        work: folder for synthetic images.
        precision: of the synthesis.
    """
    if kind == "real":
        chosen = torch.linspace(0, len(real) - 1, count).long()
        return Images(real.images(chosen), 0.0)
    if kind == "noise":
        rng = torch.Generator().manual_seed(0)
        return Images(torch.randn(count, *teacher.input_shape, generator=rng), 0.0)
    folder, clock = work / kind, work / f"{kind}.seconds"
    if not clock.exists():
        start = time.perf_counter()
        options: Any = {"optimizer": optimizer(network.iterations)}
        if kind == "dynadfq":
            options["class_weight"] = network.class_weight
        dynadfq.synthesize(
            teacher,
            kind,
            count,
            batch_size=SYNTHESIS_BATCH,
            folder=folder,
            precision=precision,
            **options,
        )
        clock.write_text(str(time.perf_counter() - start))
    images = SyntheticSet(folder)
    return Images(images.take(torch.arange(len(images))).images, float(clock.read_text()))
