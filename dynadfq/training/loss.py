"""Losses of a batch: weighted terms that compare student and teacher, with perturbed images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dynadfq.losses.attention import BRANCHES, attention_transfer_term
from dynadfq.losses.budget import BudgetedObjective
from dynadfq.losses.objective import Objective, StudentStep, Term
from dynadfq.training.features import record_outputs, transfer_branches
from dynadfq.training.parts import LossValue, TrainingBatch, TrainingContext

NO_FEATURES: Mapping[str, Sequence[str]] = {}


class StudentLoss:
    """A weighted sum of terms.

    The schedule may add AKT's attention transfer (``finetune.attention_transfer``), and a student
    of several widths the bit-FLOPs term.

    Args:
        context: student, teacher, schedule and bit budget.
        terms: summands of the loss.
        features: names of the modules at whose outputs student and teacher are compared, by
            purpose; with them the teacher runs again on every batch.
        teacher_gradients: the teacher's outputs keep their graph, for terms that differentiate its
            prediction.
    """

    def __init__(
        self,
        context: TrainingContext,
        terms: Sequence[Term[StudentStep]],
        features: Mapping[str, Sequence[str]] = NO_FEATURES,
        teacher_gradients: bool = False,
    ) -> None:
        self.student = context.student
        self.teacher = context.teacher
        if weight := context.schedule.attention_transfer:
            terms = [*terms, attention_transfer_term(weight)]
            features = {BRANCHES: transfer_branches(context.teacher, weight), **features}
        self.features = features
        self.teacher_gradients = teacher_gradients
        self.is_zero = not any(term.weight for term in terms)
        objective = Objective(terms)
        self.objective = (
            objective if context.budget is None else BudgetedObjective(objective, context.budget)
        )

    def __call__(self, batch: TrainingBatch) -> LossValue:
        """Run student and teacher on the batch.

        Where the images require a gradient, the teacher's part is differentiable in them too.
        """
        if self.teacher_gradients and not batch.images.requires_grad:
            batch = batch._replace(images=batch.images.detach().requires_grad_())
        step, bits = self._compare(batch)
        total, terms = self.objective(step)
        return LossValue(total, terms, step, bits)

    def _compare(self, batch: TrainingBatch) -> tuple[StudentStep, Tensor]:
        """One forward pass of the student, and of the teacher where its logits do not suffice."""
        names = {name for group in self.features.values() for name in group}
        with record_outputs(self.student.network, names) as student_outputs:
            logits, bits = self.student.run(batch.images, batch.allocation)
        teacher_logits = batch.teacher_logits
        teacher_outputs: dict[str, Tensor] = {}
        differentiable = batch.images.requires_grad
        if names or differentiable:
            with (
                torch.set_grad_enabled(differentiable),
                record_outputs(self.teacher.module, names) as teacher_outputs,
            ):
                teacher_logits = self.teacher(batch.images)
        pairs = {
            purpose: [(student_outputs[name], teacher_outputs[name]) for name in group]
            for purpose, group in self.features.items()
        }
        ratio = self.student.bit_flops_ratio(bits)
        return StudentStep(batch.soft_labels, logits, teacher_logits, ratio, pairs), bits


class PerturbedLoss:
    """The loss of a batch plus that of its perturbed images (HAST, arXiv 2303.13826).

    The bit-FLOPs term of a student of several widths is a part of either, so that it counts twice,
    and the step follows it too.

    Args:
        loss: loss of the images.
        size: step along the sign of the loss's gradient, in normalized pixels.
        perturbed: loss of the moved images; left out, the same one.
        apart: terms of the loss that the step does not follow.
        labels: maps the images' forward pass to the labels of the moved ones; left out, they keep
            theirs.
    """

    def __init__(
        self,
        loss: StudentLoss,
        size: float,
        perturbed: StudentLoss | None = None,
        apart: Sequence[Term[StudentStep]] = (),
        labels: Callable[[StudentStep], Tensor] | None = None,
    ) -> None:
        self.loss = loss
        self.size = size
        self.perturbed = perturbed or loss
        self.apart = [term for term in apart if term.weight]
        self.labels = labels
        self.is_zero = loss.is_zero

    def __call__(self, batch: TrainingBatch) -> LossValue:
        """Return the sum of both losses; terms of the second have the suffix ``_perturbed``."""
        images = batch.images.detach().requires_grad_()
        value = self.loss(batch._replace(images=images))
        raised = value.total - sum(term.weight * value.terms[term.name] for term in self.apart)
        (slope,) = torch.autograd.grad(raised, images, retain_graph=True)
        moved = (images + self.size * slope.sign()).detach()
        batch = batch._replace(images=moved)
        if not self.perturbed.features:  # with features the loss runs the teacher itself
            with torch.no_grad():
                batch = batch._replace(teacher_logits=self.loss.teacher(moved))
        if self.labels is not None:
            batch = batch._replace(soft_labels=self.labels(value.step))
        harder = self.perturbed(batch)
        terms = {f"{name}_perturbed": term for name, term in harder.terms.items()}
        return value._replace(total=value.total + harder.total, terms={**value.terms, **terms})
