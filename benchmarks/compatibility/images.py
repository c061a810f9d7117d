"""Noise in place of synthetic images: what a student is fine-tuned on here, also where nothing can
be synthesized.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import Batch, SyntheticSet
from dynadfq.synthesis.source import Shard
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.teacher import Teacher


class Noise:
    """Images of N(0, 1), labelled by the teacher."""

    preparation_steps, steps, sequential = 0, 0, False

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def prepare(self, seed: int, scratch: Scratch, progress: Progress) -> Mapping[str, bytes]:
        """Do nothing: noise needs no preparation."""
        return {}

    def remember(self, batch: Batch) -> None:
        """Do nothing: images do not depend on each other."""

    @torch.no_grad()
    def make(self, count: int, rng: torch.Generator, progress: Progress) -> Shard:
        """Draw ``count`` images."""
        images = torch.randn(count, *self.teacher.input_shape, generator=rng)
        logits = self.teacher(images)
        return Shard(images, logits.softmax(dim=1), logits, {"total": 0.0}, of_labels=False)


def noise(teacher: Teacher, count: int, folder: Path) -> SyntheticSet:
    """Return a set of ``count`` images in one shard."""
    return synthesize_set(Noise(teacher), count, count, 0, folder, Scratch(None))
