"""Random crops and flips of a whole batch at once, one draw an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from dynadfq.runtime.distributed import WHOLE, BatchPart


def random_flip(images: Tensor, rng: torch.Generator, part: BatchPart = WHOLE) -> Tensor:
    """Mirror half of the images left to right: (B, C, H, W) to the same. They may be a part of a
    larger batch.
    """
    flipped = part.of(torch.rand(len(images) * part.ranks, generator=rng)).to(images.device) < 0.5
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)


def random_shift(images: Tensor, padding: int, rng: torch.Generator) -> Tensor:
    """Shift each image by up to ``padding`` pixels a side, filling with zeros: (B, C, H, W) to the
    same.
    """
    batch, _, height, width = images.shape
    offset = torch.randint(0, 2 * padding + 1, (2, batch), generator=rng).to(images.device)
    rows = (offset[0, :, None] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (offset[1, :, None] + torch.arange(width, device=images.device))[:, None, None, :]
    padded = pad(images, (padding,) * 4)
    index = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[index, channel, rows, columns]


def random_resized_crop(
    images: Tensor, smallest: float, rng: torch.Generator, part: BatchPart = WHOLE
) -> Tensor:
    """Crop a random rectangle and enlarge it to the full size: (B, C, H, W) to the same, bilinear.

    The area is uniform in [``smallest``, 1] of the image, the aspect ratio log-uniform in [3/4,
    4/3], as torchvision's ``RandomResizedCrop``; here each image of the batch has its own rectangle
    in one differentiable sampling. Images that are a part of a larger batch get the rectangles that
    they would have in the whole.
    """
    batch = len(images)
    area, ratio, x, y = torch.rand(4, batch * part.ranks, generator=rng)[:, part.rows(batch)]
    area = smallest + (1 - smallest) * area
    aspect = torch.exp((2 * ratio - 1) * math.log(4 / 3)).sqrt()
    width = (area.sqrt() * aspect).clamp(max=1.0)
    height = (area.sqrt() / aspect).clamp(max=1.0)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width, height
    theta[:, 0, 2], theta[:, 1, 2] = (2 * x - 1) * (1 - width), (2 * y - 1) * (1 - height)
    grid = affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class OccasionalCrops:
    """Now and then, for a whole batch at once: each image's own random crop, and a random flip.

    smallest: least area of a crop, as a fraction of the image.
    share: probability that a batch is cropped; otherwise it stays as it is.
    """

    smallest: float
    share: float = 0.5

    def __call__(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """(B, C, H, W) to the same, differentiable."""
        if torch.rand((), generator=rng) >= self.share:
            return images
        return random_flip(random_resized_crop(images, self.smallest, rng), rng)
