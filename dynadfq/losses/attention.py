"""Distances of features: channel attention (HAST) and class activation maps (Grad-CAM)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from dynadfq.losses.objective import Pair, StudentStep, Term

# Purposes that features are compared for.
BRANCHES = "branches"
LAST_MAP = "last_map"


def channel_attention(features: Tensor) -> Tensor:
    """Return each channel's energy, normalized over channels: (B, C, H, W) to (B, C) (HAST).

    >>> channel_attention(torch.tensor([[[[3.0, -3.0]], [[0.0, 0.0]]]]))
    tensor([[1., 0.]])
    """
    return normalize(features.flatten(2).square().mean(dim=2), dim=1)


def attention_distance(pairs: Sequence[Pair]) -> Tensor:
    """Return the mean squared difference of channel attentions, summed over pairs of features."""
    gaps = [mse_loss(channel_attention(ours), channel_attention(theirs)) for ours, theirs in pairs]
    return torch.stack(gaps).sum()


def class_activation_map(scores: Tensor, features: Tensor) -> Tensor:
    """Return where the evidence for a class lies, scaled to 0 … 1 in each image.

    Grad-CAM (arXiv 1610.02391): the positive part of the sum of channels, each weighted by the mean
    over pixels of the score's gradient. The weights count as constants. A constant map is 0.

    Args:
        scores: (B,) scores of the class.
        features: (B, C, H, W) from which the scores are computed.

    Returns:
        (B, H, W).
    """
    (slopes,) = torch.autograd.grad(scores.sum(), features, retain_graph=True)
    evidence = (slopes.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()
    low = evidence.amin(dim=(1, 2), keepdim=True)
    high = evidence.amax(dim=(1, 2), keepdim=True)
    return (evidence - low) / (high - low).clamp(min=1e-8)


def map_distance(step: StudentStep) -> Tensor:
    """Return the mean squared difference of the two networks' class activation maps."""
    ((ours, theirs),) = step.features[LAST_MAP]
    scores = (step.soft_labels * step.logits).sum(dim=1)
    teacher_scores = (step.soft_labels * step.teacher_logits).sum(dim=1)
    return mse_loss(
        class_activation_map(scores, ours), class_activation_map(teacher_scores, theirs)
    )


def attention_term(weight: float) -> Term[StudentStep]:
    """Return HAST's feature alignment at the ends of residual branches."""
    return Term("attention", weight, lambda step: attention_distance(step.features[BRANCHES]))


def map_term(weight: float) -> Term[StudentStep]:
    """Return SynQ's alignment of class activation maps."""
    return Term("activation_map", weight, map_distance)
