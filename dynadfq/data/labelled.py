"""Labelled images as pixels, normalized when they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dynadfq.data.classes import ClassOrder
from dynadfq.ops.preprocess import Preprocessing


@dataclass(frozen=True)
class LabelledSet:
    """Labelled images of one size."""

    preprocessing: Preprocessing  # what made the pixels, and what normalizes them
    # (N, C, H, W) uint8. They may be mapped from a file and exceed the memory: read them batch by
    # batch.
    pixels: Tensor
    labels: Tensor  # (N,) int64
    # How the data set's classes were matched with the network's; None if they were not.
    classes: ClassOrder | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return what the network reads: (B, C, H, W) uint8 to float32."""
        return self.preprocessing.normalize(pixels)

    def images(self, indices: Tensor) -> Tensor:
        """Return some images: (B,) indices to (B, C, H, W) float32, normalized."""
        return self.normalize(self.pixels[indices])

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) in order: normalized (B, C, H, W) float32 and (B,) int64."""
        pixels = self.pixels.split(batch_size)
        labels = self.labels.split(batch_size)
        for some_pixels, some_labels in zip(pixels, labels, strict=True):
            yield self.normalize(some_pixels), some_labels


def evenly_spaced(total: int, count: int | None) -> Tensor:
    """Return ``count`` of ``total`` indices, evenly spaced; all if None or if there are fewer.

    >>> evenly_spaced(10, 4).tolist(), evenly_spaced(2, 4).tolist()
    ([0, 2, 5, 7], [0, 1])
    """
    if count is None or count >= total:
        return torch.arange(total)
    return torch.arange(count) * total // count


def drawn(labels: Tensor, class_balanced: bool, rng: torch.Generator) -> Tensor:
    """Return the (N,) indices of all images in the order in which they are taken.

    With ``class_balanced`` the classes take turns.

    >>> import torch
    >>> labels = torch.tensor([0, 0, 0, 1])
    >>> labels[drawn(labels, True, torch.Generator())[:2]].sort().values
    tensor([0, 1])
    """
    order = torch.randperm(len(labels), generator=rng)
    if not class_balanced:
        return order
    shuffled = labels[order]
    turn = torch.empty_like(order)  # how many images of its class come before
    for label in shuffled.unique():
        own = shuffled == label
        turn[own] = torch.arange(int(own.sum()))
    return order[turn.argsort(stable=True)]
