"""Interfaces between the parts of a fine-tuning: batches, losses, and their context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dynadfq.losses.budget import Budget
from dynadfq.losses.objective import StudentStep
from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig


@dataclass(frozen=True)
class TrainingContext:
    """Inputs that the loss and the batches of a fine-tuning are built from."""

    student: Student
    teacher: Teacher
    images: SyntheticSet
    schedule: FinetuneConfig
    budget: Budget | None = None  # None: the student does not choose among widths
    any_width: bool = False  # batches bring widths that are drawn

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.schedule.epoch_steps(len(self.images))

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.schedule.total_steps(len(self.images))

    @property
    def epochs(self) -> int:
        """Epochs of the whole training; the last one may be shorter."""
        return ceil(self.steps / self.steps_per_epoch)


class TrainingBatch(NamedTuple):
    """One batch of images with its targets."""

    images: Tensor  # (B, C, H, W)
    soft_labels: Tensor  # (B, classes)
    teacher_logits: Tensor  # (B, classes)
    measured: Mapping[str, float] = {}  # figures for the history, by name
    allocation: BitAllocation | None = None  # the student's widths; None lets it choose


class BatchStream(Protocol):
    """The batches of all epochs."""

    def epoch(self, number: int, rng: torch.Generator) -> Iterator[TrainingBatch]:
        """Yield the batches of epoch ``number``, from 0; ``rng`` is the epoch's own stream."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return what changes from epoch to epoch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``."""


class LossValue(NamedTuple):
    """The loss of one batch."""

    total: Tensor  # (), differentiable
    terms: Mapping[str, Tensor]  # scalars before their weights, by name
    step: StudentStep
    bits: Tensor  # (B, S), the widths in use


class BatchLoss(Protocol):
    """Maps a batch to its loss."""

    @property
    def is_zero(self) -> bool:
        """Whether no term has a weight, so that there is nothing to train."""

    def __call__(self, batch: TrainingBatch) -> LossValue:
        """Run student and teacher on the batch."""
