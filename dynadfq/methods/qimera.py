"""Qimera: a generator's images of several classes at once, from superposed embeddings, support the
decision boundaries.

Choi et al., "Qimera: Data-free Quantization with Synthetic Boundary Supporting Samples", NeurIPS
2021, arXiv 2111.02625. It differs from the released code as GDFQ does, and in what the paper
describes and the code leaves out or does otherwise: the disentanglement mapping is on
(`disentangled`; a flag inverts it there); every embedding of a superposition is normalized by
itself; class-conditional BatchNorm adds up the classes' gains (`cbn_mix`; the code divides by their
number). The defaults are those of ResNet-20 on CIFAR-10.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch

from dynadfq.losses.objective import Objective, bn_statistics_term, image_class_term
from dynadfq.methods.base import GeneratorImages, Method, MethodContext, Presets
from dynadfq.methods.student import GeneratorStudent, beside_generator
from dynadfq.runtime.config import setting
from dynadfq.synthesis.generator import GeneratorRecipe
from dynadfq.synthesis.generator_network import Mixing
from dynadfq.synthesis.latent import Mixture, SingleClasses, SuperposedEmbeddings, mix
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.recipe import StudentRecipe

CODE = "Qimera, released code"


@dataclass(frozen=True)
class Superpositions:
    """Batches of single classes and, at random, batches whose images are of several classes.

    The several are drawn with replacement and weighted by a softmax of normal numbers.
    """

    num_classes: int
    superposed: int  # classes in an image
    share: float  # probability of a batch of superpositions

    def __call__(self, count: int, rng: torch.Generator) -> Mixture:
        """Return ``count`` images of one class each, or of ``superposed`` each."""
        if torch.rand((), generator=rng) >= self.share:
            return SingleClasses(self.num_classes)(count, rng)
        classes = torch.randint(self.num_classes, (count, self.superposed), generator=rng)
        weights = torch.randn(count, self.superposed, generator=rng).softmax(dim=1)
        return mix(classes, weights, self.num_classes)


def embeddings(
    teacher: Teacher, start: str, mapped: int | None, noise_scale: float
) -> SuperposedEmbeddings:
    """Return embeddings that start from the classifier's weights, or from N(0, 1).

    Args:
        teacher: its classifier gives the length of a class's vector.
        start: ``classifier`` or ``random``.
        mapped: length after the linear mapping; None leaves it out.
        noise_scale: standard deviation of the noise added to an embedding.
    """
    vectors = teacher.class_weights.float()
    if start == "random":
        vectors = torch.randn(vectors.shape)
    return SuperposedEmbeddings(vectors, mapped, noise_scale)


class Images(GeneratorImages):
    """Qimera's generator, which first trains for `synthesis.iterations` steps."""

    class_weight: float = setting(
        1.0, "weight of the cross-entropy to the image's soft label", source=CODE, ge=0
    )
    bn_weight: float = setting(
        0.1, "weight of the BN statistics loss of the batch", source=CODE, ge=0
    )
    superposed_share: float = setting(
        0.4,
        "p, share of batches that are superpositions",
        unit="fraction",
        source="Qimera, Sec. 5.1",
        ge=0,
        le=1,
    )
    superposed_classes: int = setting(
        2,
        "K, classes in a superposition",
        unit="classes",
        source=f"{CODE}; CIFAR-100: 10 (W4A4), 50 (W5A5); ImageNet: 100 to 500",
        ge=1,
    )
    embedding: Literal["random", "classifier"] = setting(
        "random",
        "initial class embeddings: N(0, 1), or the rows of the teacher's classifier",
        source=f"{CODE}; CIFAR-100: classifier",
    )
    noise_scale: float = setting(
        1.0, "standard deviation of the noise added to an embedding", source=CODE, ge=0
    )
    disentangled: bool = setting(
        True,
        "a linear mapping to `latent_features` after the superposition; false: the embedding's own "
        "length",
        source="Qimera, Sec. 4.3; off in its released code",
    )
    cbn_mix: Mixing = setting(
        "sum",
        "class-conditional BatchNorm of a superposition: weighted sum of its classes' gains and "
        "biases, or that over K",
        source="mean: Qimera, released code; sum: dynadfq",
    )

    def generator(self, teacher: Teacher) -> GeneratorRecipe:
        """Return a recipe of superposed classes; soft cross-entropy + BN statistics."""
        mapped = self.latent_features if self.disentangled else None
        return GeneratorRecipe(
            method="qimera",
            settings=self.model_dump(mode="json"),
            mixtures=Superpositions(
                teacher.num_classes, self.superposed_classes, self.superposed_share
            ),
            latent=partial(embeddings, teacher, self.embedding, mapped, self.noise_scale),
            objective=Objective(
                [image_class_term(self.class_weight), bn_statistics_term(self.bn_weight)]
            ),
            conditional=self.conditional(teacher),
            mixing=self.cbn_mix,
            batch_size=self.generator_batch_size,
            learning_rate=self.learning_rate,
        )

    def recipe(self, context: MethodContext) -> GeneratorRecipe:
        """Return the generator's recipe."""
        return self.generator(context.teacher)


class Student(GeneratorStudent):
    """The loss of Qimera's student, on images that change as the generator learns."""

    def recipe(self) -> StudentRecipe:
        """Return a recipe with an online generator, or with the stored images."""
        if not self.online_generator:
            return super().recipe()
        return beside_generator(
            self.loss, "qimera", lambda s, teacher: Images(**s).generator(teacher)
        )


class Qimera(Method):
    """Qimera: `images` changes the generator, `student` the fine-tuning."""

    title: ClassVar[str] = "Qimera"
    trains_generator: ClassVar[bool] = True
    presets: ClassVar[Presets] = {
        "small": {"images": {"generator_batch_size": 64}},
        "cifar100": {"images": {"superposed_classes": 10, "embedding": "classifier"}},
        "imagenet": {"images": {"generator_batch_size": 16, "superposed_classes": 100}},
    }

    images: Images = Images()
    student: Student = Student()
