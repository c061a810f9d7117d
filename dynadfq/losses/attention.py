"""Distances of features: attention of channels (HAST) and of pixels (AKT), and Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from dynadfq.losses.objective import Pair, StudentStep, Term

# Purposes that features are compared for.
BRANCHES = "branches"
LAST_MAP = "last_map"

AKT_TEMPERATURE = 8.0


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


def attention_transfer(pairs: Sequence[Pair]) -> Tensor:
    """Return T² · KL(teacher ‖ student) of channel and of spatial attention, summed over pairs.

    AKT (Hong et al., SAC 2025, arXiv 2412.19125): the refined feature distillation L_RFD, as the
    released code computes it. A map's channel attention is the softmax of each channel's energy,
    its spatial attention each pixel's energy divided by the Euclidean norm over pixels (Zagoruyko
    and Komodakis, arXiv 1612.03928). Both then go through a softmax at temperature T = 8. Here the
    divergences are averaged over images and multiplied by T², as in distillation; the code sums
    them over the batch and multiplies by 1000, which for its 200 images is a weight of 3125 beside
    a distillation of weight 1. The paper's α · L_RFD + (1 - α) · L_KL with α = 1/2 halves both.

    Args:
        pairs: (B, C, H, W) features of student and teacher.
    """
    gaps = [
        _divergence(attention(ours), attention(theirs))
        for ours, theirs in pairs
        for attention in (_channel_distribution, _spatial_attention)
    ]
    return torch.stack(gaps).sum()


def _channel_distribution(features: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C)."""
    return features.flatten(2).square().mean(dim=2).softmax(dim=1)


def _spatial_attention(features: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H · W)."""
    return normalize(features.flatten(2).square().mean(dim=1), dim=1)


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """T² · KL of attentions, averaged over images; in float64, since it is near 1e-6 / T²."""
    log_q, log_p = (
        (attention.double() / AKT_TEMPERATURE).log_softmax(dim=1) for attention in (ours, theirs)
    )
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=1).mean() * AKT_TEMPERATURE**2
    return divergence.to(ours)


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


def attention_transfer_term(weight: float) -> Term[StudentStep]:
    """Return AKT's refined feature distillation at the ends of residual branches."""
    return Term(
        "attention_transfer", weight, lambda step: attention_transfer(step.features[BRANCHES])
    )
