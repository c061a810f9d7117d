"""Activation ranges without real images: from BatchNorm statistics, or from noise.

``bn_sigma_ranges`` (DFQ, arXiv 1906.04721, Sec. 5): a channel after a BatchNorm lies within β ±
n|γ|, with n = 6 nearly always; a site's range is the union over its channels, after its activation.
After additions, means and variances of the branches are added; dynadfq/graph/propagate.py says how
other tensors are followed. BatchNorms may be in place or folded into the layers before them.

``noise_sigma_ranges`` (SQuant, Guo et al., ICLR 2022, arXiv 2202.07471, released code): multiples
of the standard deviation of activations of noise, from the first site to the last, each after sites
that are quantized already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from dynadfq.graph.gaussian import Gaussian
from dynadfq.graph.normalize import normalize
from dynadfq.graph.propagate import propagate
from dynadfq.ptq.calibration import Range, RangeOfBatch, attached, ranges_of_batch
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import FoldedTeacher

SIGMAS = 6.0  # standard deviations on each side of a BatchNorm's mean
NOISE_IMAGES = 256
NOISE_SIGMAS = {4: 12.0, 6: 14.0, 8: 25.0}  # bits to standard deviations
OBSERVED_BELOW = 6  # bits; narrower ranges end at the largest value observed
SIGNED_SHARE = 1.25


@torch.no_grad()
def bn_sigma_ranges(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet | None = None,
    seed: int = 0,
    scratch: Scratch | None = None,
    sigmas: float = SIGMAS,
) -> None:
    """Set all ranges from BatchNorm statistics.

    Args:
        student: its ranges are set in place.
        teacher: the network that was quantized.
        images, seed, scratch: not used.
        sigmas: n, standard deviations around the mean that a channel's range covers.

    Raises:
        ValueError: no BatchNorm is upstream of a site.
    """
    bounds = _propagated_bounds(student, teacher, sigmas)
    for name, site, (low, high) in zip(student.site_names, student.sites, bounds, strict=True):
        if site.fixed:
            continue
        if not (low + high).isfinite():
            raise ValueError(
                f"{name}: no BatchNorm statistics reach this site, so its range is "
                "unknown; observe it on images: set dfq's ranges to images, or squant's "
                "range_rule to noise_sigma"
            )
        site.set_range(low, high)


def statistics_reach_all(student: Student, teacher: Teacher) -> bool:
    """Return whether ``bn_sigma_ranges`` knows the range of every site."""
    bounds = _propagated_bounds(student, teacher, SIGMAS)
    return all(
        bool((low + high).isfinite()) or site.fixed
        for site, (low, high) in zip(student.sites, bounds, strict=True)
    )


def _propagated_bounds(student: Student, teacher: Teacher, sigmas: float) -> list[Range]:
    """Return the bounds of each site; not finite where no BatchNorm is upstream."""
    network = quantized_network(student, teacher)
    found = propagate(network, teacher.input_shape, layer_gaussians(teacher), sigmas)
    outputs = [found[site.node] for site in student.cost.trace.sites(student.scheme.sites)]
    return [(output.low.min(), output.high.max()) for output in outputs]


def quantized_network(student: Student, teacher: Teacher) -> fx.GraphModule:
    """Return the normalized float network of a student, with the node names of its trace.

    Raises:
        ValueError: the teacher is not what was quantized: one of the two is folded.
    """
    folded = isinstance(teacher, FoldedTeacher)
    if student.scheme.folded != folded:
        states = {True: "folded", False: "not folded"}
        raise InvalidArgument(
            "teacher",
            f"the student's network is {states[student.scheme.folded]} and the teacher's "
            f"is {states[folded]}; pass the network that was quantized",
        )
    return normalize(teacher.module, teacher.example)


def layer_gaussians(teacher: Teacher) -> Mapping[str, Gaussian]:
    """Return the output distributions of layers into which BatchNorms were folded, by name."""
    return teacher.folded.gaussians if isinstance(teacher, FoldedTeacher) else {}


def noise_sigmas(bits: int) -> float:
    """Return half a range in standard deviations: SQuant's for 4, 6 and 8 bits, else interpolated.

    >>> [noise_sigmas(bits) for bits in (2, 4, 5, 6, 7, 8)]
    [12.0, 12.0, 13.0, 14.0, 19.5, 25.0]
    """
    return float(np.interp(bits, list(NOISE_SIGMAS), list(NOISE_SIGMAS.values())))


def noise_range(x: Tensor, bits: int) -> Range:
    """Return [0, kσ] with σ of the positive values, or [-kσ, kσ] with σ of all, divided by 1.25.

    The second is for x with negative values. Below 6 bits both end at the largest value if that is
    less, and where none is positive, at the largest absolute one.
    """
    signed = bool(x.amin() < 0)
    values = x.flatten() if signed else x[x > 0]
    if not values.numel():
        return x.new_zeros(()), x.new_zeros(())
    deviation = values.std(correction=0) / (SIGNED_SHARE if signed else 1.0)
    high = noise_sigmas(bits) * deviation
    if bits < OBSERVED_BELOW:
        largest = x.amax()
        high = high.minimum(torch.where(largest > 0, largest, x.abs().amax()))
    return (-high if signed else torch.zeros_like(high)), high


@dataclass
class _RangeSetter:
    """Sets a site's range from the batch that it is about to quantize."""

    site: ActivationFakeQuantize
    rule: RangeOfBatch
    bits: int

    def update(self, x: Tensor) -> None:
        widths = self.site.range_widths
        self.site.set_range(*ranges_of_batch(self.rule, x.detach(), self.bits, widths))


@contextmanager
def setting_ranges(student: Student, rule: RangeOfBatch) -> Iterator[None]:
    """Set each range in the forward passes of this block, just before the site quantizes.

    The rule receives the target width; ``ranges_of_batch`` gives the ranges of others.
    """
    sites = zip(student.sites, student.target_widths, strict=True)
    with attached(student, [_RangeSetter(site, rule, bits) for site, bits in sites]):
        yield


@torch.no_grad()
def noise_sigma_ranges(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    seed: int = 0,
    scratch: Scratch | None = None,
) -> None:
    """Set ranges in one pass of up to 256 images through the quantized student at target width."""
    if not student.sites:
        return
    batch = next(images.batches(NOISE_IMAGES, NOISE_IMAGES)).images.to(student.device)
    student.eval()
    with setting_ranges(student, noise_range):
        student.run(batch, student.at_target)
