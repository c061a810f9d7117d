"""The loss of images that are hard to classify (HAST, arXiv 2303.13826)."""

from __future__ import annotations

from torch import Tensor

from dynadfq.losses.objective import SynthesisStep, Term, soft_cross_entropy

EASIEST = 1e-6  # smallest difficulty: powers below 1 have no finite slope at 0


def hard_sample_loss(logits: Tensor, soft_labels: Tensor, power: float) -> Tensor:
    """Return the mean over the batch of cross-entropy times difficulty^power.

    The difficulty is 1 - p, with p the probability of the label. The gradient flows through both
    factors, so that easy images weigh less than hard ones.

    Args:
        logits: (B, classes).
        soft_labels: (B, classes).
        power: γ; 0 is plain cross-entropy.
    """
    p = (soft_labels * logits.softmax(dim=1)).sum(dim=1)
    difficulty = (1 - p).clamp(min=EASIEST)
    return (difficulty.pow(power) * soft_cross_entropy(logits, soft_labels)).mean()


def hard_sample_term(weight: float, power: float) -> Term[SynthesisStep]:
    """Return HAST's term of the assigned class, named as the class term of other methods."""
    return Term(
        "class",
        weight,
        lambda step: hard_sample_loss(step.logits, step.soft_labels, power),
        of_label=True,
    )
