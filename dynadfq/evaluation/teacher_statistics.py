"""Predictions of a teacher on many images, their entropies, and which classes share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dynadfq.losses.objective import prediction_entropy
from dynadfq.ops.precision import compute_precision
from dynadfq.runtime import distributed
from dynadfq.teacher.teacher import Teacher

# Probabilities count in whole 2^-18: sums of their products are exact in float64, for 131,072
# images at least. They are the same then in whatever order batches and ranks come.
GRAIN = 2.0**18


class TeacherStatistics(NamedTuple):
    """A teacher's predictions for N images."""

    predictions: Tensor  # (N,) int64
    entropy_nats: Tensor  # (N,) float64, prediction entropy
    co_occurrence: Tensor  # (classes, classes) float64: mean of p_a · p_b (DynaDFQ, Fig. 2c)


@torch.no_grad()
def float_logits(teacher: Teacher, images: Tensor) -> Tensor:
    """Return a teacher's (B, classes) logits of (B, C, H, W) images, on the CPU."""
    placed = images.to(teacher.device).contiguous(memory_format=teacher.memory_format)
    with compute_precision("float32", teacher.device):
        return teacher(placed).cpu()


class TeacherObserver:
    """Runs a teacher batch by batch and sums up how often classes share its predictions."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.products = torch.zeros(teacher.num_classes, teacher.num_classes, dtype=torch.float64)

    @torch.no_grad()
    def observe(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return predictions and their entropies in nats, (B,) each, of (B, C, H, W) images."""
        logits = float_logits(self.teacher, images).double()
        p = (logits.softmax(dim=1) * GRAIN).round_() / GRAIN
        self.products += p.T @ p
        return logits.argmax(dim=1), prediction_entropy(logits)

    def statistics(self, observed: Sequence[tuple[Tensor, Tensor]]) -> TeacherStatistics:
        """Join the results of ``observe`` for all batches of all ranks."""
        predictions = torch.cat([one for one, _ in observed])
        entropy_nats = torch.cat([one for _, one in observed])
        co_occurrence = distributed.total(self.products) / len(predictions)
        return TeacherStatistics(predictions, entropy_nats, co_occurrence)
