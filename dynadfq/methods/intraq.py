"""IntraQ: synthetic images that are as different within a class as real ones.

Zhong et al., CVPR 2022, arXiv 2111.09136. Local objects are enlarged (LOR), an image keeps its
distance to the centre of its class (MDC), and the teacher need not be certain of it (SIL). The
probability that SIL asks for is drawn once per image and is the largest entry of its soft label;
the student learns the class alone, whatever that probability.

Defaults are those of CIFAR-10. CIFAR-100: lowest_target 0.6, margin_low 0.02, margin_high 1.
ImageNet: 0.9, 0.3, 0.8 in the paper; the released script has 1, 0 and 2, which leave LOR alone at
work (shards are then independent). Differences:

- The paper lowers the target of every image (``soft_share: 1``), the released code, and this
    default, of half of them.
- The BN statistics loss is the released code's, on variances; the paper writes standard deviations.
- Centres are taken after each shard (the code's after each batch of a group), on images as they are
    stored.
- The released code calibrates ranges on the images of a generator; here it is
``quantization.ranges`` on these images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from dynadfq.methods.base import ImagesConfig, Method, MethodContext, Presets
from dynadfq.methods.student import LabelledStudent
from dynadfq.runtime.config import MAX_WEIGHT, setting

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.losses.objective import StudentStep, Term
    from dynadfq.synthesis.pixels import ImageRecipe

SCRIPT = "IntraQ, CIFAR-10 script"


def soft_inception(logits: Tensor, soft_labels: Tensor) -> Tensor:
    """Return the squared distance of the class's predicted probability to its target (SIL).

    The mean over the batch; the label's other entries are not used.
    """
    target, own = soft_labels.max(dim=1, keepdim=True)
    return (logits.softmax(dim=1).gather(1, own) - target).square().mean()


def class_term(weight: float) -> Term[StudentStep]:
    """Return the cross-entropy of the student's prediction to the label's largest class."""
    from torch.nn.functional import cross_entropy

    from dynadfq.losses.objective import Term

    return Term(
        "label", weight, lambda step: cross_entropy(step.logits, step.soft_labels.argmax(dim=1))
    )


class Images(ImagesConfig):
    """The objective of IntraQ's images."""

    class_weight: float = setting(
        1.0,
        "weight of the soft inception loss, added to the BN statistics loss",
        source=SCRIPT,
        ge=0,
        le=MAX_WEIGHT,
    )
    lowest_target: float = setting(
        0.95,
        "ε, lowest target probability of an image's class",
        source=f"{SCRIPT}; 1 asks for certainty",
        gt=0.5,
        le=1,
    )
    soft_share: float = setting(
        0.5,
        "probability that an image's target is below 1",
        source="IntraQ, released code; 1 in the paper",
        ge=0,
        le=1,
    )
    margin_low: float = setting(
        0.05,
        "λ_l, least cosine distance of an image to the centre of its class; 0 with margin_high 2 "
        "constrains nothing",
        source=SCRIPT,
        ge=0,
        le=2,
    )
    margin_high: float = setting(
        0.8,
        "λ_u, largest cosine distance of an image to the centre of its class",
        source=SCRIPT,
        ge=0,
        le=2,
    )
    crop_scale: float = setting(
        0.5,
        "η, smallest area of a local object, which is enlarged to the image's size",
        unit="fraction",
        source=SCRIPT,
        ge=0.01,
        le=1,
    )
    crop_share: float = setting(
        0.5,
        "probability that an iteration uses local objects, for all its images",
        source=SCRIPT,
        ge=0,
        le=1,
    )

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe of L_bns + SIL + MDC, with LOR."""
        from dynadfq.losses.objective import Objective, Term, bn_statistics_term
        from dynadfq.ops.augment import OccasionalCrops
        from dynadfq.synthesis.class_centres import ClassCentres
        from dynadfq.synthesis.labels import TargetProbabilityLabels
        from dynadfq.synthesis.pixels import ImageRecipe

        low = self.margin_low
        high = self.margin_high
        labels = TargetProbabilityLabels(
            context.teacher.num_classes, self.lowest_target, self.soft_share
        )
        terms = [
            bn_statistics_term(),
            Term(
                "class",
                self.class_weight,
                lambda step: soft_inception(step.logits, step.soft_labels),
                of_label=True,
            ),
        ]
        crops = OccasionalCrops(self.crop_scale, self.crop_share)
        if low == 0 and high == 2:
            return ImageRecipe(labels, Objective(terms), augment=crops)
        centres = ClassCentres(context.teacher)
        terms.append(Term("margin", 1.0, lambda step: centres.margin(step, low, high)))
        return ImageRecipe(labels, Objective(terms), augment=crops, remember=centres.remember)


class Student(LabelledStudent):
    """The loss of IntraQ's student: cross-entropy to the class, and distillation."""

    def terms(self) -> Sequence[Term[StudentStep]]:
        """Return the terms of the loss."""
        return [class_term(self.label_weight), self.distillation()]


class IntraQ(Method):
    """IntraQ: `images` changes the synthetic images, `student` the fine-tuning."""

    title: ClassVar[str] = "IntraQ"
    presets: ClassVar[Presets] = {
        "cifar100": {"images": {"lowest_target": 0.6, "margin_low": 0.02, "margin_high": 1.0}},
        "imagenet": {"images": {"lowest_target": 0.9, "margin_low": 0.3}},
    }

    images: Images = Images()
    student: Student = Student()
