"""How a budget of time is divided, and the small search for a method's best division."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from dynadfq.methods import METHODS

SHARD = 64  # images made together; their number is a multiple of it
CALIBRATION = 256  # images at most; an online generator makes those of the training besides
REAL = 5120  # images, where they cost no time


@dataclass(frozen=True)
class Split:
    """The free choices of a cell; iterations and steps follow from the time.

    share: of the budget, for making images; the rest is for the student.
    images: that are made.
    basis: of the synthesis; cosines with a linear schedule, pixels with the plateau rule.
    learning_rate: initial one, of the weights.
    max_gradient_norm: of the weights' gradient; 0 is no limit.
    crop_scale: smallest area of the student's random crops; 1 is none.
    rounding: of weights, before the first step.
    allocation: one width everywhere ("uniform"), or one for each layer and site by "sensitivity" on
        some of the images, at the same bit-FLOPs.
    """

    share: float
    images: int
    basis: str
    learning_rate: float
    max_gradient_norm: float
    crop_scale: float
    rounding: str
    allocation: str

    def scaled(self, ratio: float) -> Split:
        """Return the split of a budget that is ``ratio`` times as long.

        Images and iterations per image both grow with the square root.

        >>> Split(0.4, 128, "pixels", 1e-4, 50.0, 0.5, "nearest", "uniform").scaled(4).images
        256
        """
        return replace(self, images=whole_shards(self.images * sqrt(ratio)))


START = Split(0.4, 128, "cosines", 1e-4, 50.0, 0.5, "nearest", "uniform")  # of one minute
AXES: Mapping[str, Callable[[Split], tuple[Any, ...]]] = {
    "images": lambda split: (whole_shards(split.images / 2), whole_shards(split.images * 2)),
    "basis": lambda _: ("cosines", "pixels"),
    "share": lambda _: (0.2, 0.6),
    "learning_rate": lambda _: (3e-5, 1e-4, 3e-4),
    "max_gradient_norm": lambda _: (0.0, 50.0),
    "crop_scale": lambda _: (0.25, 0.5, 1.0),
    "rounding": lambda _: ("nearest", "squant"),
    "allocation": lambda _: ("uniform", "sensitivity"),
}


def whole_shards(images: float) -> int:
    """Return the nearest multiple of the shard size, and at least one shard."""
    return max(1, round(images / SHARD)) * SHARD


def axes(method: str) -> list[str]:
    """Return the choices that a method's search has.

    Real images cost no time and the student's is that of the others; the images of an online
    generator follow from its training.
    """
    kind = METHODS[method]
    fixed = {"images", "basis"} if kind.trains_generator else set()
    fixed |= set() if kind.optimizes_images else {"images", "basis", "share"}
    return [axis for axis in AXES if axis not in fixed]


def first_split(method: str) -> Split:
    """Return where a method's search begins, under one minute."""
    kind = METHODS[method]
    if not kind.optimizes_images:
        return replace(START, images=REAL, basis="pixels")
    if kind.trains_generator:
        return replace(START, images=CALIBRATION, basis="pixels")
    return START


def search(start: Split, axes: Iterable[str], score: Callable[[Split], float]) -> Split:
    """Return the best split found by changing one choice after the other.

    Args:
        start: where the search begins.
        axes: the choices that may change, of ``AXES``, in this order.
        score: held-back agreement of a split, in percent; called once for each.
    """
    best, highest = start, score(start)
    for axis in axes:
        centre = best
        for value in AXES[axis](centre):
            changed: Any = {axis: value}
            split = replace(centre, **changed)
            if split != centre and (found := score(split)) > highest:
                best, highest = split, found
    return best
