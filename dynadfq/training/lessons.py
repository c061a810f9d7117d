"""What the student sees: batches of images with soft labels and the teacher's answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dynadfq.augment import random_flip, random_resized_crop
from dynadfq.synthesis.dataset import Batch, SyntheticSet
from dynadfq.teacher import Teacher
from dynadfq.training.recipe import StudentRecipe
from dynadfq.training.schedule import Schedule


class Lesson(NamedTuple):
    """One batch, taught."""

    images: Tensor  # (B, C, H, W)
    soft_labels: Tensor  # (B, classes)
    teacher_logits: Tensor  # (B, classes)
    measured: Mapping[str, float] = {}  # what its making left to report, by name


class Lessons(Protocol):
    """A stream of batches. Everything random is drawn from the epoch's stream; what it learns is in its state."""

    def epoch(self, rng: torch.Generator) -> Iterator[Lesson]:
        """The batches of one epoch."""

    def state_dict(self) -> Mapping[str, Any]:
        """What changes from epoch to epoch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``."""


class StoredLessons:
    """The images of a set, shuffled and augmented."""

    def __init__(self, images: SyntheticSet, teacher: Teacher, recipe: StudentRecipe, schedule: Schedule) -> None:
        self.images, self.teacher, self.recipe, self.schedule = images, teacher, recipe, schedule

    def epoch(self, rng: torch.Generator) -> Iterator[Lesson]:
        """As many shuffled passes over the images as the epoch's steps need."""
        for indices in _indices(len(self.images), self.schedule, rng):
            yield self._lesson(self.images.take(indices), rng)

    def state_dict(self) -> Mapping[str, Any]:
        """Stored images do not change."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to go on from."""

    @torch.no_grad()
    def _lesson(self, batch: Batch, rng: torch.Generator) -> Lesson:
        images = batch.images.to(self.teacher.device)
        if self.schedule.crop_scale < 1:
            images = random_resized_crop(images, self.schedule.crop_scale, rng)
        if self.schedule.horizontal_flip:
            images = random_flip(images, rng)
        if self.recipe.filter is not None:
            images = self.recipe.filter(images)
        images = images.contiguous(memory_format=torch.channels_last)
        return Lesson(images, batch.soft_labels.to(images.device), self.teacher(images))


def _indices(images: int, schedule: Schedule, rng: torch.Generator) -> list[Tensor]:
    """One epoch's batches, (B,) indices each."""
    needed = schedule.steps_per_epoch * schedule.batch_size
    passes = [torch.randperm(images, generator=rng) for _ in range(-(-needed // images))]
    return list(torch.cat(passes)[:needed].split(schedule.batch_size))
