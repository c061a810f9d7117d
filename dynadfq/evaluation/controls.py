"""Controls of a dynamic student: the same bit-FLOPs, given to the images in other ways.

Each answers what a gain may be due to. ``permuted``: only which image gets which widths is removed.
``static``: all images have the same widths. ``ceiling``: what the student could gain if it knew how
sure it will be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dynadfq.evaluation.evaluate import Evaluation, Predictions, predict
from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.insert import FIXED_SITES
from dynadfq.quant.knapsack import Limit, choose
from dynadfq.quant.model import Student
from dynadfq.runtime import seeding

CEILING_SHARES = (0.1, 0.2, 0.3, 0.4)  # of images at the lowest width; the rest follows
ROUNDING_IMAGES = 1e-9  # images, between two sums of the same costs in another order


def shuffled_control(
    student: Student, images: Iterable[Tensor], bits: Tensor, rng: torch.Generator
) -> Predictions:
    """Classify images with the widths that the selector chose for other images, at random.

    The cost is the same; a selector that does not beat this control knows nothing about images.

    Args:
        student: the quantized model.
        images: (B, C, H, W) batches.
        bits: (N, S) widths that the selector chose.
        rng: draws the permutation.
    """
    return predict(student, images, bits[torch.randperm(len(bits), generator=rng)])


def permuted(
    student: Student, images: Iterable[Tensor], own: Evaluation, seed: int, repeats: int
) -> Tensor:
    """Classify images ``repeats`` times with each other's widths: (repeats, N) classes.

    The images are read once per repeat; where all have the same widths, the student's own
    predictions are those of the control.
    """
    if allocations(student, own.bits) == 1:
        return own.predictions.expand(repeats, -1)
    rngs = (seeding.generator(seed, "control", repeat) for repeat in range(repeats))
    return torch.stack([shuffled_control(student, images, own.bits, rng).classes for rng in rngs])


def allocations(student: Student, bits: Tensor) -> int:
    """Count the distinct ones of (N, S) allocations, over the sites that cost something."""
    read = bits[:, student.cost.per_site > 0]
    return len(read.unique(dim=0)) if read.shape[1] else 1


def static_widths(student: Student, bits: Tensor) -> BitAllocation:
    """Return the selector's most frequent widths that cost as much as its choices do on average.

    One width per site for all images: the sum over sites of the share of images with that width is
    the largest among the allocations that cost at least the mean, and exceed it by at most one step
    at the site where a step costs most. The control therefore costs a little more than the student.

    Args:
        student: a dynamic student.
        bits: (N, S) widths that its selector chose.
    """
    widths = student.scheme.activation_bits
    per_bit = student.cost.per_site / float(student.cost.total(bits).mean())
    share = torch.stack([(bits == width).double().mean(dim=0) for width in widths], dim=1)
    harm = -share.numpy()
    harm[:FIXED_SITES, :-1] = np.inf
    candidates = np.array(widths, dtype=float)
    costs = [float(cost) * candidates for cost in per_bit]
    mean = float(bits.double().mean(dim=0) @ per_bit)
    step = float(per_bit.max()) * float(np.diff(candidates).max())
    found = choose(list(harm), [Limit(costs, mean, mean + step)])
    assert found is not None  # from the cheapest to the dearest widths no step is larger
    return BitAllocation(torch.tensor([[float(widths[column]) for column in found]]))


def uniform_predictions(
    student: Student, images: Iterable[Tensor], widths: Iterable[int]
) -> dict[int, Predictions]:
    """Classify images at each of these uniform widths; they are read once per width."""
    return {
        width: predict(student, images, student.uniform(width)) for width in sorted(set(widths))
    }


def lowest_surviving_bits(
    found: Mapping[int, Predictions], expected: Tensor, widths: Sequence[int]
) -> Tensor:
    """Return the quantization sensitivity of each image.

    Args:
        found: predictions by uniform width.
        expected: (N,) classes.
        widths: those of the uniform widths that count, in bits.

    Returns:
        (N,) lowest width from which on all wider ones predict the expected class; 0 for none.
    """
    lowest = torch.zeros(len(expected), dtype=torch.int64)
    survives = torch.ones(len(expected), dtype=torch.bool)
    for width in sorted(widths, reverse=True):
        survives &= found[width].classes == expected
        lowest[survives] = width
    return lowest


def ceiling_widths(student: Student) -> tuple[int, int, int]:
    """Return the uniform widths that the ceiling combines: lowest, target, highest."""
    widths = student.scheme.activation_bits
    return widths[0], student.scheme.target_bits, widths[-1]


def ceiling(
    student: Student, found: Mapping[int, Predictions], expected: Tensor, mean: float
) -> Predictions:
    """Let the student's own margin at the lowest width decide, at no cost of its own.

    The images with the largest margins get the lowest width at every site, those with the smallest
    the highest, the others the target. 10, 20, 30 or 40 % get the lowest, or all that do not get
    the highest; the number with the highest follows from the mean cost, which is exceeded by less
    than one image's. The best of these is returned, chosen on the images themselves: it is a bound,
    and no selector.

    Args:
        student: a dynamic student.
        found: predictions by uniform width (``ceiling_widths``).
        expected: (N,) classes.
        mean: bit-FLOPs of an image in percent of the float model.
    """
    used = ceiling_widths(student)
    costs = [float(student.bit_flops_percent(student.uniform(width).bits)) for width in used]
    margins = found[used[0]].margins
    images = torch.arange(len(margins))
    results = []
    for easiest, hardest in _shares(len(images), costs, mean):
        column = by_rank(margins, easiest, hardest)
        parts = [found[width] for width in used]
        values = (torch.stack(of_widths) for of_widths in zip(*parts, strict=True))
        results.append(Predictions(*(value[column, images] for value in values)))
    return max(results, key=lambda one: int((one.classes == expected).sum()))


def by_rank(scores: Tensor, easiest: int, hardest: int) -> Tensor:
    """Return which of three widths each image gets: 0 lowest, 1 middle, 2 highest.

    >>> by_rank(torch.tensor([0.1, 0.9, 0.5]), easiest=1, hardest=1).tolist()
    [2, 0, 1]

    Args:
        scores: (N,), larger for easier images; of equal ones the first is easier.
        easiest: number of images with the largest scores, which get the lowest width.
        hardest: number of images with the smallest scores, which get the highest.
    """
    order = scores.argsort(descending=True, stable=True)
    column = torch.ones(len(order), dtype=torch.int64)
    column[order[:easiest]] = 0
    column[order[len(order) - hardest :]] = 2
    return column


def _shares(images: int, costs: Sequence[float], mean: float) -> Iterator[tuple[int, int]]:
    """Yield numbers of images at the lowest and the highest width that cost the mean."""
    lowest, middle, highest = costs
    hardest = _least(images * (mean - lowest), highest - lowest)
    yield images - hardest, hardest
    for share in CEILING_SHARES:
        easiest = round(share * images)
        more = images * (mean - middle) + easiest * (middle - lowest)
        hardest = _least(more, highest - middle)
        if middle < highest and 0 <= hardest <= images - easiest:
            yield easiest, hardest


def _least(cost: float, step: float) -> int:
    """Return how many steps cost at least so much; none where a step costs nothing."""
    return math.ceil(cost / step - ROUNDING_IMAGES) if step else 0


@dataclass(frozen=True)
class Controls:
    """Predictions of all controls on N images.

    permuted: (repeats, N) classes.
    static, ceiling: None for a student of one width, which has no others to give.
    """

    permuted: Tensor
    static: Predictions | None = None
    ceiling: Predictions | None = None


def measure_controls(
    student: Student,
    images: Iterable[Tensor],
    own: Evaluation,
    at_width: Mapping[int, Predictions],
    expected: Tensor,
    seed: int,
    repeats: int,
) -> Controls:
    """Measure the controls of a student; images are read once for each repeat, and once more.

    Args:
        student: the student.
        images: (B, C, H, W) batches.
        own: its evaluation on these images.
        at_width: its predictions by uniform width, of ``ceiling_widths`` at least.
        expected: (N,) classes.
        seed: of the permutations.
        repeats: number of permutations.
    """
    again = permuted(student, images, own, seed, repeats)
    if not student.scheme.dynamic:
        return Controls(again)
    return Controls(
        again,
        predict(student, images, static_widths(student, own.bits)),
        ceiling(student, at_width, expected, own.bit_flops_percent),
    )
