"""GDFQ: a generator conditioned on the class makes the images and learns on beside the student.

Xu et al., "Generative Low-bitwidth Data Free Quantization", ECCV 2020, arXiv 2003.03603. It differs
from the released code in three ways: activation ranges come from the generator's images when its
first training is over, not from its first epochs; Adam starts afresh beside the student; and the KL
is averaged over the batch (`kd_reduction`).
"""

from __future__ import annotations

from typing import ClassVar

from dynadfq.losses.objective import BN_STATISTICS, Objective, Term, image_class_term
from dynadfq.methods.base import (
    GeneratorImages,
    GeneratorRecipe,
    GeneratorStudent,
    Method,
    MethodContext,
    OnlineGenerator,
    Presets,
    StudentRecipe,
)
from dynadfq.runtime.config import setting
from dynadfq.synthesis.latent import SingleClasses, labelled_noise
from dynadfq.teacher.teacher import Teacher


class Images(GeneratorImages):
    """What GDFQ's generator is made of and learns; its first training takes `synthesis.iterations`
    steps.
    """

    class_weight: float = setting(
        1.0, "weight of the cross-entropy to the image's class", source="GDFQ, Eq. 6", ge=0
    )
    bn_weight: float = setting(
        0.1, "β, weight of the BN statistics loss of the batch", source="GDFQ, Eq. 6", ge=0
    )

    def generator(self, teacher: Teacher) -> GeneratorRecipe:
        """A class each; cross-entropy + β · BN statistics (Eq. 6)."""
        conditional = self.conditional(teacher)
        bn_statistics = Term("bn_statistics", self.bn_weight, BN_STATISTICS["batch_var"])
        return GeneratorRecipe(
            method="gdfq",
            settings=self.model_dump(mode="json"),
            mixtures=SingleClasses(teacher.num_classes),
            latent=labelled_noise(teacher.num_classes, self.latent_features, conditional),
            objective=Objective([image_class_term(self.class_weight), bn_statistics]),
            conditional=conditional,
            batch_size=self.generator_batch_size,
            learning_rate=self.learning_rate,
        )

    def recipe(self, context: MethodContext) -> GeneratorRecipe:
        """The teacher is all there is to know."""
        return self.generator(context.teacher)


class Student(GeneratorStudent):
    """What GDFQ's student learns from an image."""

    def recipe(self) -> StudentRecipe:
        """Cross-entropy + distillation on images that change as the generator learns."""
        return self.beside(
            OnlineGenerator("gdfq", lambda settings, teacher: Images(**settings).generator(teacher))
        )


class GDFQ(Method):
    """GDFQ's hyperparameters: `images` is the generator's side, `student` the fine-tuning's."""

    presets: ClassVar[Presets] = {
        "small": {"images": {"generator_batch_size": 64}},
        "imagenet": {"images": {"generator_batch_size": 16}},
    }

    images: Images = Images()
    student: Student = Student()
