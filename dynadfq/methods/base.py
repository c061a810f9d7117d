"""What a method answers: recipes for its images and for what the student learns, which the shared
loops carry out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from dynadfq.losses.objective import (
    BN_STATISTICS,
    Objective,
    Reduction,
    Term,
    distillation_term,
    image_class_term,
    label_term,
)
from dynadfq.runtime.config import LINEAGE, PAPER, Config, setting
from dynadfq.synthesis.generator import GeneratorRecipe
from dynadfq.synthesis.generator_network import LARGE
from dynadfq.synthesis.labels import LabelSampler, OneHotLabels
from dynadfq.synthesis.pixels import ImageRecipe
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.recipe import OnlineGenerator, StudentRecipe

__all__ = [
    "BaselineImages",
    "DistilledStudent",
    "GeneratorImages",
    "GeneratorRecipe",
    "GeneratorStudent",
    "ImageRecipe",
    "Method",
    "MethodContext",
    "OnlineGenerator",
    "Presets",
    "StudentRecipe",
]
Presets = Mapping[str, Mapping[str, Mapping[str, bool | int | float | str]]]
GENERATORS = "GDFQ, Qimera and AdaDFQ, released code"


class MethodContext(NamedTuple):
    """What a method may look at while it composes its images."""

    teacher: Teacher
    similarity: Tensor  # (classes, classes)
    seed: int


class Method(Config):
    """A method's hyperparameters: those of its images and those of its student.

    presets: published values that differ from the defaults, by kind of data (``small``,
        ``cifar100``, ``imagenet``) and by group (``images``, ``student``).
    """

    presets: ClassVar[Presets] = {}


class BaselineImages(Config):
    """What the images of DynaDFQ's baseline are optimized for, on which DynaDFQ builds (Eq. 7)."""

    class_weight: float = setting(
        0.1,
        "β, weight of the cross-entropy to the image's label beside the BN statistics loss; 0 uses no labels",
        source=f"{PAPER}, Eq. 7; value in Sec. 4.1",
        ge=0,
    )
    bn_statistics: Literal["per_image_std", "batch_var"] = setting(
        "batch_var",
        "BN statistics loss: each image's mean and std (sum over channels), or the batch's mean and variance (average)",
        source="batch_var: IntraQ, HAST, GDFQ; per_image_std: ZeroQ's code, which Eq. 7 builds on",
    )

    def labels(self, context: MethodContext) -> LabelSampler:
        """A random class each."""
        return OneHotLabels(context.teacher.num_classes)

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Objective L_bns + β · CE (Eq. 7)."""
        terms = [
            Term("bn_statistics", 1.0, BN_STATISTICS[self.bn_statistics]),
            image_class_term(self.class_weight),
        ]
        return ImageRecipe(self.labels(context), Objective(terms))


class DistilledStudent(Config):
    """What most students learn from an image: the teacher's prediction, and the image's label."""

    label_weight: float = setting(
        1.0, "weight of the cross-entropy to the image's label", source=LINEAGE, ge=0
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
            [
                label_term(self.label_weight),
                distillation_term(self.distillation_weight, self.temperature),
            ]
        )


class GeneratorImages(Config):
    """What all generators have; their first training takes `synthesis.iterations` steps."""

    latent_features: int = setting(
        100,
        "length of the vector that the generator starts from",
        unit="features",
        source=GENERATORS,
        ge=1,
    )
    class_conditional: Literal["large_images", "always", "never"] = setting(
        "large_images",
        f"where BatchNorm has gains and biases of the class: in images of more than {LARGE} pixels, in all, in none",
        source=f"{GENERATORS} (ImageNet)",
    )
    generator_batch_size: int = setting(
        200,
        "images in a step of the generator's first training; beside a student it is `finetune.batch_size`",
        unit="images",
        source="GDFQ and Qimera, released code (CIFAR; 16 for ImageNet)",
        ge=2,
    )
    learning_rate: float = setting(
        1e-3,
        "initial learning rate of Adam on the generator; beside a student it decays with his",
        source=GENERATORS,
        gt=0,
    )

    def conditional(self, teacher: Teacher) -> bool:
        """Whether a generator of this teacher's images has class-conditional BatchNorm."""
        large = max(teacher.input_shape[1:]) > LARGE
        return self.class_conditional == "always" or (
            self.class_conditional == "large_images" and large
        )


class GeneratorStudent(DistilledStudent):
    """What a student learns beside a generator: the teacher's prediction, and the image's label."""

    distillation_weight: float = setting(
        1.0, "weight of T² · KL(teacher ‖ student)", source="GDFQ and Qimera, released code", ge=0
    )
    kd_reduction: Reduction = setting(
        "batchmean",
        "KL averaged over the batch; or over batch and classes, which weakens it by the number of classes",
        source="elementmean: GDFQ and Qimera, released code; batchmean: dynadfq",
    )
    online_generator: bool = setting(
        True,
        "the generator learns on beside the student and makes every batch anew; false: the stored images",
        source=GENERATORS,
    )

    def beside(self, online_generator: OnlineGenerator) -> StudentRecipe:
        """Distillation and cross-entropy to the label, on online_generator images where they are
        wanted.
        """
        distilled = distillation_term(self.distillation_weight, self.temperature, self.kd_reduction)
        return StudentRecipe(
            [label_term(self.label_weight), distilled],
            online_generator=online_generator if self.online_generator else None,
        )
