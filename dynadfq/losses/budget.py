"""The bit-FLOPs budget as a loss: the paper's penalty on each image, or a Lagrange multiplier that
holds the mean at the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from dynadfq.losses.objective import Objective, StudentStep, bit_regularization
from dynadfq.runtime import distributed

Form = Literal["penalty", "constraint"]

MULTIPLIER_RATE = (
    0.02  # how far the multiplier moves in a step, relative to the push of the quadratic part
)


@dataclass
class Budget:
    """The bit-FLOPs term of the student's objective; ratios are (B,) costs of images relative to
    the target.

    form: ``penalty`` is γ · mean max(ratio - 1, 0) (DynaDFQ, Eqs. 10 and 11, less the constant γ):
        it pushes while an image is above the target and never pulls back. ``constraint`` is an
        augmented Lagrangian (Nocedal & Wright, chapter 17) of mean ratio 1: the target is met from
        both sides, and what one image does not need another may spend.
    weight: γ of the penalty, or the curvature of the constraint's quadratic part.
    multiplier: the constraint's multiplier.
    """

    form: Form
    weight: float
    multiplier: float = 0.0

    def value(self, ratio: Tensor) -> Tensor:
        """The term before its weight."""
        return bit_regularization(ratio) if self.form == "penalty" else ratio.mean() - 1

    def factor(self, value: Tensor) -> float:
        """The weight of the term with which its gradient is that of the whole form."""
        return (
            self.weight
            if self.form == "penalty"
            else self.multiplier + self.weight * float(value.detach())
        )

    def surplus(self, value: Tensor) -> float:
        """The difference of ``factor · value`` and the form's value: a square has half the factor
        of its gradient.
        """
        return 0.0 if self.form == "penalty" else self.weight / 2 * float(value.detach()) ** 2

    def update(self, value: Tensor) -> None:
        """Move the multiplier after a step."""
        if self.form == "constraint":
            self.multiplier += MULTIPLIER_RATE * self.weight * float(value.detach())


class BudgetedObjective:
    """An objective with the bit-FLOPs term, named ``budget``, added to it.

    Args:
        objective: the method's terms.
        budget: the term, whose factor depends on the mean over all ranks.
    """

    def __init__(self, objective: Objective[StudentStep], budget: Budget) -> None:
        self.objective = objective
        self.budget = budget

    def __call__(self, step: StudentStep) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum and each term before its weight, by name."""
        total, terms = self.objective(step)
        value = self.budget.value(step.bit_flops_ratio)
        mean = distributed.mean(value)
        total = total + self.budget.factor(mean) * value - self.budget.surplus(mean)
        return total, {**terms, "budget": value}
