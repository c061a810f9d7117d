"""AdaDFQ: a generator of images on which teacher and student differ, but not too much.

Qian et al., "Adaptive Data-Free Quantization", CVPR 2023, arXiv 2303.06869. The generator is
GDFQ's. Before there is a student it stands for itself: the teacher agrees with it, and of the game
the agreement term is left. The released code plays against the student, not yet trained, from the
first step, and differs in three more ways: it differentiates through the batch's smallest entropy
(`margin_min_detach`), guards no division, and averages activation ranges from the first epochs on.
Its student's loss, kept here, has a temperature, which the paper's (E[1 - H']) has not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dynadfq.methods.base import Method, Presets
from dynadfq.methods.images import GeneratorImages
from dynadfq.methods.student import OnlineStudent
from dynadfq.runtime.config import MAX_BATCH, MAX_TEMPERATURE, MAX_WEIGHT, MIN_TEMPERATURE, setting

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.losses.objective import StudentStep, SynthesisStep, Term
    from dynadfq.synthesis.generator import GeneratorRecipe
    from dynadfq.teacher.teacher import Teacher

CODE = "AdaDFQ, released code"


def zero_sum(teacher_logits: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Return T² · (log classes - mean entropy of softmax((teacher - student) / T)).

    It is 0 where both agree. Less its constant, T² · log classes, this is the loss of AdaDFQ's
    student; for high T it is half the variance of the differences over the classes, as the KL
    divergence is.
    """
    log_p = ((teacher_logits - logits) / temperature).log_softmax(dim=1)
    gap = log_p + math.log(logits.shape[1])
    return (log_p.exp() * gap).sum(dim=1).mean() * temperature**2


class Images(GeneratorImages):
    """AdaDFQ's generator, which first trains for `synthesis.iterations` steps."""

    method: ClassVar[str] = "adadfq"

    generator_batch_size: int = setting(
        16,
        "images per step of the generator's first training; an online generator uses "
        "`finetune.batch_size`",
        unit="images",
        source=CODE,
        ge=2,
        le=MAX_BATCH,
    )
    balance_weight: float = setting(
        1.0,
        "β, weight of agreement and disagreement together",
        source="AdaDFQ, Eq. 12",
        ge=0,
        le=MAX_WEIGHT,
    )
    agreement_weight: float = setting(
        0.1,
        "α_as, weight of the cross-entropy to the class where teacher and student agree",
        source="AdaDFQ, Eq. 9",
        ge=0,
        le=MAX_WEIGHT,
    )
    bn_weight: float = setting(
        1.0,
        "γ, weight of the BN statistics loss of the batch",
        source="AdaDFQ, Eq. 12",
        ge=0,
        le=MAX_WEIGHT,
    )

    def terms(self) -> list[Term[SynthesisStep]]:
        """Return agreement and BN statistics (Eq. 12)."""
        from dynadfq.losses.adaptability import agreement_term
        from dynadfq.losses.objective import bn_statistics_term

        return [
            agreement_term(self.balance_weight * self.agreement_weight),
            bn_statistics_term(self.bn_weight),
        ]


class Student(OnlineStudent):
    """The loss of AdaDFQ's student, and the generator's terms against it."""

    images: ClassVar[type[GeneratorImages]] = Images

    temperature: float = setting(
        20.0,
        "T, divides the difference of logits in the student's loss",
        source=f"{CODE} (CIFAR; 5 for ImageNet)",
        ge=MIN_TEMPERATURE,
        le=MAX_TEMPERATURE,
    )
    disagreement_weight: float = setting(
        0.2,
        "α_ds, weight of the cross-entropy to the class where teacher and student disagree",
        source="AdaDFQ, Eq. 9",
        ge=0,
        le=MAX_WEIGHT,
    )
    lower_margin: float = setting(
        0.1,
        "λ_l, below this normalized entropy an image is too hard",
        source="AdaDFQ, Eq. 10",
        ge=0,
        le=1,
    )
    upper_margin: float = setting(
        0.8,
        "λ_u, above this normalized entropy an image is too easy",
        source="AdaDFQ, Eq. 11",
        ge=0,
        le=1,
    )
    margin_min_detach: bool = setting(
        True,
        "the smallest entropy of the batch counts as a constant",
        source=f"dynadfq; false: {CODE}",
    )

    def terms(self) -> list[Term[StudentStep]]:
        """Return the only term of the loss, which uses no labels."""
        from dynadfq.losses.objective import Term

        return [
            Term("zero_sum", 1.0, lambda s: zero_sum(s.teacher_logits, s.logits, self.temperature))
        ]

    def generator(self, settings: Mapping[str, Any], teacher: Teacher) -> GeneratorRecipe:
        """Return the generator's recipe, with terms against the student (Eq. 12)."""
        from dynadfq.losses.adaptability import disagreement_term, margin_term

        images = Images(**settings)
        return images.generator(
            teacher,
            margin_term(self.lower_margin, self.upper_margin, self.margin_min_detach),
            disagreement_term(images.balance_weight * self.disagreement_weight),
        )


class AdaDFQ(Method):
    """AdaDFQ: `images` changes the generator, `student` its terms and the fine-tuning."""

    title: ClassVar[str] = "AdaDFQ"
    trains_generator: ClassVar[bool] = True
    presets: ClassVar[Presets] = {
        "imagenet": {"student": {"temperature": 5.0}},
        "imagenet-resnet18-w4": {"student": {"lower_margin": 0.3}},
        "imagenet-resnet18-w5": {"student": {"lower_margin": 0.3, "disagreement_weight": 0.3}},
        "imagenet-mobilenetv2-w4": {"student": {"disagreement_weight": 0.3}},
        "imagenet-resnet50": {"student": {"lower_margin": 0.4}},
        "imagenet-resnet50-w4": {"student": {"lower_margin": 0.3, "disagreement_weight": 0.1}},
        "imagenet-resnet50-w5": {"student": {"lower_margin": 0.3}},
    }

    images: Images = Images()
    student: Student = Student()
