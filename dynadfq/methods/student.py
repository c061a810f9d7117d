"""Student settings that several methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from dynadfq.losses.config import Reduction
from dynadfq.methods.images import GENERATORS, GeneratorImages
from dynadfq.runtime.config import (
    LINEAGE,
    MAX_TEMPERATURE,
    MAX_WEIGHT,
    MIN_TEMPERATURE,
    Config,
    setting,
)

if TYPE_CHECKING:
    from dynadfq.losses.objective import StudentStep, Term
    from dynadfq.synthesis.generator import GeneratorRecipe
    from dynadfq.teacher.teacher import Teacher
    from dynadfq.training.parts import BatchLoss, TrainingContext
    from dynadfq.training.recipe import StudentRecipe


class StudentConfig(Config):
    """The hyperparameters of a method's student."""

    def recipe(self) -> StudentRecipe:
        """Return how the student is prepared and trained."""
        raise NotImplementedError


class TrainedStudent(StudentConfig):
    """A student that is trained on the stored images."""

    def terms(self) -> Sequence[Term[StudentStep]]:
        """Return the terms of the loss."""
        raise NotImplementedError

    def loss(self, context: TrainingContext) -> BatchLoss:
        """Return the loss of a batch."""
        from dynadfq.training.loss import StudentLoss

        return StudentLoss(context, self.terms())

    def recipe(self) -> StudentRecipe:
        """Return a recipe that trains on the stored images."""
        from dynadfq.training.recipe import StudentRecipe

        return StudentRecipe(self.loss, require=self.require)

    def require(self, teacher: Teacher) -> None:
        """Raise a ValueError where the loss cannot serve a network; this one serves all."""


class DistilledStudent(TrainedStudent):
    """A student that learns the teacher's prediction."""

    distillation_weight: float = setting(
        20.0,
        "weight of T² · KL(teacher ‖ student), averaged over the batch",
        source=LINEAGE,
        ge=0,
        le=MAX_WEIGHT,
    )
    temperature: float = setting(
        20.0,
        "T, divides the logits of teacher and student in the KL term",
        source=LINEAGE,
        ge=MIN_TEMPERATURE,
        le=MAX_TEMPERATURE,
    )

    def distillation(self) -> Term[StudentStep]:
        """Return the distillation term."""
        from dynadfq.losses.objective import distillation_term

        return distillation_term(self.distillation_weight, self.temperature)

    def terms(self) -> Sequence[Term[StudentStep]]:
        """Return the distillation term alone."""
        return [self.distillation()]


class LabelledStudent(DistilledStudent):
    """A student that learns the image's label and the teacher's prediction."""

    label_weight: float = setting(
        1.0, "weight of the cross-entropy to the image's label", source=LINEAGE, ge=0, le=MAX_WEIGHT
    )

    def terms(self) -> Sequence[Term[StudentStep]]:
        """Return the cross-entropy to the label and the distillation term."""
        from dynadfq.losses.objective import label_term

        return [label_term(self.label_weight), self.distillation()]


class UnlabelledStudent(LabelledStudent):
    """A student of images that follow no label by default."""

    label_weight: float = setting(
        0.0,
        "weight of the cross-entropy to the image's label",
        source="ZeroQ and DSG rows of the literature; 1 for ZeroQ+IL and DSG+IL",
        ge=0,
        le=MAX_WEIGHT,
    )


class HardSampleStudent(DistilledStudent):
    """A student of HAST and SynQ: aligned features, and images made harder."""

    attention_weight: float = setting(
        1000.0,
        "λ, weight of the distance of channel attentions at the ends of residual branches",
        source="HAST and SynQ, configuration for CIFAR-10; HAST on CIFAR-100: 2000, ImageNet: 4000",
        ge=0,
        le=MAX_WEIGHT,
    )
    perturbation: float = setting(
        0.01,
        "ε, step along the sign of the loss's gradient to the harder image, on which the "
        "student is trained too; 0 is off",
        unit="normalized pixels",
        source="HAST and SynQ, CIFAR-10 and ImageNet; HAST on CIFAR-100: 0.02",
        ge=0,
        le=100,
    )


class OnlineStudent(TrainedStudent):
    """A student whose images come from an online generator."""

    images: ClassVar[type[GeneratorImages]]  # settings of the generator

    online_generator: bool = setting(
        True,
        "train the generator further while the student is fine-tuned, and generate every batch "
        "with it; false uses the stored images",
        source=GENERATORS,
    )

    def generator(self, settings: Mapping[str, Any], teacher: Teacher) -> GeneratorRecipe:
        """Return the generator's recipe from the image settings stored with the set."""
        return self.images(**settings).generator(teacher)

    def recipe(self) -> StudentRecipe:
        """Return a recipe with an online generator, or with the stored images."""
        from dynadfq.training.online_generator import OnlineGeneratorBatches
        from dynadfq.training.recipe import StudentRecipe

        if not self.online_generator:
            return super().recipe()
        batches = partial(OnlineGeneratorBatches, method=self.images.method, recipe=self.generator)
        return StudentRecipe(self.loss, batches, trains_generator=True)


class GeneratorStudent(OnlineStudent, LabelledStudent):
    """The student of GDFQ and Qimera."""

    distillation_weight: float = setting(
        1.0,
        "weight of T² · KL(teacher ‖ student)",
        source="GDFQ and Qimera, released code",
        ge=0,
        le=MAX_WEIGHT,
    )
    kd_reduction: Reduction = setting(
        "batchmean",
        "KL averaged over the batch; or over batch and classes, which weakens it by the number of "
        "classes",
        source="elementmean: GDFQ and Qimera, released code; batchmean: dynadfq",
    )

    def distillation(self) -> Term[StudentStep]:
        """Return the distillation term."""
        from dynadfq.losses.objective import distillation_term

        return distillation_term(self.distillation_weight, self.temperature, self.kd_reduction)
