"""Class centres in feature space, and images' distances to them (IntraQ, arXiv 2111.09136)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, one_hot

from dynadfq.losses.objective import SynthesisStep
from dynadfq.synthesis.dataset import Batch
from dynadfq.teacher.teacher import Teacher


def marginal_distance(features: Tensor, centres: Tensor, low: float, high: float) -> Tensor:
    """Return the distance of a cosine distance to [low, high]: (B, features) twice to (B,).

    The distance 1 - cos is in 0 … 2.

    >>> centres = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> marginal_distance(torch.eye(2), centres, 0.25, 0.75)  # distances 0 and 1
    tensor([0.2500, 0.2500])
    """
    distance = 1 - cosine_similarity(features, centres, dim=1)
    return torch.relu(low - distance) + torch.relu(distance - high)


class ClassCentres:
    """The mean classifier feature of each class over the finished images of a set."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.sums = torch.zeros_like(teacher.class_weights)  # (classes, features)
        self.counts = self.sums.new_zeros(len(self.sums), 1)

    @torch.no_grad()
    def remember(self, batch: Batch) -> None:
        """Add finished images to their classes: those with the largest entry of the soft label."""
        with self.teacher.recording() as recording:
            self.teacher(batch.images.to(self.teacher.device))
            features = _features(recording.features)
        classes = batch.soft_labels.argmax(dim=1)
        members = one_hot(classes, len(self.sums)).to(features).T  # (classes, B)
        self.sums += members @ features
        self.counts += members.sum(dim=1, keepdim=True)

    def margin(self, step: SynthesisStep, low: float, high: float) -> Tensor:
        """Return IntraQ's marginal distance, mean over the images whose class has a centre."""
        classes = step.soft_labels.argmax(dim=1)
        counts = self.counts[classes]
        centres = self.sums[classes] / counts.clamp(min=1)
        outside = marginal_distance(_features(step.recording.features), centres, low, high)
        known = (counts.squeeze(1) > 0).to(outside)
        return (known * outside).sum() / known.sum().clamp(min=1)


def _features(features: Tensor | None) -> Tensor:
    assert features is not None, "the classification layer did not run"
    return features
