"""Calibration: observers watch float activations of synthetic images and give each site a range."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dynadfq.quant.layers import WIDEST_ACTIVATION
from dynadfq.quant.model import Student
from dynadfq.quant.quantize import SMALLEST_RANGE, choose_qparams, levels, quantize
from dynadfq.quant.range_config import RangeAverage, RangeRule

CALIBRATION_BATCH = 64  # images
EMA_DECAY = 0.9
BINS = 2048  # of a histogram of activations
HISTOGRAM_PART = 2**22  # values that are counted at a time; their bins take 8 bytes each
SHARES = 0.97 ** torch.arange(100.0)  # ranges tried there, relative to the extremes

Range = tuple[Tensor, Tensor]  # (low, high)
RangeOfBatch = Callable[[Tensor, int], Range]  # of (B, …) activations at a width in bits
Average = Callable[[Tensor], Tensor]  # (batches, …) bounds in their order, to their average


def extremes(x: Tensor, bits: int = WIDEST_ACTIVATION) -> Range:
    """Return the smallest and the largest value of a batch, at any width."""
    return x.amin(), x.amax()


def median_of_extremes(x: Tensor, bits: int = WIDEST_ACTIVATION) -> Range:
    """Return the median over images of each image's smallest and largest value, at any width.

    A single outlying image does not widen it.
    """
    flat = x.flatten(1)
    return flat.amin(dim=1).median(), flat.amax(dim=1).median()


def quantiles(x: Tensor, share: float) -> Range:
    """Return the range that leaves out a share of (1 - ``share``) of the values on each side.

    It contains 0.
    """
    zero = x.new_zeros(())
    flat = x.flatten()
    beyond = max(1, round((1 - share) * flat.numel()))
    high = flat.topk(beyond).values[-1]
    low = -(-flat).topk(beyond).values[-1]
    return low.minimum(zero), high.maximum(zero)


def least_squared_error(x: Tensor, bits: int) -> Range:
    """Return the range with the least squared error at a width, among 100 shares of the full range.

    The full range is that of the batch, with 0. Errors are estimated from a histogram.
    """
    low, high = _extremes_and_zero(x)
    share = _best_shares(x, [bits])[0]
    return low * share, high * share


def relative_ranges(x: Tensor, bits: int, widths: Sequence[int]) -> Tensor:
    """Return the range of least squared error at each width, divided by that at ``bits``.

    The fewer the bits, the more of the largest values are clipped.

    >>> x = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).relu()
    >>> [round(ratio, 2) for ratio in relative_ranges(x, 4, [3, 4, 5]).tolist()]
    [0.86, 1.0, 1.2]

    Args:
        x: (B, …) activations.
        bits: the width that the others are compared with.
        widths: M widths in bits.

    Returns:
        (M,), of the range's size.
    """
    shares = _best_shares(x, [bits, *widths])
    return shares[1:] / shares[0]


def _extremes_and_zero(x: Tensor) -> Range:
    low, high = extremes(x.float())
    return low.clamp(max=0), high.clamp(min=0)


def _best_shares(x: Tensor, widths: Sequence[int]) -> Tensor:
    """Return the range of least squared error at M widths, as shares of the full range: (M,)."""
    low, high = _extremes_and_zero(x)
    step = ((high - low) / BINS).clamp(min=SMALLEST_RANGE)
    counts = torch.zeros(BINS, dtype=torch.int64, device=x.device)
    for part in x.flatten().split(HISTOGRAM_PART):
        bins = ((part.float() - low) / step).long().clamp_(0, BINS - 1)
        counts += torch.bincount(bins, minlength=BINS)
    values = low + step * (torch.arange(BINS, device=x.device) + 0.5)
    shares = SHARES.to(x.device)[:, None]

    def best(bits: int) -> Tensor:
        scale, quant_min = choose_qparams(low * shares, high * shares, bits)
        error = quantize(values, scale, quant_min, levels(bits).to(values)) * scale - values
        return shares[(error.square() * counts).sum(dim=1).argmin()]

    return torch.cat([best(width) for width in widths])


def ranges_of_batch(rule: RangeOfBatch, x: Tensor, bits: int, widths: Sequence[int]) -> Range:
    """Return the range of a batch at its target width, or at each of several.

    Narrower widths have the target's range, shrunk as the ranges of least squared error are. Wider
    ones have what the rule gives them; all rules but `least_squared_error` ignore the width.

    Args:
        rule: range at one width.
        x: (B, …) activations.
        bits: target width.
        widths: M widths that have a range of their own; empty where they share one.

    Returns:
        Bounds, (M,), or () where widths share a range.
    """
    low, high = rule(x, bits)
    if not widths:
        return low, high
    narrow = [width for width in widths if width < bits]
    ratios = relative_ranges(x, bits, narrow) if narrow else x.new_ones(0)
    lows, highs = [*(low * ratios)], [*(high * ratios)]
    for width in widths[len(narrow) :]:
        bounds = (low, high) if width == bits else rule(x, width)
        lows.append(bounds[0])
        highs.append(bounds[1])
    return torch.stack(lows), torch.stack(highs)


def mean_of_bounds(bounds: Tensor) -> Tensor:
    """Return the mean of (batches, …) bounds."""
    return bounds.mean(dim=0)


def ema_of_bounds(bounds: Tensor) -> Tensor:
    """Return an exponential average of (batches, …) bounds without bias, m / (1 - 0.9ᵗ)."""
    average = bounds.new_zeros(())
    for bound in bounds:
        average = EMA_DECAY * average + (1 - EMA_DECAY) * bound
    return average / (1 - EMA_DECAY ** len(bounds))


def legacy_ema_of_bounds(bounds: Tensor) -> Tensor:
    """Return the average of released code (GDFQ, IntraQ, HAST and others) of (batches, …) bounds.

    It keeps what it has corrected: for a constant it overshoots, 3945 times after 21 batches, and
    is within a hundredth of it after 153.

    >>> [round(float(legacy_ema_of_bounds(torch.ones(batches))), 2) for batches in (1, 2, 21, 200)]
    [1.0, 5.26, 3945.1, 1.0]
    """
    average = bounds.new_zeros((), dtype=torch.float64)
    for number, bound in enumerate(bounds.double(), start=1):
        average = (EMA_DECAY * average + (1 - EMA_DECAY) * bound) / (1 - EMA_DECAY**number)
    return average.to(bounds)


AVERAGES: dict[RangeAverage, Average] = {
    "mean": mean_of_bounds,
    "ema": ema_of_bounds,
    "legacy_ema": legacy_ema_of_bounds,
}


@dataclass
class Observer:
    """Collects the ranges of batches and averages them.

    rule: range of a batch at one width.
    average: of the bounds of all batches.
    bits: target width.
    widths: those that have a range of their own; empty where they share one.
    """

    rule: RangeOfBatch
    average: Average = mean_of_bounds
    bits: int = WIDEST_ACTIVATION
    widths: Sequence[int] = ()
    ranges: list[Range] = field(default_factory=list)

    def update(self, x: Tensor) -> None:
        """Observe one batch, (B, …)."""
        self.ranges.append(ranges_of_batch(self.rule, x.detach(), self.bits, self.widths))

    def range(self) -> Range:
        """Return the average low and high of all batches."""
        lows, highs = zip(*self.ranges, strict=True)
        return self.average(torch.stack(lows)), self.average(torch.stack(highs))


def observer(name: RangeRule, quantile: float) -> RangeOfBatch:
    """Return the range rule of that name.

    Args:
        name: "max", "median_max", "quantile" or "mse".
        quantile: share of the values within the range, for "quantile".
    """
    rules: dict[RangeRule, RangeOfBatch] = {
        "max": extremes,
        "median_max": median_of_extremes,
        "quantile": lambda x, bits: quantiles(x, quantile),
        "mse": least_squared_error,
    }
    return rules[name]


@contextmanager
def attached(student: Student, observers: Sequence[Any]) -> Iterator[None]:
    """Attach an observer to each site for the time of this block."""
    for site, watcher in zip(student.sites, observers, strict=True):
        site.observer = watcher
    try:
        yield
    finally:
        for site in student.sites:
            site.observer = None


@contextmanager
def observing(
    student: Student, rule: RangeOfBatch, average: Average = mean_of_bounds
) -> Iterator[list[Observer]]:
    """Run the student in float within this block, and observe every site at its widths."""
    widths = student.scheme.range_widths
    observers = [Observer(rule, average, bits, widths) for bits in student.target_widths]
    with student.unquantized(), attached(student, observers):
        yield observers


@torch.no_grad()
def calibrate(
    student: Student,
    batches: Iterable[Tensor],
    rule: RangeOfBatch,
    average: Average = mean_of_bounds,
) -> None:
    """Set the range of every site.

    Args:
        student: its ranges are set in place.
        batches: (B, C, H, W) synthetic images.
        rule: range of one batch.
        average: average of the bounds of all batches.
    """
    with observing(student, rule, average) as observers:
        for images in batches:
            student(images.to(student.device))
    for site, watcher in zip(student.sites, observers, strict=True):
        site.set_range(*watcher.range())
