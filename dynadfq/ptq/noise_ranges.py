"""Activation ranges as multiples of a deviation, measured on noise: SQuant (Guo et al., ICLR 2022,
arXiv 2202.07471).

They are set from the first site to the last, each behind sites that are quantized already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from dynadfq.ptq.calibration import Range
from dynadfq.quant.bits import uniform
from dynadfq.quant.layers import ActivationFakeQuantize
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

NOISE_IMAGES = 256
NOISE_SIGMAS = {4: 12.0, 6: 14.0, 8: 25.0}  # width in bits to deviations: SQuant's released code
OBSERVED_BELOW = 6  # bits; narrower ranges end at the largest value seen
SIGNED_SHARE = 1.25


def noise_sigmas(bits: int) -> float:
    """Half-width of a range in deviations: SQuant's for 4, 6 and 8 bits, between them linear, below
    as for 4.

    >>> [noise_sigmas(bits) for bits in (2, 4, 5, 6, 7, 8)]
    [12.0, 12.0, 13.0, 14.0, 19.5, 25.0]
    """
    known = sorted(NOISE_SIGMAS)
    below = max((width for width in known if width <= bits), default=known[0])
    above = min((width for width in known if width >= bits), default=known[-1])
    share = (bits - below) / (above - below) if above > below else 0.0
    return NOISE_SIGMAS[below] + share * (NOISE_SIGMAS[above] - NOISE_SIGMAS[below])


def noise_range(x: Tensor, bits: int) -> Range:
    """[0, kσ] with the deviation of the positive values, or [-kσ, kσ] with that of all divided by
    1.25.

    The second where x has negative values; below 6 bits neither ends beyond the largest absolute
    value.
    """
    signed = bool(x.amin() < 0)
    values = x.flatten() if signed else x[x > 0]
    if not values.numel():
        return x.new_zeros(()), x.new_zeros(())
    deviation = values.std(correction=0) / (SIGNED_SHARE if signed else 1.0)
    high = noise_sigmas(bits) * deviation
    if bits < OBSERVED_BELOW:
        high = high.minimum(x.abs().amax())
    return (-high if signed else torch.zeros_like(high)), high


@dataclass
class _SetAtSight:
    """Sets a site's range from the batch that it is about to quantize."""

    site: ActivationFakeQuantize
    rule: Callable[[Tensor], Range]

    def update(self, x: Tensor) -> None:
        low, high = self.rule(x.detach())
        self.site.low.copy_(low)
        self.site.high.copy_(high)


@contextmanager
def setting_at_sight(student: Student, rule: Callable[[Tensor], Range]) -> Iterator[None]:
    """Within this block a forward pass sets every range, behind sites and layers that are quantized
    already.
    """
    for site in student.sites:
        site.observer = _SetAtSight(site, rule)
    try:
        yield
    finally:
        for site in student.sites:
            site.observer = None


@torch.no_grad()
def noise_sigma_ranges(student: Student, teacher: Teacher, images: SyntheticSet, seed: int) -> None:
    """Ranges from one pass of up to 256 images through the quantized student, as SQuant's released
    code does on noise.

    Each site is at the student's target width.
    """
    bits, device = student.scheme.target_bits, next(student.parameters()).device
    batch = next(images.batches(NOISE_IMAGES, NOISE_IMAGES)).images.to(device)
    student.eval()
    with setting_at_sight(student, lambda x: noise_range(x, bits)):
        student.run(batch, uniform(bits, len(student.sites)))
