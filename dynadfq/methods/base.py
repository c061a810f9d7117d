"""What a method answers: recipes for its images and for what the student learns, which the shared loops carry out."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dynadfq.losses import distillation_term, label_term
from dynadfq.schema import LINEAGE, Section, setting
from dynadfq.synthesis.pixels import ImageRecipe
from dynadfq.teacher import Teacher
from dynadfq.training.recipe import StudentRecipe

__all__ = ["DistilledStudent", "ImageRecipe", "Known", "StudentRecipe"]


class Known(NamedTuple):
    """What a method may look at while it composes its images."""

    teacher: Teacher
    similarity: Tensor  # (classes, classes)
    seed: int


class DistilledStudent(Section):
    """What most students learn from an image: the teacher's prediction, and the image's label."""

    label_weight: float = setting(1.0, "weight of the cross-entropy to the image's label", source=LINEAGE, ge=0)
    distillation_weight: float = setting(
        20.0, "weight of T² · KL(teacher ‖ student), averaged over the batch", source=LINEAGE, ge=0
    )
    temperature: float = setting(
        20.0, "T, divides the logits of teacher and student in the KL term", source=LINEAGE, gt=0
    )

    def recipe(self) -> StudentRecipe:
        """Distillation, and the cross-entropy to the label where it has a weight."""
        return StudentRecipe(
            [label_term(self.label_weight), distillation_term(self.distillation_weight, self.temperature)]
        )
