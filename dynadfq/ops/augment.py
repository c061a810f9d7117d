"""Random crops and flips of a batch, drawn for each image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from dynadfq.runtime.distributed import WHOLE, BatchPart

# torchvision's RandomResizedCrop.
ATTEMPTS = 10
WIDEST = 4 / 3  # aspect ratio; its inverse is the narrowest


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


class Rectangles(NamedTuple):
    """A rectangle of each image, (B,) whole numbers of pixels each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def random_rectangles(
    count: int, height: int, width: int, smallest: float, rng: torch.Generator
) -> Rectangles:
    """Return random rectangles, as torchvision's ``RandomResizedCrop.get_params`` draws them.

    The area is uniform in [``smallest``, 1] of the image and the aspect ratio log-uniform in [3/4,
    4/3]; a rectangle that does not fit is drawn again. After ten attempts it is the largest one at
    the centre whose ratio is permitted.

    Args:
        count: number of rectangles.
        height: pixels of the image.
        width: pixels of the image.
        smallest: least area as a fraction of the image.
        rng: random numbers.
    """
    area, ratio = torch.rand(2, ATTEMPTS, count, generator=rng)
    area = (smallest + (1 - smallest) * area) * height * width
    aspect = torch.exp((2 * ratio - 1) * math.log(WIDEST))
    columns = (area * aspect).sqrt().round()
    rows = (area / aspect).sqrt().round()
    fits = (columns >= 1) & (columns <= width) & (rows >= 1) & (rows <= height)
    first = fits.int().argmax(dim=0, keepdim=True)
    found = fits.any(dim=0)
    columns = torch.where(found, columns.gather(0, first)[0], min(width, round(height * WIDEST)))
    rows = torch.where(found, rows.gather(0, first)[0], min(height, round(width * WIDEST)))
    down, across = torch.rand(2, count, generator=rng)
    top = _start(height - rows, down, found)
    left = _start(width - columns, across, found)
    return Rectangles(top, left, rows, columns)


def _start(room: Tensor, share: Tensor, found: Tensor) -> Tensor:
    """A random place among 0 … room, or the middle one of a rectangle that was not drawn."""
    drawn = torch.minimum((share * (room + 1)).floor(), room)
    return torch.where(found, drawn, (room / 2).floor())


def resized(images: Tensor, rectangles: Rectangles) -> Tensor:
    """Scale a rectangle of each image to full size, bilinear and differentiable.

    As torchvision's ``resized_crop`` without antialiasing: no pixel outside the rectangle counts.
    (B, C, H, W) to the same shape.
    """
    height, width = images.shape[2:]
    y = _source_pixels(height, rectangles.top, rectangles.height)
    x = _source_pixels(width, rectangles.left, rectangles.width)
    rows = ((2 * y + 1) / height - 1)[:, :, None].expand(-1, -1, width)
    columns = ((2 * x + 1) / width - 1)[:, None, :].expand(-1, height, -1)
    grid = torch.stack([columns, rows], dim=3).to(images)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _source_pixels(side: int, start: Tensor, length: Tensor) -> Tensor:
    """Where the pixels of a side lie in the image, (B, side), not beyond the rectangle's ends."""
    places = (torch.arange(side) + 0.5) * length[:, None] / side - 0.5
    return start[:, None] + torch.minimum(places.clamp(min=0), length[:, None] - 1)


def random_resized_crop(
    images: Tensor, smallest: float, rng: torch.Generator, part: BatchPart = WHOLE
) -> Tensor:
    """Crop a random rectangle of each image and scale it to full size, bilinear and differentiable.

    Args:
        images: the batch (B, C, H, W), or the rows of it that this rank holds.
        smallest: least area of a crop as a fraction of the image.
        rng: random numbers; every rank draws those of the whole batch.
        part: which rows of the batch ``images`` are.

    Returns:
        (B, C, H, W) images.
    """
    height, width = images.shape[2:]
    whole = random_rectangles(len(images) * part.ranks, height, width, smallest, rng)
    return resized(images, Rectangles(*(part.of(values) for values in whole)))


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
