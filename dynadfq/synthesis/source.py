"""The interface between the loop over shards and what makes their images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import Batch


class Shard(NamedTuple):
    """Images made together."""

    images: Tensor  # (B, C, H, W), normalized
    soft_labels: Tensor  # (B, classes), rows sum to 1
    logits: Tensor  # (B, classes), the teacher's
    losses: dict[str, float]
    of_labels: bool  # whether the images were made for their labels
    iterations: int | None = None  # steps of the optimization; None without one of these images


class ImageSource(Protocol):
    """Makes images, one shard at a time.

    preparation_steps: steps of the progress bar before the first shard.
    steps: steps of the progress bar per shard.
    sequential: whether a shard depends on those before it.
    """

    preparation_steps: int
    steps: int
    sequential: bool

    def prepare(self, seed: int, scratch: Scratch, progress: Progress) -> Mapping[str, bytes]:
        """Do what comes before the first shard; return files that belong to the set, by name."""

    def make(self, count: int, rng: torch.Generator, progress: Progress) -> Shard:
        """Make ``count`` images; ``rng`` is the shard's own stream."""

    def remember(self, batch: Batch) -> None:
        """Take note of a finished shard; called in order, before the next one is made."""


def as_numbers(total: Tensor, values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return a loss and its terms as numbers, by name."""
    terms = {name: float(value.detach()) for name, value in values.items()}
    return {"total": float(total.detach()), **terms}
