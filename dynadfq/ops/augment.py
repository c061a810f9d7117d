"""Random crops and flips of a batch, drawn for each image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from dynadfq.runtime.distributed import WHOLE, BatchPart


def random_flip(images: Tensor, rng: torch.Generator, part: BatchPart = WHOLE) -> Tensor:
    """Flip each image left to right with probability 1/2: (B, C, H, W) to the same shape.

    Args:
        images: the batch, or the rows of it that this rank holds.
        rng: random numbers; every rank draws those of the whole batch.
        part: which rows of the batch ``images`` are.
    """
    flipped = part.of(torch.rand(len(images) * part.ranks, generator=rng)).to(images.device) < 0.5
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)


def random_shift(images: Tensor, padding: int, rng: torch.Generator) -> Tensor:
    """Shift each image by up to ``padding`` pixels in each direction: (B, C, H, W)."""
    batch, channels, height, width = images.shape
    device = images.device
    offset = torch.randint(0, 2 * padding + 1, (2, batch), generator=rng).to(device)
    rows = offset[0, :, None] + torch.arange(height, device=device)
    columns = offset[1, :, None] + torch.arange(width, device=device)
    index = torch.arange(batch, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    padded = pad(images, (padding,) * 4)
    return padded[index, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_resized_crop(
    images: Tensor, smallest: float, rng: torch.Generator, part: BatchPart = WHOLE
) -> Tensor:
    """Crop a random rectangle of each image and scale it to full size, bilinear and differentiable.

    Area and aspect ratio are distributed as in torchvision's ``RandomResizedCrop``: the area is
    uniform in [``smallest``, 1] of the image, the aspect ratio log-uniform in [3/4, 4/3].

    Args:
        images: the batch (B, C, H, W), or the rows of it that this rank holds.
        smallest: least area of a crop as a fraction of the image.
        rng: random numbers; every rank draws those of the whole batch.
        part: which rows of the batch ``images`` are.

    Returns:
        (B, C, H, W) images.
    """
    batch = len(images)
    area, ratio, x, y = torch.rand(4, batch * part.ranks, generator=rng)[:, part.rows(batch)]
    area = smallest + (1 - smallest) * area
    aspect = torch.exp((2 * ratio - 1) * math.log(4 / 3)).sqrt()
    width = (area.sqrt() * aspect).clamp(max=1.0)
    height = (area.sqrt() / aspect).clamp(max=1.0)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = width
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (2 * x - 1) * (1 - width)
    theta[:, 1, 2] = (2 * y - 1) * (1 - height)
    grid = affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class OccasionalCrops:
    """Crop and flip all images of a batch at random, or leave the batch as it is."""

    smallest: float  # least area of a crop as a fraction of the image
    share: float = 0.5  # probability that a batch is changed

    def __call__(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Return (B, C, H, W) images, differentiable."""
        if torch.rand((), generator=rng) >= self.share:
            return images
        return random_flip(random_resized_crop(images, self.smallest, rng), rng)
