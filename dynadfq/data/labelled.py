"""Labelled images as pixels; normalized when read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from dynadfq.data.classes import ClassOrder
from dynadfq.data.items import spread
from dynadfq.ops.preprocess import Preprocessing


@dataclass(frozen=True)
class LabelledSet:
    """Images as pixels, (N, C, H, W) uint8, with labels, (N,) int64.

    The pixels may be mapped from a file, and be more than memory holds: read them batch by batch.

    preprocessing: what made the pixels, and what normalizes them.
    classes: how the data set's classes became the network's, where they are not its own by
    definition.
    """

    preprocessing: Preprocessing
    pixels: Tensor
    labels: Tensor
    classes: ClassOrder | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one image: C, H, W."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels, (B, C, H, W) uint8, to what the network reads."""
        return self.preprocessing.normalize(pixels)

    def spread(self, count: int | None) -> LabelledSet:
        """``count`` images, evenly spread over the set; all of them when None or when there are no
        more.
        """
        if count is None or count >= len(self):
            return self
        chosen = spread(len(self), count)
        return replace(self, pixels=self.pixels[chosen], labels=self.labels[chosen])

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) in order: normalized (B, C, H, W) float32 and (B,) int64."""
        for pixels, labels in zip(
            self.pixels.split(batch_size), self.labels.split(batch_size), strict=True
        ):
            yield self.normalize(pixels), labels
