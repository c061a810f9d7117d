"""Image settings that several methods share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from dynadfq.methods.base import ImagesConfig, MethodContext
from dynadfq.runtime.config import (
    MAX_BATCH,
    MAX_RATE,
    MAX_WEIGHT,
    MAX_WIDTH,
    PAPER,
    setting,
)
from dynadfq.synthesis.config import LARGE

if TYPE_CHECKING:
    from dynadfq.losses.objective import SynthesisStep, Term
    from dynadfq.ops.augment import OccasionalCrops
    from dynadfq.synthesis.generator import GeneratorRecipe
    from dynadfq.synthesis.pixels import ImageRecipe
    from dynadfq.teacher.teacher import Teacher

GENERATORS = "GDFQ, Qimera and AdaDFQ, released code"


class BaselineImages(ImagesConfig):
    """The objective of DynaDFQ's baseline (Eq. 7): BN statistics and the class."""

    class_weight: float = setting(
        0.1,
        "β, weight of the cross-entropy to the image's label, added to the BN statistics loss; "
        "0 uses no labels",
        source=f"{PAPER}, Eq. 7; value in Sec. 4.1",
        ge=0,
        le=MAX_WEIGHT,
    )
    bn_statistics: Literal["per_image_std", "batch_var"] = setting(
        "batch_var",
        "BN statistics loss: each image's mean and std (sum over channels), or the batch's mean "
        "and variance (average)",
        source="batch_var: IntraQ, HAST, GDFQ; per_image_std: ZeroQ's code, which Eq. 7 builds on",
    )

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe with the objective L_bns + β · CE (Eq. 7)."""
        from dynadfq.losses.objective import Objective, bn_statistics_term, image_class_term
        from dynadfq.synthesis.pixels import ImageRecipe

        terms = [bn_statistics_term(kind=self.bn_statistics), image_class_term(self.class_weight)]
        return ImageRecipe(self.labels(context), Objective(terms))


class UnlabelledImages(ImagesConfig):
    """Images of ZeroQ and DSG, which follow no label and no prior by default."""

    class_weight: float = setting(
        0.0,
        "weight of the cross-entropy to a random class; 0 uses no labels",
        source="ZeroQ and DSG; 1 gives the literature's +IL, 2 is in DSG's released code",
        ge=0,
        le=MAX_WEIGHT,
    )
    prior_weight: float = setting(
        0.0,
        "weight of total variation + image norm, a prior of smooth images; 0 is off",
        source="0.01: DSG's released code",
        ge=0,
        le=MAX_WEIGHT,
    )

    def optional_terms(self) -> list[Term[SynthesisStep]]:
        """Return the cross-entropy to a random class and the prior."""
        from dynadfq.losses.image_priors import image_prior_term
        from dynadfq.losses.objective import image_class_term

        return [image_class_term(self.class_weight), image_prior_term(self.prior_weight)]


class HardSampleImages(ImagesConfig):
    """Images of HAST and SynQ, with the hard-sample loss in place of the cross-entropy."""

    class_weight: float = setting(
        10.0,
        "β, weight of the hard-sample loss, added to the BN statistics loss",
        source="HAST, released configuration for CIFAR; ImageNet: 0.1",
        ge=0,
        le=MAX_WEIGHT,
    )
    difficulty_power: float = setting(
        2.0,
        "γ, power of the difficulty 1 - p by which an image's cross-entropy is weighted; 0 is "
        "plain cross-entropy",
        source="HAST, released configuration for CIFAR; ImageNet: 0.5",
        ge=0,
        le=100,
    )
    crop_scale: float = setting(
        1.0,
        "smallest area of the random crops that half of the iterations use; 1 is no crops",
        unit="fraction of the image",
        source="HAST, released configuration for CIFAR; ImageNet: 0.4",
        ge=0.01,
        le=1,
    )

    def crops(self) -> OccasionalCrops | None:
        """Return the random crops; None where there are none."""
        from dynadfq.ops.augment import OccasionalCrops

        return OccasionalCrops(self.crop_scale) if self.crop_scale < 1 else None

    def hard_samples(self) -> Term[SynthesisStep]:
        """Return the hard-sample loss."""
        from dynadfq.losses.hard_samples import hard_sample_term

        return hard_sample_term(self.class_weight, self.difficulty_power)


class GeneratorImages(ImagesConfig):
    """Settings of every generator, which first trains for `synthesis.iterations` steps."""

    method: ClassVar[str]  # the name under which a set of images records its generator

    latent_features: int = setting(
        100,
        "length of the generator's latent vector",
        unit="features",
        source=GENERATORS,
        ge=1,
        le=MAX_WIDTH,
    )
    class_conditional: Literal["large_images", "always", "never"] = setting(
        "large_images",
        f"where BatchNorm has gains and biases of the class: in images of more than {LARGE} "
        "pixels, in all, in none",
        source=f"{GENERATORS} (ImageNet)",
    )
    generator_batch_size: int = setting(
        200,
        "images per step of the generator's first training; an online generator uses "
        "`finetune.batch_size`",
        unit="images",
        source="GDFQ and Qimera, released code (CIFAR; 16 for ImageNet)",
        ge=2,
        le=MAX_BATCH,
    )
    learning_rate: float = setting(
        1e-3,
        "initial learning rate of Adam on the generator; an online generator's decays with "
        "the student's",
        source=GENERATORS,
        gt=0,
        le=MAX_RATE,
    )

    def conditional(self, teacher: Teacher) -> bool:
        """Return whether the generator has class-conditional BatchNorm."""
        large = max(teacher.input_shape[1:]) > LARGE
        return self.class_conditional == "always" or (
            self.class_conditional == "large_images" and large
        )

    def terms(self) -> list[Term[SynthesisStep]]:
        """Return the generator's objective without a student."""
        raise NotImplementedError

    def generator(self, teacher: Teacher, *against: Term[SynthesisStep]) -> GeneratorRecipe:
        """Return the generator's recipe.

        Args:
            teacher: the network that the images are made for.
            against: further terms, which compare the teacher with a student.
        """
        from dynadfq.losses.objective import Objective
        from dynadfq.synthesis.generator import GeneratorRecipe
        from dynadfq.synthesis.latent import SingleClasses, labelled_noise

        conditional = self.conditional(teacher)
        return GeneratorRecipe(
            method=self.method,
            settings=self.model_dump(mode="json"),
            mixtures=SingleClasses(teacher.num_classes),
            latent=labelled_noise(teacher.num_classes, self.latent_features, conditional),
            objective=Objective([*self.terms(), *against]),
            conditional=conditional,
            batch_size=self.generator_batch_size,
            learning_rate=self.learning_rate,
            against_student=bool(against),
        )

    def recipe(self, context: MethodContext) -> GeneratorRecipe:
        """Return the generator's recipe without terms against a student."""
        return self.generator(context.teacher)


class ClassGeneratorImages(GeneratorImages):
    """The objective of GDFQ's and Qimera's generators: the class and BN statistics."""

    class_weight: float = setting(
        1.0,
        "weight of the cross-entropy to the image's label",
        source="GDFQ, Eq. 6; Qimera, released code",
        ge=0,
        le=MAX_WEIGHT,
    )
    bn_weight: float = setting(
        0.1,
        "β, weight of the BN statistics loss of the batch",
        source="GDFQ, Eq. 6; Qimera, released code",
        ge=0,
        le=MAX_WEIGHT,
    )

    def terms(self) -> list[Term[SynthesisStep]]:
        """Return cross-entropy + β · BN statistics (GDFQ, Eq. 6)."""
        from dynadfq.losses.objective import bn_statistics_term, image_class_term

        return [image_class_term(self.class_weight), bn_statistics_term(self.bn_weight)]
