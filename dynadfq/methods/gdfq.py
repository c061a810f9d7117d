"""GDFQ: images from a class-conditional generator, which continues to train during fine-tuning.

Xu et al., "Generative Low-bitwidth Data Free Quantization", ECCV 2020, arXiv 2003.03603. It differs
from the released code in three ways: activation ranges come from the generator's images when its
first training is over, not from its first epochs; Adam starts afresh for the online generator; and
the KL is averaged over the batch (`kd_reduction`).
"""

from __future__ import annotations

from typing import ClassVar

from dynadfq.losses.objective import Objective, bn_statistics_term, image_class_term
from dynadfq.methods.base import GeneratorImages, Method, MethodContext, Presets
from dynadfq.methods.student import GeneratorStudent, beside_generator
from dynadfq.runtime.config import setting
from dynadfq.synthesis.generator import GeneratorRecipe
from dynadfq.synthesis.latent import SingleClasses, labelled_noise
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.recipe import StudentRecipe


class Images(GeneratorImages):
    """GDFQ's generator, which first trains for `synthesis.iterations` steps."""

    class_weight: float = setting(
        1.0, "weight of the cross-entropy to the image's class", source="GDFQ, Eq. 6", ge=0
    )
    bn_weight: float = setting(
        0.1, "β, weight of the BN statistics loss of the batch", source="GDFQ, Eq. 6", ge=0
    )

    def generator(self, teacher: Teacher) -> GeneratorRecipe:
        """Return a recipe of one class per image; cross-entropy + β · BN statistics (Eq. 6)."""
        conditional = self.conditional(teacher)
        return GeneratorRecipe(
            method="gdfq",
            settings=self.model_dump(mode="json"),
            mixtures=SingleClasses(teacher.num_classes),
            latent=labelled_noise(teacher.num_classes, self.latent_features, conditional),
            objective=Objective(
                [image_class_term(self.class_weight), bn_statistics_term(self.bn_weight)]
            ),
            conditional=conditional,
            batch_size=self.generator_batch_size,
            learning_rate=self.learning_rate,
        )

    def recipe(self, context: MethodContext) -> GeneratorRecipe:
        """Return the generator's recipe."""
        return self.generator(context.teacher)


class Student(GeneratorStudent):
    """The loss of GDFQ's student, on images that change as the generator learns."""

    def recipe(self) -> StudentRecipe:
        """Return a recipe with an online generator, or with the stored images."""
        if not self.online_generator:
            return super().recipe()
        return beside_generator(
            self.loss, "gdfq", lambda s, teacher: Images(**s).generator(teacher)
        )


class GDFQ(Method):
    """GDFQ: `images` changes the generator, `student` the fine-tuning."""

    title: ClassVar[str] = "GDFQ"
    trains_generator: ClassVar[bool] = True
    presets: ClassVar[Presets] = {
        "small": {"images": {"generator_batch_size": 64}},
        "imagenet": {"images": {"generator_batch_size": 16}},
    }

    images: Images = Images()
    student: Student = Student()
