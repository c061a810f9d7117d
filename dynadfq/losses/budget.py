"""The bit-FLOPs budget: a penalty on each image above the target, or a constraint on the mean."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dynadfq.losses.config import Form
from dynadfq.losses.objective import Objective, StudentStep, bit_regularization
from dynadfq.runtime import distributed

MULTIPLIER_RATE = 0.02  # step of the multiplier, relative to the slope of the quadratic part


@dataclass
class Budget:
    """The bit-FLOPs term of the student's objective.

    form: ``penalty`` is γ · mean max(ratio - 1, 0) (DynaDFQ, Eqs. 10 and 11, less the constant γ),
        which has no gradient below the target. ``constraint`` is an augmented Lagrangian (Nocedal &
        Wright, chapter 17) of mean ratio 1: the target is met from both sides, and images may trade
        bits.
    weight: γ of the penalty, or the curvature of the constraint's quadratic part.
    multiplier: Lagrange multiplier of the constraint.
    """

    form: Form
    weight: float
    multiplier: float = 0.0

    def value(self, ratio: Tensor) -> Tensor:
        """Return the term before its weight, from (B,) costs relative to the target."""
        return bit_regularization(ratio) if self.form == "penalty" else ratio.mean() - 1

    def factor(self, value: Tensor) -> float:
        """Return the factor of the term that gives it the gradient of the whole form."""
        if self.form == "penalty":
            return self.weight
        return self.multiplier + self.weight * float(value.detach())

    def surplus(self, value: Tensor) -> float:
        """Return by how much ``factor · value`` exceeds the form's value.

        The gradient of a square has twice the factor of the square.
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
