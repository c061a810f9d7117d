"""What a teacher sees in images, of whose logits only what is counted stays."""

from __future__ import annotations

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


class TeacherView(NamedTuple):
    """What a teacher sees in N images."""

    predictions: Tensor  # (N,) int64
    entropy_nats: Tensor  # (N,) float64, of its predictions
    co_occurrence: (
        Tensor  # (classes, classes) float64: mean over images of p_a · p_b (DynaDFQ, Fig. 2c)
    )


class Viewer:
    """A teacher that is shown batches, and counts how often classes share its predictions."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.products = torch.zeros(teacher.num_classes, teacher.num_classes, dtype=torch.float64)

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and their entropies of (B, C, H, W) images, (B,) each."""
        seen = images.to(self.teacher.device).contiguous(memory_format=self.teacher.memory_format)
        with compute_precision("float32", self.teacher.device):
            logits = self.teacher(seen).cpu().double()
        p = (logits.softmax(dim=1) * GRAIN).round_() / GRAIN
        self.products += p.T @ p
        return logits.argmax(dim=1), prediction_entropy(logits)

    def view(self, predictions: Tensor, entropy_nats: Tensor) -> TeacherView:
        """What was seen of all N images, by every rank together; their (N,) predictions and
        entropies are given.
        """
        return TeacherView(
            predictions, entropy_nats, distributed.total(self.products) / len(predictions)
        )
