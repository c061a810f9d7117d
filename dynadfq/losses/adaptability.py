"""Terms of AdaDFQ's generator, from the difference of teacher and student on an image.

Qian et al., "Adaptive Data-Free Quantization", CVPR 2023, arXiv 2303.06869.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynadfq.losses.objective import SynthesisStep, Term, prediction_entropy, soft_cross_entropy

# Nats, above the rounding of entropies. Where all images agree, each has a normalized entropy of 1.
EPSILON = 1e-4


def normalized_entropy(difference: Tensor, min_detach: bool = True) -> Tensor:
    """Return H', 0 at the batch's clearest disagreement and 1 at none: (B, classes) to (B,).

    H' = (H - min H) / (log classes - min H), with the entropy H in nats and its minimum over the
    batch (AdaDFQ, Sec. 2.2).

    >>> normalized_entropy(torch.tensor([[0.0, 0.0], [9.0, 0.0]])).round(decimals=3).abs()
    tensor([1., 0.])

    Args:
        difference: teacher minus student logits.
        min_detach: the minimum counts as a constant.
    """
    most = math.log(difference.shape[1])
    entropy = prediction_entropy(difference).clamp(max=most)
    least = entropy.min().detach() if min_detach else entropy.min()
    return (entropy - least + EPSILON) / (most - least + EPSILON)


def margin(entropy: Tensor, low: float, high: float) -> Tensor:
    """Return the mean distance of (B,) normalized entropies to the interval [low, high].

    >>> margin(torch.tensor([0.0, 0.5, 1.0]), 0.3, 0.7)
    tensor(0.2000)
    """
    return (torch.relu(low - entropy) + torch.relu(entropy - high)).mean()


def margin_term(low: float, high: float, min_detach: bool) -> Term[SynthesisStep]:
    """Return the loss of images on which the networks differ too much or too little."""
    return Term(
        "margin",
        1.0,
        lambda step: margin(normalized_entropy(difference(step), min_detach), low, high),
    )


def disagreement_term(weight: float) -> Term[SynthesisStep]:
    """Return the cross-entropy of the logits' difference to the class."""
    return Term(
        "disagreement",
        weight,
        lambda step: soft_cross_entropy(difference(step), step.soft_labels).mean(),
    )


def agreement_term(weight: float) -> Term[SynthesisStep]:
    """Return the cross-entropy of the logits' sum to the class."""
    return Term(
        "agreement",
        weight,
        lambda step: soft_cross_entropy(step.logits + _student(step), step.soft_labels).mean(),
        of_label=True,
    )


def difference(step: SynthesisStep) -> Tensor:
    """Return teacher minus student logits, (B, classes)."""
    return step.logits - _student(step)


def _student(step: SynthesisStep) -> Tensor:
    """The student's logits; without a student, the teacher's."""
    return step.logits if step.student_logits is None else step.student_logits
