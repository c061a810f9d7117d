"""Qimera: a generator of images near decision boundaries, from superposed class embeddings.

Choi et al., "Qimera: Data-free Quantization with Synthetic Boundary Supporting Samples", NeurIPS
2021, arXiv 2111.02625. It differs from the released code as GDFQ does, and in what the paper
describes and the code leaves out or does otherwise: the disentanglement mapping is on
(`disentangled`; a flag inverts it there); every embedding of a superposition is normalized by
itself; class-conditional BatchNorm adds up the classes' gains (`cbn_mix`; the code divides by their
number). The defaults are those of ResNet-20 on CIFAR-10.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from dynadfq.methods.base import Method, Presets
from dynadfq.methods.images import ClassGeneratorImages, GeneratorImages
from dynadfq.methods.student import GeneratorStudent
from dynadfq.runtime.config import MAX_CLASSES, setting
from dynadfq.synthesis.config import Mixing

if TYPE_CHECKING:
    import torch

    from dynadfq.losses.objective import SynthesisStep, Term
    from dynadfq.synthesis.generator import GeneratorRecipe
    from dynadfq.synthesis.latent import Mixture, SuperposedEmbeddings
    from dynadfq.teacher.teacher import Teacher

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
        import torch

        from dynadfq.synthesis.latent import SingleClasses, mix

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
    import torch

    from dynadfq.synthesis.latent import SuperposedEmbeddings

    vectors = teacher.class_weights.float()
    if start == "random":
        vectors = torch.randn(vectors.shape)
    return SuperposedEmbeddings(vectors, mapped, noise_scale)


class Images(ClassGeneratorImages):
    """Qimera's generator, which first trains for `synthesis.iterations` steps."""

    method: ClassVar[str] = "qimera"

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
        le=MAX_CLASSES,
    )
    embedding: Literal["random", "classifier"] = setting(
        "random",
        "initial class embeddings: N(0, 1), or the rows of the teacher's classifier",
        source=f"{CODE}; CIFAR-100: classifier",
    )
    noise_scale: float = setting(
        1.0, "standard deviation of the noise added to an embedding", source=CODE, ge=0, le=1000
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

    def generator(self, teacher: Teacher, *against: Term[SynthesisStep]) -> GeneratorRecipe:
        """Return the recipe of a generator of superposed classes."""
        mapped = self.latent_features if self.disentangled else None
        return replace(
            super().generator(teacher, *against),
            mixtures=Superpositions(
                teacher.num_classes, self.superposed_classes, self.superposed_share
            ),
            latent=partial(embeddings, teacher, self.embedding, mapped, self.noise_scale),
            mixing=self.cbn_mix,
        )


class Student(GeneratorStudent):
    """The loss of Qimera's student, on images that change as the generator learns."""

    images: ClassVar[type[GeneratorImages]] = Images


class Qimera(Method):
    """Qimera: `images` changes the generator, `student` the fine-tuning."""

    title: ClassVar[str] = "Qimera"
    trains_generator: ClassVar[bool] = True
    presets: ClassVar[Presets] = {
        "small": {"images": {"generator_batch_size": 64}},
        "cifar100": {"images": {"superposed_classes": 10, "embedding": "classifier"}},
        "cifar100-w5": {"images": {"superposed_classes": 50}},
        "imagenet": {"images": {"generator_batch_size": 16, "superposed_classes": 100}},
        "imagenet-resnet50": {"images": {"superposed_share": 0.7, "embedding": "classifier"}},
        "imagenet-resnet50-w4": {"images": {"superposed_classes": 500}},
    }

    images: Images = Images()
    student: Student = Student()
