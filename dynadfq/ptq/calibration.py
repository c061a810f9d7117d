"""Activation ranges before training: observers watch float activations of synthetic images and
answer with a range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dynadfq.quant.model import Student
from dynadfq.quant.quantize import choose_qparams, levels, quantize

CALIBRATION_BATCH = 64  # images

Range = tuple[Tensor, Tensor]
RangeOfBatch = Callable[[Tensor], Range]
Average = Callable[[Tensor], Tensor]  # (batches,) bounds, in their order, to one
EMA_DECAY = 0.9


def extremes(x: Tensor) -> Range:
    """Smallest and largest value of a batch."""
    return x.amin(), x.amax()


def median_of_extremes(x: Tensor) -> Range:
    """Median over images of each image's smallest and largest value: one odd image cannot widen
    it.
    """
    flat = x.flatten(1)
    return flat.amin(dim=1).median(), flat.amax(dim=1).median()


def quantiles(x: Tensor, share: float) -> Range:
    """The range that leaves out a share of (1 - ``share``) of the values on each side that has any
    beyond zero.
    """
    flat = x.flatten()
    beyond = max(1, round((1 - share) * flat.numel()))
    high = flat.topk(beyond).values[-1]
    low = -(-flat).topk(beyond).values[-1]
    return low.minimum(x.new_zeros(())), high


def least_squared_error(x: Tensor, bits: int, candidates: int = 40) -> Range:
    """The range of a batch, shrunk in ``candidates`` equal steps, whose grid at ``bits`` has least
    squared error.
    """
    low, high = extremes(x)
    best, best_error = (low, high), float("inf")
    for step in range(candidates):
        ratio = 1 - step / (candidates + 5)
        scale, quant_min = choose_qparams(low * ratio, high * ratio, bits)
        error = float(
            (quantize(x, scale, quant_min, levels(bits).to(x)) * scale - x).square().mean()
        )
        if error < best_error:
            best, best_error = (low * ratio, high * ratio), error
    return best


def mean_of_bounds(bounds: Tensor) -> Tensor:
    """The mean of all batches: (batches,) to a scalar."""
    return bounds.mean()


def ema_of_bounds(bounds: Tensor) -> Tensor:
    """An exponential average that starts without bias, m / (1 - 0.9ᵗ): (batches,) to a scalar."""
    average = bounds.new_zeros(())
    for bound in bounds:
        average = EMA_DECAY * average + (1 - EMA_DECAY) * bound
    return average / (1 - EMA_DECAY ** len(bounds))


def legacy_ema_of_bounds(bounds: Tensor) -> Tensor:
    """The released code's average (GDFQ, IntraQ, HAST and others), which keeps what it has
    corrected: (batches,).

    For a constant it overshoots, 3945 times after 21 batches, and is within a hundredth of it after
    153.

    >>> [round(float(legacy_ema_of_bounds(torch.ones(batches))), 2) for batches in (1, 2, 21, 200)]
    [1.0, 5.26, 3945.1, 1.0]
    """
    average = bounds.new_zeros((), dtype=torch.float64)
    for number, bound in enumerate(bounds, start=1):
        average = (EMA_DECAY * average + (1 - EMA_DECAY) * bound) / (1 - EMA_DECAY**number)
    return average.to(bounds)


AVERAGES: dict[str, Average] = {
    "mean": mean_of_bounds,
    "ema": ema_of_bounds,
    "legacy_ema": legacy_ema_of_bounds,
}


@dataclass
class Observer:
    """Watches batches and averages their ranges."""

    range_of_batch: RangeOfBatch
    average: Average = mean_of_bounds
    ranges: list[Range] = field(default_factory=list)

    def update(self, x: Tensor) -> None:
        """Watch one batch, (B, …)."""
        self.ranges.append(self.range_of_batch(x.detach()))

    def range(self) -> Range:
        """Average low and high of all batches."""
        lows, highs = zip(*self.ranges, strict=True)
        return self.average(torch.stack(lows)), self.average(torch.stack(highs))


def observer(name: str, target_bits: int, quantile: float = 0.999) -> RangeOfBatch:
    """The range rule of ``quantization.ranges.observer``."""
    rules: dict[str, RangeOfBatch] = {
        "max": extremes,
        "median_max": median_of_extremes,
        "quantile": lambda x: quantiles(x, quantile),
        "mse": lambda x: least_squared_error(x, target_bits),
    }
    if name not in rules:
        raise ValueError(f"ranges: {name!r} is none of {', '.join(rules)}")
    return rules[name]


@contextmanager
def observing(
    student: Student, rule: RangeOfBatch, average: Average = mean_of_bounds
) -> Iterator[list[Observer]]:
    """Within this block the student runs in float and every site is watched; nothing is left
    behind.
    """
    observers = [Observer(rule, average) for _ in student.sites]
    with student.unquantized():
        for site, watcher in zip(student.sites, observers, strict=True):
            site.observer = watcher
        try:
            yield observers
        finally:
            for site in student.sites:
                site.observer = None


@torch.no_grad()
def calibrate(
    student: Student,
    batches: Iterable[Tensor],
    rule: RangeOfBatch,
    average: Average = mean_of_bounds,
) -> None:
    """Set the range of every site from (B, C, H, W) batches of synthetic images."""
    device = next(student.parameters()).device
    with observing(student, rule, average) as observers:
        for images in batches:
            student(images.to(device))
    for site, watcher in zip(student.sites, observers, strict=True):
        low, high = watcher.range()
        site.low.copy_(low.clamp(max=0))
        site.high.copy_(high.clamp(min=0))
