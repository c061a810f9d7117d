"""HAST: hard images, made harder while the student learns, and features that agree.

Li et al., "Hard Sample Matters a Lot in Zero-Shot Quantization", CVPR 2023, arXiv 2303.13826.
Defaults are the paper's for CIFAR-10. The released option loader ignores the configured feature
weight and step and always runs 1000 and 0.01; here they are what they are set to. There, activation
ranges come from a generator's images; here from the method's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from dynadfq.methods.base import Method, MethodContext, Presets
from dynadfq.methods.images import HardSampleImages
from dynadfq.methods.student import HardSampleStudent

if TYPE_CHECKING:
    from dynadfq.synthesis.pixels import ImageRecipe
    from dynadfq.teacher.teacher import Teacher
    from dynadfq.training.parts import BatchLoss, TrainingContext


class Images(HardSampleImages):
    """The objective of HAST's images."""

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe of one-hot labels, BN statistics and the hard-sample loss."""
        from dynadfq.losses.objective import Objective, bn_statistics_term
        from dynadfq.synthesis.pixels import ImageRecipe

        objective = Objective([bn_statistics_term(), self.hard_samples()])
        return ImageRecipe(self.labels(context), objective, augment=self.crops())


class Student(HardSampleStudent):
    """The loss of HAST's student on each image and on a harder version of it."""

    def features(self, teacher: Teacher) -> dict[str, Sequence[str]]:
        """Return the modules at whose outputs features are compared."""
        from dynadfq.losses.attention import BRANCHES
        from dynadfq.training.features import residual_branches

        return {BRANCHES: residual_branches(teacher)} if self.attention_weight else {}

    def require(self, teacher: Teacher) -> None:
        """Raise a ValueError where the network has no feature maps."""
        self.features(teacher)

    def loss(self, context: TrainingContext) -> BatchLoss:
        """Return the loss, on the images and on harder ones."""
        from dynadfq.losses.attention import attention_term
        from dynadfq.training.loss import PerturbedLoss, StudentLoss

        terms = [self.distillation(), attention_term(self.attention_weight)]
        features = self.features(context.teacher)
        loss = StudentLoss(context, terms, features)
        return PerturbedLoss(loss, self.perturbation) if self.perturbation else loss


class HAST(Method):
    """HAST: `images` changes the synthetic images, `student` the fine-tuning."""

    title: ClassVar[str] = "HAST"
    presets: ClassVar[Presets] = {
        "cifar100": {"student": {"attention_weight": 2000.0, "perturbation": 0.02}},
        "imagenet": {
            "images": {"class_weight": 0.1, "difficulty_power": 0.5, "crop_scale": 0.4},
            "student": {"attention_weight": 4000.0},
        },
    }

    images: Images = Images()
    student: Student = Student()
