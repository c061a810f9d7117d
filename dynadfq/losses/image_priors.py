"""Priors of natural images: smoothness, small norm, invariance to shifts, range of pixels.

From DeepInversion (Yin et al., CVPR 2020, arXiv 1912.08795); any method may add them to its
objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from dynadfq.losses.objective import SynthesisStep, Term
from dynadfq.teacher.teacher import Teacher


def total_variation_l1(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels, summed over four directions.

    >>> images = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])  # 1 across, 0 down, 1 per diagonal
    >>> total_variation_l1(images).item()
    3.0
    """
    return torch.stack([difference.abs().mean() for difference in _differences(images)]).sum()


def total_variation_l2(images: Tensor) -> Tensor:
    """Return the Euclidean norm of differences of neighbouring pixels, summed over four directions.

    It is a norm of the whole batch, as in the released code, and grows with the root of the number
    of images.
    """
    return torch.stack([vector_norm(difference) for difference in _differences(images)]).sum()


def _differences(images: Tensor) -> tuple[Tensor, ...]:
    """Differences of neighbours in a row, in a column, and on the two diagonals."""
    return (
        images[..., :-1] - images[..., 1:],
        images[..., :-1, :] - images[..., 1:, :],
        images[..., :-1, :-1] - images[..., 1:, 1:],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )


def image_norm(images: Tensor) -> Tensor:
    """Return the mean over the batch of an image's Euclidean norm."""
    norms: Tensor = vector_norm(images.flatten(1), dim=1)
    return norms.mean()


def image_prior_term(weight: float) -> Term[SynthesisStep]:
    """Return total variation plus image norm with one weight, as in DSG's released code."""
    return Term(
        "image_prior",
        weight,
        lambda step: total_variation_l2(step.images) + image_norm(step.images),
    )


@dataclass(frozen=True)
class Jitter:
    """Rolls the whole batch by a random offset, and mirrors it at random.

    pixels: largest offset, down and across.
    flip: whether the batch is mirrored left to right in half of the calls.
    """

    pixels: int
    flip: bool

    def __call__(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Return the moved images, (B, C, H, W)."""
        down, across = torch.randint(-self.pixels, self.pixels + 1, (2,), generator=rng).tolist()
        rolled = images.roll((down, across), dims=(2, 3))
        mirrored = self.flip and bool(torch.rand((), generator=rng) < 0.5)
        return rolled.flip(3) if mirrored else rolled


def clipping(teacher: Teacher) -> Callable[[Tensor], Tensor]:
    """Return a function that clips normalized images, (B, C, H, W), to pixels in 0 … 1.

    The range of each channel follows from the mean and standard deviation with which the teacher's
    images are normalized.
    """
    mean = torch.tensor(teacher.mean).view(-1, 1, 1)
    std = torch.tensor(teacher.std).view(-1, 1, 1)
    low = -mean / std
    high = (1 - mean) / std

    def clip(images: Tensor) -> Tensor:
        return images.clamp(low.to(images), high.to(images))

    return clip
