"""Two ways to classify the same images, compared image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

SAME_PROBABILITY = 1 + 1e-7  # two probabilities that differ by less are the same, but for rounding


@dataclass(frozen=True)
class Paired:
    """What one network gains over another on N images; both may be one network at other widths.

    difference: points by which the first is right more often.
    standard_error: of the difference, over images, in points.
    gained, lost: images that only the first, and only the second gets right; None where the second
        answers several times.
    p_value: two-sided, of an exact test.
    """

    difference: float
    standard_error: float
    gained: int | None
    lost: int | None
    p_value: float


def paired(right: Tensor, others: Tensor) -> Paired:
    """Compare an answer to each image with R others that have equal chances.

    The test is exact: where the answers are exchangeable, each of the R + 1 that an image was given
    is as likely to be the first, which is right with probability t / (R + 1) if t of them are. The
    number of images with a right first answer is a sum of such events. With R = 1 this is
    McNemar's test, the sign test on images of which one answer is right.

    Args:
        right: (N,) whether each image's answer is right.
        others: (N,) or (R, N), the same of the others; the difference is to their mean.
    """
    given = others.cpu().reshape(-1, len(right)).double()
    first = right.cpu().double()
    gains = first - given.mean(dim=0)
    error = gains.std() / len(gains) ** 0.5 if len(gains) > 1 else torch.zeros(())
    single = len(given) == 1
    return Paired(
        difference=100.0 * float(gains.mean()),
        standard_error=100.0 * float(error),
        gained=int((first > given[0]).sum()) if single else None,
        lost=int((first < given[0]).sum()) if single else None,
        p_value=_p_value(first, given),
    )


def _p_value(first: Tensor, others: Tensor) -> float:
    """Return the probability of a number of right first answers as unlikely as that found."""
    answers = len(others) + 1
    times = (first + others.sum(dim=0)).long()
    undecided = (times > 0) & (times < answers)
    counts = torch.bincount(times[undecided], minlength=answers).tolist()
    chances = np.ones(1)
    for right, images in enumerate(counts):
        if images:
            share = right / answers
            chances = np.convolve(chances, binom.pmf(np.arange(images + 1), images, share))
    found = chances[int(first[undecided].sum())]
    return min(1.0, float(chances[chances <= found * SAME_PROBABILITY].sum()))
