"""Arithmetic: which images get the lowest and the highest width, and what that gains."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dynadfq.evaluation.controls import ROUNDING_IMAGES
from dynadfq.evaluation.paired import Paired, paired
from dynadfq.runtime import seeding

PERMUTATIONS = 20
# Of the quantiles that follow a stream, in distances of the first two bounds per image.
FOLLOWING_RATE = 0.01


def affordable(
    images: int, share: float, saved: float, paid: float, overhead: float
) -> tuple[int, int] | None:
    """Return how many images get the lowest and the highest width at the cost of the middle one.

    >>> affordable(100, 0.2, 1.0, 1.0, 0.0), affordable(100, 0.2, 1.0, 1.0, 0.05)
    ((20, 20), (20, 15))
    >>> affordable(100, 0.2, 1.0, 1.0, 0.3) is None
    True

    Args:
        images: N.
        share: of the images at the lowest width.
        saved: by the lowest width in place of the middle one, for an image.
        paid: for the highest one.
        overhead: cost of the selector for an image, in the same unit.

    Returns:
        The two numbers; None where what is saved does not pay the selector.
    """
    lowest = round(share * images)
    left = lowest * saved - images * overhead
    highest = min(math.floor(left / paid + ROUNDING_IMAGES), images - lowest)
    return None if highest < 0 else (lowest, highest)


def gains(right: Tensor, columns: Tensor, seed: int) -> tuple[Paired, Paired]:
    """Compare images at chosen widths with the middle width, and with permuted choices.

    Args:
        right: (3, N) whether each image is right at the lowest, middle and highest width.
        columns: (N,) the width of each image, 0 to 2.
        seed: of the permutations.
    """
    images = torch.arange(len(columns))
    rngs = (seeding.generator(seed, "control", number) for number in range(PERMUTATIONS))
    permuted = [right[columns[torch.randperm(len(columns), generator=rng)], images] for rng in rngs]
    own = right[columns, images]
    return paired(own, right[1]), paired(own, torch.stack(permuted))


def thresholded(scores: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return the (N,) widths 0 to 2 of scores below the first bound, between, above the second.

    >>> thresholded(torch.tensor([0.0, 1.0, 2.0]), (0.5, 1.5)).tolist()
    [2, 1, 0]
    """
    return 1 + (scores < bounds[0]).long() - (scores > bounds[1]).long()


def followed(scores: Tensor, bounds: tuple[float, float], share: float) -> Tensor:
    """Return widths as ``thresholded``, with bounds that follow the stream of scores.

    After each image the lower bound moves towards the quantile ``share`` and the upper towards 1 -
    ``share``, by the gradient of the quantile loss.

    Args:
        scores: (N,) in the order of the stream.
        bounds: at its beginning.
        share: of images at the lowest width, and of those at the highest.
    """
    step = FOLLOWING_RATE * (bounds[1] - bounds[0])

    def widths() -> Iterator[int]:
        low, high = bounds
        for score in scores.tolist():
            yield 1 + (score < low) - (score > high)
            low += step * (share - (score < low))
            high += step * ((score > high) - share)

    return torch.tensor(list(widths()))
