"""Losses by difficulty: hard images (HAST, arXiv 2303.13826) and easy labels (SynQ, 2603.18423)."""

from __future__ import annotations

from torch import Tensor

from dynadfq.losses.objective import StudentStep, SynthesisStep, Term, soft_cross_entropy

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


def easy_labels(step: StudentStep, hardest: float) -> Tensor:
    """Return the labels, with zeros for hard images (SynQ).

    The difficulty is 1 - p, with p the teacher's probability of the label.

    Args:
        step: a step of fine-tuning; its soft labels and teacher's logits are read.
        hardest: τ, the greatest difficulty of an image that keeps its label.

    Returns:
        (B, classes) labels.
    """
    p = (step.soft_labels * step.teacher_logits.softmax(dim=1)).sum(dim=1)
    return step.soft_labels * (1 - p <= hardest)[:, None]


def easy_label_term(weight: float, hardest: float) -> Term[StudentStep]:
    """Return SynQ's cross-entropy to the labels of easy images.

    Args:
        weight: λ_CE.
        hardest: see ``easy_labels``.

    Returns:
        A term named ``label``; its mean is over all images, of which hard ones count 0.
    """
    return Term(
        "label",
        weight,
        lambda step: soft_cross_entropy(step.logits, easy_labels(step, hardest)).mean(),
    )
