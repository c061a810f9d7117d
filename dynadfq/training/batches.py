"""What the student sees: batches of images with soft labels and the teacher's answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dynadfq.ops.augment import random_flip, random_resized_crop
from dynadfq.runtime import distributed
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig
from dynadfq.training.recipe import StudentRecipe


class TrainingBatch(NamedTuple):
    """One batch, taught."""

    images: Tensor  # (B, C, H, W)
    soft_labels: Tensor  # (B, classes)
    teacher_logits: Tensor  # (B, classes)
    measured: Mapping[str, float] = {}  # what its making left to report, by name


class BatchStream(Protocol):
    """A stream of batches. Everything random is drawn from the epoch's stream; what it learns is in
    its state.
    """

    def epoch(self, rng: torch.Generator) -> Iterator[TrainingBatch]:
        """The batches of one epoch."""

    def state_dict(self) -> Mapping[str, Any]:
        """What changes from epoch to epoch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``."""


class StoredBatches:
    """The images of a set, shuffled and augmented.

    Where nothing random happens to an image, the teacher answers to each once, and its answers are
    kept: (N, classes) float32. An augmented image is never seen twice, so that its answer is
    computed with its batch. The two agree but for float rounding (5e-7 of the logits; none for many
    networks): a convolution's last bits may depend on an image's place in its batch. Which of them
    is done depends on recipe, schedule and number of images, and on nothing else.
    """

    def __init__(
        self,
        images: SyntheticSet,
        teacher: Teacher,
        recipe: StudentRecipe,
        schedule: FinetuneConfig,
    ) -> None:
        self.images, self.teacher, self.recipe, self.schedule = images, teacher, recipe, schedule
        self.part = distributed.part()

    def epoch(self, rng: torch.Generator) -> Iterator[TrainingBatch]:
        """As many shuffled passes over the images as the epoch's steps need; of each batch, this
        rank's part.
        """
        for whole in _indices(len(self.images), self.schedule, rng):
            indices = self.part.of(whole)
            batch = self.images.take(indices)
            images = self._seen(batch.images, rng)
            answers = (
                self._answers[indices].to(images.device)
                if self._answers_last
                else self._answer(images)
            )
            yield TrainingBatch(images, batch.soft_labels.to(images.device), answers)

    def state_dict(self) -> Mapping[str, Any]:
        """Stored images do not change."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to go on from."""

    @torch.no_grad()
    def _seen(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """What student and teacher see of stored images."""
        images = images.to(self.teacher.device)
        if self.schedule.crop_scale < 1:
            images = random_resized_crop(images, self.schedule.crop_scale, rng, self.part)
        if self.schedule.horizontal_flip:
            images = random_flip(images, rng, self.part)
        if self.recipe.filter is not None:
            images = self.recipe.filter(images)
        return images.contiguous(memory_format=self.teacher.memory_format)

    @torch.no_grad()
    def _answer(self, images: Tensor) -> Tensor:
        return self.teacher(images)

    @property
    def _answers_last(self) -> bool:
        """Whether answers can be kept, and an image is seen more than once on average."""
        s = self.schedule
        seen = s.epochs * s.steps_per_epoch * s.batch_size
        return s.crop_scale == 1 and not s.horizontal_flip and seen > len(self.images)

    @cached_property
    def _answers(self) -> Tensor:
        """The teacher's (N, classes) answers to the images in their order, in batches as large as
        in training.
        """
        count, size, rng = len(self.images), self.schedule.batch_size, torch.Generator()
        whole = (
            torch.arange(-(-count // size) * size) % count
        )  # the first images fill up the last batch
        answers = (
            self._answer(self._seen(self.images.take(part).images, rng)).cpu()
            for part in whole.split(size)
        )
        return torch.cat(list(answers))[:count]


def _indices(images: int, schedule: FinetuneConfig, rng: torch.Generator) -> list[Tensor]:
    """One epoch's batches, (B,) indices each."""
    needed = schedule.steps_per_epoch * schedule.batch_size
    passes = [torch.randperm(images, generator=rng) for _ in range(-(-needed // images))]
    return list(torch.cat(passes)[:needed].split(schedule.batch_size))
