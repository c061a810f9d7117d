"""Losses: a step holds one forward pass, a term maps it to a number, an objective adds terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from dynadfq.losses.bn_statistics import bn_statistics_of_batch, bn_statistics_per_image
from dynadfq.losses.config import Reduction
from dynadfq.ops.precision import in_float32
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.teacher.recording import Recording

Pair = tuple[Tensor, Tensor]  # of the student and of the teacher


class SynthesisStep(NamedTuple):
    """One forward pass of synthetic images through the teacher."""

    images: Tensor  # (B, C, H, W)
    soft_labels: Tensor  # (B, classes)
    logits: Tensor  # (B, classes)
    recording: Recording
    student_logits: Tensor | None = None  # (B, classes), where a generator learns beside a student
    rng: torch.Generator | None = None  # the shard's stream, for terms that draw


class StudentStep(NamedTuple):
    """One forward pass of a batch through student and teacher."""

    soft_labels: Tensor  # (B, classes)
    logits: Tensor  # (B, classes), the student's
    teacher_logits: Tensor  # (B, classes)
    bit_flops_ratio: Tensor  # (B,), cost of each image relative to the target
    features: Mapping[str, Sequence[Pair]] = {}  # outputs of modules, by what they are compared for


Step = TypeVar("Step", SynthesisStep, StudentStep)


@dataclass(frozen=True)
class Term(Generic[Step]):
    """One weighted summand of an objective.

    name: key of the history and of the manifest.
    weight: factor of the value.
    value: maps a step to a scalar.
    of_label: whether it draws an image to its label; the gate counts only images of such terms.
    """

    name: str
    weight: float
    value: Callable[[Step], Tensor]
    of_label: bool = False


@dataclass(frozen=True)
class Objective(Generic[Step]):
    """A weighted sum of terms."""

    terms: Sequence[Term[Step]]

    @property
    def of_labels(self) -> bool:
        """Whether a term with a weight draws images to their labels."""
        return any(term.of_label and term.weight for term in self.terms)

    def require_weight(self) -> None:
        """Check that something is minimized.

        Raises:
            InvalidArgument: all terms have weight 0, so that the sum has no gradient.
        """
        if not any(term.weight for term in self.terms):
            names = ", ".join(term.name for term in self.terms)
            raise InvalidArgument(
                "method", f"all terms of its images' loss ({names}) have weight 0; weight one"
            )

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum, and each term before its weight by name, without those of weight 0."""
        with in_float32(step.logits.device):
            values = {term.name: term.value(step) for term in self.terms if term.weight}
        total = sum(
            (term.weight * values[term.name] for term in self.terms if term.weight),
            step.logits.new_zeros(()),
        )
        return total, values


def prediction_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of softmax predictions in nats, 0 … log(classes) (DynaDFQ, Eq. 4).

    (B, classes) logits to (B,).

    >>> prediction_entropy(torch.zeros(1, 4))
    tensor([1.3863])
    """
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def label_entropy(soft_labels: Tensor) -> Tensor:
    """Return the entropy of label rows in nats: (B, classes) to (B,); 0 log 0 is 0."""
    entropy: Tensor = torch.special.entr(soft_labels).sum(dim=1)
    return entropy


def soft_cross_entropy(logits: Tensor, soft_labels: Tensor) -> Tensor:
    """Return the cross-entropy of each image to its soft label in nats: (B, classes) to (B,)."""
    return -(soft_labels * log_softmax(logits, dim=1)).sum(dim=1)


def distillation(
    teacher_logits: Tensor,
    logits: Tensor,
    temperature: float = 1.0,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Return KL(teacher ‖ student) times temperature² in nats (Hinton et al., arXiv 1503.02531).

    Args:
        teacher_logits: (B, classes).
        logits: (B, classes).
        temperature: divides the logits.
        reduction: mean over the batch; or over batch and classes as in released code, which is no
            divergence.
    """
    log_p = log_softmax(teacher_logits / temperature, dim=1)
    log_q = log_softmax(logits / temperature, dim=1)
    elements = log_p.exp() * (log_p - log_q)
    mean = elements.mean() if reduction == "elementmean" else elements.sum(dim=1).mean()
    return mean * temperature**2


def bit_regularization(bit_flops_ratio: Tensor) -> Tensor:
    """Return the mean over the batch of max(B / B_target, 1) - 1 (DynaDFQ, Eq. 10).

    It has no gradient at or below the target.

    >>> bit_regularization(torch.tensor([1.5, 0.5]))
    tensor(0.2500)
    """
    return torch.relu(bit_flops_ratio - 1).mean()


BN_STATISTICS: dict[str, Callable[[SynthesisStep], Tensor]] = {
    "per_image_std": lambda step: bn_statistics_per_image(step.recording, step.images),
    "batch_var": lambda step: bn_statistics_of_batch(step.recording),
}


def bn_statistics_term(
    weight: float = 1.0, kind: Literal["per_image_std", "batch_var"] = "batch_var"
) -> Term[SynthesisStep]:
    """Return the BN statistics loss of each image or of the batch."""
    return Term("bn_statistics", weight, BN_STATISTICS[kind])


def image_class_term(weight: float) -> Term[SynthesisStep]:
    """Return the cross-entropy of the teacher's prediction to the soft label (DynaDFQ, Eq. 7)."""
    return Term(
        "class",
        weight,
        lambda step: soft_cross_entropy(step.logits, step.soft_labels).mean(),
        of_label=True,
    )


def label_term(weight: float) -> Term[StudentStep]:
    """Return the student's cross-entropy to the soft label, mean over the batch (Eq. 11)."""
    return Term(
        "label", weight, lambda step: soft_cross_entropy(step.logits, step.soft_labels).mean()
    )


def distillation_term(
    weight: float, temperature: float, reduction: Reduction = "batchmean"
) -> Term[StudentStep]:
    """Return the term of KL(teacher ‖ student) times temperature² (DynaDFQ, Eq. 11)."""
    return Term(
        "distillation",
        weight,
        lambda step: distillation(step.teacher_logits, step.logits, temperature, reduction),
    )
