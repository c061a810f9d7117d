"""DeepInversion: images of a class that follow the BN statistics and look natural.

Yin et al., CVPR 2020, arXiv 1912.08795. Defaults are the paper's for CIFAR-10; the released
ImageNet script has bn_weight 0.01 (README; 0.05 in the code), first_layer 10, total_variation 1e-4,
norm_weight 1e-5, jitter 30, flip and clip true. Differences:

- Adaptive DeepInversion, the competition with a student, is left out: images here are made before
    there is a student.
- One resolution; the released ImageNet script begins at half of it.
- Adam and its schedule are `synthesis`'s. The released CIFAR-10 script has a constant rate of 0.1
  (the paper 0.05) for 2000 iterations: ``patience`` no less than ``iterations``. Its ImageNet
  script's cosine schedule is not offered. The images of the last iteration count, not
  those of the least loss.
- The paper quantizes nothing; the student is the lineage's, cross-entropy and distillation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from dynadfq.methods.base import ImagesConfig, Method, MethodContext, Presets
from dynadfq.methods.student import LabelledStudent
from dynadfq.runtime.config import MAX_WEIGHT, setting

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.losses.objective import SynthesisStep, Term
    from dynadfq.synthesis.pixels import ImageRecipe

SCRIPT = "DeepInversion, CIFAR-10 script"


def prior_term(name: str, weight: float, prior: Callable[[Tensor], Tensor]) -> Term[SynthesisStep]:
    """Return a term of the jittered images."""
    from dynadfq.losses.objective import Term

    return Term(name, weight, lambda step: prior(step.images))


class Images(ImagesConfig):
    """The objective of DeepInversion's images (Sec. 3.2)."""

    class_weight: float = setting(
        1.0, "weight of the cross-entropy to a random class", source=SCRIPT, ge=0, le=MAX_WEIGHT
    )
    bn_weight: float = setting(
        10.0,
        "weight of the distance (a norm, not squared) of the batch's mean and variance to the "
        "running ones",
        source="DeepInversion, α_f for CIFAR-10; 100 in the script",
        ge=0,
        le=MAX_WEIGHT,
    )
    first_layer: float = setting(
        1.0,
        "further weight of the first BatchNorm layer",
        source=f"{SCRIPT}; 10 in the ImageNet script",
        ge=0,
        le=MAX_WEIGHT,
    )
    total_variation: float = setting(
        2.5e-5,
        "weight of the norm of differences between neighbouring pixels",
        source=SCRIPT,
        ge=0,
        le=MAX_WEIGHT,
    )
    total_variation_l1: float = setting(
        0.0,
        "weight of the mean absolute difference between neighbouring pixels",
        source=SCRIPT,
        ge=0,
        le=MAX_WEIGHT,
    )
    norm_weight: float = setting(
        0.0,
        "weight of an image's Euclidean norm, averaged over the batch",
        source="DeepInversion, ImageNet script, with 1e-5; the CIFAR-10 script, with 0, has the "
        "norm of the whole batch",
        ge=0,
        le=MAX_WEIGHT,
    )
    jitter: int = setting(
        2,
        "largest offset by which the batch is rolled before each forward pass",
        unit="pixels",
        source=f"{SCRIPT}; 30 in the ImageNet script",
        ge=0,
        le=256,
    )
    flip: bool = setting(False, "mirror the batch before half of the forward passes", source=SCRIPT)
    clip: bool = setting(
        False,
        "bring pixels back to the range of valid images after each step, as `synthesis.clip` does "
        "with any method that optimizes pixels; either is enough",
        source=f"{SCRIPT}; true for ImageNet",
    )

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe of CE + α_f · R_feature + R_prior on jittered images (Sec. 3.2)."""
        from dynadfq.losses.bn_statistics import bn_statistics_norm
        from dynadfq.losses.image_priors import (
            Jitter,
            clipping,
            image_norm,
            total_variation_l1,
            total_variation_l2,
        )
        from dynadfq.losses.objective import Objective, Term, image_class_term
        from dynadfq.synthesis.pixels import ImageRecipe

        objective = Objective(
            [
                Term(
                    "bn_statistics",
                    self.bn_weight,
                    lambda step: bn_statistics_norm(step.recording, self.first_layer),
                ),
                image_class_term(self.class_weight),
                prior_term("total_variation", self.total_variation, total_variation_l2),
                prior_term("total_variation_l1", self.total_variation_l1, total_variation_l1),
                prior_term("image_norm", self.norm_weight, image_norm),
            ]
        )
        return ImageRecipe(
            self.labels(context),
            objective,
            augment=Jitter(self.jitter, self.flip),
            project=clipping(context.teacher) if self.clip else None,
        )


class DeepInversion(Method):
    """DeepInversion: `images` changes the synthetic images, `student` the fine-tuning."""

    title: ClassVar[str] = "DeepInversion"
    presets: ClassVar[Presets] = {
        "imagenet": {
            "images": {
                "bn_weight": 0.01,
                "first_layer": 10.0,
                "total_variation": 1e-4,
                "norm_weight": 1e-5,
                "jitter": 30,
                "flip": True,
                "clip": True,
            }
        }
    }

    images: Images = Images()
    student: LabelledStudent = LabelledStudent()
