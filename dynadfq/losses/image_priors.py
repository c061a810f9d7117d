"""Priors of natural images that need no network: smoothness, small norm, invariance to shifts and
mirroring, a range of values.

Of DeepInversion (Yin et al., CVPR 2020, arXiv 1912.08795); any method may add them to its
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
    """Mean absolute difference of neighbouring pixels, sum over the four directions: (B, C, H, W)
    to a scalar.

    >>> images = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])  # 1 across, 0 down, 1 per diagonal
    >>> total_variation_l1(images).item()
    3.0
    """
    return torch.stack([difference.abs().mean() for difference in _differences(images)]).sum()


def total_variation_l2(images: Tensor) -> Tensor:
    """Euclidean norm of the differences of neighbouring pixels, sum over the four directions.

    A norm of the whole batch, as in the released code: it grows with the root of the number of
    images.
    """
    return torch.stack([vector_norm(difference) for difference in _differences(images)]).sum()


def _differences(images: Tensor) -> tuple[Tensor, ...]:
    """Between neighbours in a row, in a column, and on the two diagonals."""
    return (
        images[..., :-1] - images[..., 1:],
        images[..., :-1, :] - images[..., 1:, :],
        images[..., :-1, :-1] - images[..., 1:, 1:],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )


def image_norm(images: Tensor) -> Tensor:
    """Euclidean norm of an image, mean over the batch: (B, C, H, W) to a scalar."""
    norms: Tensor = vector_norm(images.flatten(1), dim=1)
    return norms.mean()


def image_prior_term(weight: float) -> Term[SynthesisStep]:
    """Total variation and image norm with one weight, as DSG's released code adds them."""
    return Term(
        "image_prior",
        weight,
        lambda step: total_variation_l2(step.images) + image_norm(step.images),
    )


@dataclass(frozen=True)
class Jitter:
    """The whole batch rolled by one random offset, and mirrored or not; what leaves at one edge
    enters at the other.

    pixels: largest offset, down and across.
    flip: whether the batch is mirrored left to right in half of the calls.
    """

    pixels: int
    flip: bool

    def __call__(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """(B, C, H, W) to the same."""
        down, across = torch.randint(-self.pixels, self.pixels + 1, (2,), generator=rng).tolist()
        rolled = images.roll((down, across), dims=(2, 3))
        mirrored = self.flip and bool(torch.rand((), generator=rng) < 0.5)
        return rolled.flip(3) if mirrored else rolled


def clipping(teacher: Teacher) -> Callable[[Tensor], Tensor]:
    """Bring normalized pixels back to what a pixel in 0 … 1 can be, a range for each channel: (B,
    C, H, W) to the same.

    The range is known from the mean and standard deviation with which the teacher's images are
    normalized.
    """
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (teacher.mean, teacher.std))
    low, high = -mean / std, (1 - mean) / std

    def clip(images: Tensor) -> Tensor:
        return images.clamp(low.to(images), high.to(images))

    return clip
