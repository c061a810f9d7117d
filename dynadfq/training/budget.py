"""How the bit-FLOPs target binds: the paper's penalty on each image, or a price that holds the mean at the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from dynadfq.losses import bit_regularisation

Form = Literal["penalty", "constraint"]


@dataclass
class Budget:
    """The bit-FLOPs term of the student's objective; ratios are (B,) costs of images relative to the target.

    form: ``penalty`` is γ · mean max(ratio, 1) (DynaDFQ, Eqs. 10 and 11): it pushes while an image is above the target and never pulls
        back. ``constraint`` is price · mean ratio, where the price rises while the mean is above the target and falls while it is below
        (dual ascent), so that the target is met from both sides.
    weight: γ of the penalty; of the constraint, how far the price moves for a mean off by the whole target in one step.
    """

    form: Form = "penalty"
    weight: float = 100.0
    price: float = 0.0

    def value(self, ratio: Tensor) -> Tensor:
        """The term before its weight."""
        return bit_regularisation(ratio) if self.form == "penalty" else ratio.mean() - 1

    @property
    def factor(self) -> float:
        """What the term is multiplied by in this step."""
        return self.weight if self.form == "penalty" else self.price

    def update(self, ratio: Tensor) -> None:
        """Move the price after a step."""
        if self.form == "constraint":
            self.price += self.weight * float(ratio.detach().mean() - 1)
