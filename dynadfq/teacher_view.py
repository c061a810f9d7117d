"""What a teacher sees in images, of whose logits only what is counted stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dynadfq.losses import prediction_entropy
from dynadfq.teacher import Teacher


class TeacherView(NamedTuple):
    """What a teacher sees in N images."""

    predictions: Tensor  # (N,) int64
    entropy_nats: Tensor  # (N,) float64, of its predictions
    co_occurrence: Tensor  # (classes, classes) float64: mean over images of p_a · p_b (DynaDFQ, Fig. 2c)


class Viewer:
    """Shows a teacher the batches that pass on their way to a student."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.predictions: list[Tensor] = []
        self.entropies: list[Tensor] = []
        self.products = torch.zeros(teacher.num_classes, teacher.num_classes, dtype=torch.float64)

    def watching(self, images: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same (B, C, H, W) batches."""
        for batch in images:
            seen = batch.to(self.teacher.device).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                logits = self.teacher(seen).cpu().double()
            p = logits.softmax(dim=1)
            self.predictions.append(logits.argmax(dim=1))
            self.entropies.append(prediction_entropy(logits))
            self.products += p.T @ p
            yield batch

    def view(self) -> TeacherView:
        """What it saw."""
        predictions = torch.cat(self.predictions)
        return TeacherView(predictions, torch.cat(self.entropies), self.products / len(predictions))
