"""ZeroQ: images that match the BN statistics, no labels (Cai et al., CVPR 2020, arXiv 2001.00281).

Fine-tuned by distillation alone, which is what the literature's tables call ZeroQ; the released code only calibrates.
"""

from __future__ import annotations

from typing import Literal

from dynadfq.losses import BN_STATISTICS, Objective, Term, distillation_term, image_class_term, label_term
from dynadfq.methods.base import ImageRecipe, Known, StudentRecipe
from dynadfq.schema import LINEAGE, Section, setting
from dynadfq.synthesis.labels import OneHotLabels


class Images(Section):
    """What ZeroQ optimises its images for."""

    class_weight: float = setting(
        0.0,
        "weight of the cross-entropy to a random class beside the BN statistics loss; 0 uses no labels",
        source="ZeroQ, released code; 1 gives the literature's ZeroQ+IL",
        ge=0,
    )
    bn_statistics: Literal["per_image_std", "batch_var"] = setting(
        "per_image_std",
        "BN statistics loss: each image's mean and std (sum over channels), or the batch's mean and variance (average)",
        source="per_image_std: ZeroQ's code; batch_var: IntraQ, HAST, GDFQ",
    )

    def recipe(self, known: Known) -> ImageRecipe:
        """BN statistics, and cross-entropy to a random class where it has a weight."""
        terms = [Term("bn_statistics", 1.0, BN_STATISTICS[self.bn_statistics]), image_class_term(self.class_weight)]
        return ImageRecipe(OneHotLabels(known.teacher.num_classes), Objective(terms))


class Student(Section):
    """What ZeroQ's student learns from an image."""

    label_weight: float = setting(
        0.0,
        "weight of the cross-entropy to the image's label",
        source="ZeroQ rows of the literature; 1 for ZeroQ+IL",
        ge=0,
    )
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


class ZeroQ(Section):
    """ZeroQ's hyperparameters: `images` changes the synthetic images, `student` only the fine-tuning."""

    images: Images = Images()
    student: Student = Student()
