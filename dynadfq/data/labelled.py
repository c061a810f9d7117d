"""A labelled data set in memory, as pixels; normalised when read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dynadfq.data.sets import CARDS, DataCard


@dataclass(frozen=True)
class LabelledSet:
    """Images as pixels, (N, C, H, W) uint8, with labels, (N,) int64."""

    card: DataCard
    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one image: C, H, W."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels, (B, C, H, W) uint8, to what the network reads: zero mean and unit deviation over the data set."""
        mean = torch.tensor(self.card.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.card.std, device=pixels.device).view(-1, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def spread(self, count: int | None) -> LabelledSet:
        """``count`` images, evenly spread over the set; all of them when None or when there are no more."""
        if count is None or count >= len(self):
            return self
        chosen = torch.arange(count) * len(self) // count
        return LabelledSet(self.card, self.pixels[chosen], self.labels[chosen])

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) in order: normalised (B, C, H, W) float32 and (B,) int64."""
        for pixels, labels in zip(self.pixels.split(batch_size), self.labels.split(batch_size), strict=True):
            yield self.normalise(pixels), labels


def load(name: str, root: str | Path = "data", train: bool = False, image_size: int | None = None) -> LabelledSet:
    """Open a data set by name, from disk or by download; ``image_size`` pixels a side, or its own size when None.

    Raises:
        KeyError: the name is unknown.
        FileNotFoundError: the files are missing and cannot be downloaded; the message says where to put them.
    """
    card = CARDS[name]
    pixels, labels = card.read(Path(root), train)
    if image_size is not None and image_size != card.size:
        resized = interpolate(
            pixels.float(), size=(image_size, image_size), mode="bilinear", antialias=image_size < card.size
        )
        pixels = resized.round().clamp(0, 255).to(torch.uint8)
    return LabelledSet(card, pixels, labels)
