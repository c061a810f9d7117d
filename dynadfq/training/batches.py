"""Batches of stored images, augmented, with the teacher's logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from math import ceil
from typing import Any

import torch
from torch import Tensor

from dynadfq.ops.augment import random_flip, random_resized_crop
from dynadfq.runtime import distributed
from dynadfq.training.any_width import drawn_allocation
from dynadfq.training.parts import TrainingBatch, TrainingContext


class StoredBatches:
    """The images of a set, shuffled and augmented.

    Where nothing random happens to an image, the teacher's logits are computed once and kept: (N,
    classes) float32. An augmented image is never seen twice, so that its logits are computed with
    its batch. The two agree up to float rounding (5e-7 of the logits; exactly for many networks): a
    convolution's last bits may depend on an image's place in its batch. Which of the two is done
    depends on schedule and number of images alone.

    Args:
        context: images, teacher and schedule.
        filter: applied to the augmented images, (B, C, H, W) to the same.
    """

    def __init__(
        self, context: TrainingContext, filter: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.context = context
        self.images = context.images
        self.teacher = context.teacher
        self.schedule = context.schedule
        self.steps_per_epoch = context.steps_per_epoch
        self.steps = context.steps
        self.filter = filter
        self.part = distributed.part()

    def epoch(self, number: int, rng: torch.Generator) -> Iterator[TrainingBatch]:
        """Yield this rank's part of each batch; images are shuffled as often as needed."""
        for whole in self._indices(rng):
            indices = self.part.of(whole)
            batch = self.images.take(indices)
            images = self._augment(batch.images, rng)
            if self._logits_can_be_stored:
                logits = self._stored_logits[indices].to(images.device)
            else:
                logits = self._logits(images)
            allocation = drawn_allocation(self.context, len(images), rng)
            soft_labels = batch.soft_labels.to(images.device)
            yield TrainingBatch(images, soft_labels, logits, allocation=allocation)

    def state_dict(self) -> Mapping[str, Any]:
        """Return an empty state: stored images do not change."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing: there is no state."""

    def _indices(self, rng: torch.Generator) -> list[Tensor]:
        """One epoch's batches, (B,) indices each."""
        count = len(self.images)
        needed = self.steps_per_epoch * self.schedule.batch_size
        passes = [torch.randperm(count, generator=rng) for _ in range(ceil(needed / count))]
        return list(torch.cat(passes)[:needed].split(self.schedule.batch_size))

    @torch.no_grad()
    def _augment(self, images: Tensor, rng: torch.Generator) -> Tensor:
        images = images.to(self.teacher.device)
        if self.schedule.crop_scale < 1:
            images = random_resized_crop(images, self.schedule.crop_scale, rng, self.part)
        if self.schedule.horizontal_flip:
            images = random_flip(images, rng, self.part)
        if self.filter is not None:
            images = self.filter(images)
        return images.contiguous(memory_format=self.teacher.memory_format)

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        return self.teacher(images)

    @property
    def _logits_can_be_stored(self) -> bool:
        """Whether images stay as they are and are seen more than once on average."""
        schedule = self.schedule
        seen = self.steps * schedule.batch_size
        augmented = schedule.crop_scale < 1 or schedule.horizontal_flip
        return not augmented and seen > len(self.images)

    @cached_property
    def _stored_logits(self) -> Tensor:
        """The teacher's (N, classes) logits of all images, in batches as large as in training."""
        count = len(self.images)
        size = self.schedule.batch_size
        rng = torch.Generator()  # nothing is drawn
        whole_batches = torch.arange(ceil(count / size) * size) % count  # wraps in the last batch
        logits = [
            self._logits(self._augment(self.images.take(indices).images, rng)).cpu()
            for indices in whole_batches.split(size)
        ]
        return torch.cat(logits)[:count]
