"""Student settings that several methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from dynadfq.losses.objective import Reduction, StudentStep, Term, distillation_term, label_term
from dynadfq.methods.base import GENERATORS
from dynadfq.runtime.config import LINEAGE, Config, setting
from dynadfq.training.loss import StudentLoss
from dynadfq.training.online_generator import GeneratorFactory, OnlineGeneratorBatches
from dynadfq.training.parts import BatchLoss, TrainingContext
from dynadfq.training.recipe import StudentRecipe


class StudentConfig(Config):
    """The hyperparameters of what a method's student learns."""

    def recipe(self) -> StudentRecipe:
        """Return how the student is prepared and trained."""
        raise NotImplementedError


class DistilledStudent(StudentConfig):
    """A student that learns the teacher's prediction and the image's label."""

    label_weight: float = setting(
        1.0, "weight of the cross-entropy to the image's label", source=LINEAGE, ge=0
    )
    distillation_weight: float = setting(
        20.0, "weight of T² · KL(teacher ‖ student), averaged over the batch", source=LINEAGE, ge=0
    )
    temperature: float = setting(
        20.0, "T, divides the logits of teacher and student in the KL term", source=LINEAGE, gt=0
    )

    def terms(self) -> Sequence[Term[StudentStep]]:
        """Return the terms of the loss: cross-entropy to the label and distillation."""
        return [
            label_term(self.label_weight),
            distillation_term(self.distillation_weight, self.temperature),
        ]

    def loss(self, context: TrainingContext) -> BatchLoss:
        """Return the loss of a batch."""
        return StudentLoss(context, self.terms())

    def recipe(self) -> StudentRecipe:
        """Return a recipe that trains on the stored images."""
        return StudentRecipe(self.loss)


class GeneratorStudent(DistilledStudent):
    """A distilled student whose images come from an online generator."""

    distillation_weight: float = setting(
        1.0, "weight of T² · KL(teacher ‖ student)", source="GDFQ and Qimera, released code", ge=0
    )
    kd_reduction: Reduction = setting(
        "batchmean",
        "KL averaged over the batch; or over batch and classes, which weakens it by the number of "
        "classes",
        source="elementmean: GDFQ and Qimera, released code; batchmean: dynadfq",
    )
    online_generator: bool = setting(
        True,
        "train the generator further while the student is fine-tuned, and generate every batch "
        "with it; false uses the stored images",
        source=GENERATORS,
    )

    def terms(self) -> Sequence[Term[StudentStep]]:
        """Return the terms of the loss: cross-entropy to the label and distillation."""
        return [
            label_term(self.label_weight),
            distillation_term(self.distillation_weight, self.temperature, self.kd_reduction),
        ]


def beside_generator(
    loss: Callable[[TrainingContext], BatchLoss], method: str, generator: GeneratorFactory
) -> StudentRecipe:
    """Return a recipe whose batches come from the method's generator, which learns on.

    Args:
        loss: builds the loss of a batch.
        method: the method whose generator made the images.
        generator: builds the generator's recipe from its stored settings.
    """
    batches = partial(OnlineGeneratorBatches, method=method, recipe=generator)
    return StudentRecipe(loss, batches, trains_generator=True)
