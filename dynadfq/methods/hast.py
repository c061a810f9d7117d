"""HAST: hard images, made harder while the student learns, and features that agree (Li et al., CVPR
2023).

"Hard Sample Matters a Lot in Zero-Shot Quantization", arXiv 2303.13826. Defaults are the paper's
for CIFAR-10. The released option loader ignores the configured feature weight and step and always
runs 1000 and 0.01; here they are what they are set to. There, activation ranges come from a
generator's images; here from the method's own.
"""

from __future__ import annotations

from typing import ClassVar

from dynadfq.losses.attention import BRANCHES, attention_term
from dynadfq.losses.hard_samples import hard_sample_term
from dynadfq.losses.objective import Objective, bn_statistics_term, distillation_term
from dynadfq.methods.base import ImagesConfig, Method, MethodContext, Presets
from dynadfq.methods.student import StudentConfig
from dynadfq.ops.augment import OccasionalCrops
from dynadfq.runtime.config import LINEAGE, setting
from dynadfq.synthesis.labels import OneHotLabels
from dynadfq.synthesis.pixels import ImageRecipe
from dynadfq.training.features import residual_branches
from dynadfq.training.loss import PerturbedLoss, StudentLoss
from dynadfq.training.parts import BatchLoss, TrainingContext
from dynadfq.training.recipe import StudentRecipe


class Images(ImagesConfig):
    """The objective of HAST's images."""

    class_weight: float = setting(
        10.0,
        "β, weight of the hard-sample loss, added to the BN statistics loss",
        source="HAST, released configuration for CIFAR; ImageNet: 0.1",
        ge=0,
    )
    difficulty_power: float = setting(
        2.0,
        "γ, power of the difficulty 1 - p by which an image's cross-entropy is weighted; 0 is "
        "plain cross-entropy",
        source="HAST, released configuration for CIFAR; ImageNet: 0.5",
        ge=0,
    )
    crop_scale: float = setting(
        1.0,
        "smallest area of the random crops that half of the iterations use; 1 is no crops",
        unit="fraction of the image",
        source="HAST, released configuration for CIFAR; ImageNet: 0.4",
        gt=0,
        le=1,
    )

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe of one-hot labels, BN statistics and the hard-sample loss."""
        hard_samples = hard_sample_term(self.class_weight, self.difficulty_power)
        objective = Objective([bn_statistics_term(), hard_samples])
        crops = OccasionalCrops(self.crop_scale) if self.crop_scale < 1 else None
        return ImageRecipe(OneHotLabels(context.teacher.num_classes), objective, augment=crops)


class Student(StudentConfig):
    """The loss of HAST's student, on an image and on the same image made harder."""

    distillation_weight: float = setting(
        20.0, "weight of T² · KL(teacher ‖ student), averaged over the batch", source=LINEAGE, ge=0
    )
    temperature: float = setting(
        20.0, "T, divides the logits of teacher and student in the KL term", source=LINEAGE, gt=0
    )
    attention_weight: float = setting(
        1000.0,
        "λ, weight of the distance of channel attentions at the ends of residual branches",
        source="HAST, configuration for CIFAR-10; CIFAR-100: 2000, ImageNet: 4000",
        ge=0,
    )
    perturbation: float = setting(
        0.01,
        "ε, step along the sign of the loss's gradient to the harder image, on which the "
        "student is trained too; 0 is off",
        unit="normalized pixels",
        source="HAST, configuration for CIFAR-10 and ImageNet; CIFAR-100: 0.02",
        ge=0,
    )

    def recipe(self) -> StudentRecipe:
        """Return a recipe of distillation and feature alignment, without labels."""
        return StudentRecipe(self.loss)

    def loss(self, context: TrainingContext) -> BatchLoss:
        """Return the loss, on the images and on harder ones."""
        terms = [
            distillation_term(self.distillation_weight, self.temperature),
            attention_term(self.attention_weight),
        ]
        features = {}
        if self.attention_weight:
            features[BRANCHES] = residual_branches(context.teacher)
        loss = StudentLoss(context, terms, features)
        return PerturbedLoss(loss, self.perturbation) if self.perturbation else loss


class HAST(Method):
    """HAST: `images` changes the synthetic images, `student` the fine-tuning."""

    title: ClassVar[str] = "HAST"
    presets: ClassVar[Presets] = {
        "imagenet": {
            "images": {"class_weight": 0.1, "difficulty_power": 0.5, "crop_scale": 0.4},
            "student": {"attention_weight": 4000.0},
        }
    }

    images: Images = Images()
    student: Student = Student()
