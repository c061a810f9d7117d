"""SynQ: low-pass filtered images, aligned class activation maps, and labels of easy images only.

Kim et al., "SynQ: Accurate Zero-shot Quantization by Synthesis-aware Fine-tuning", ICLR 2025,
arXiv 2603.18423. The images are the paper's: HAST's loss beside the BN statistics and those of
calibration centres. The released scripts run without centres, which is `bn_weight: 1` and
`layered_weight: 0`. Differences from the released code: activation maps are of the label's class
and count negative weights, as the paper says, and are compared at their own resolution; the layered
loss is not divided by the batch size; images that the label does not teach add no constant to its
loss; the low-pass filter's cutoff shrinks with the image (`scale_cutoff`). Feature alignment is the
code's, not in the paper's Eq. 6. Activation ranges come from the method's own images, not from a
generator's. Defaults are those of CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from dynadfq.methods.base import Method, MethodContext, Presets
from dynadfq.methods.images import HardSampleImages
from dynadfq.methods.student import HardSampleStudent
from dynadfq.runtime.config import MAX_RATE, MAX_WEIGHT, setting

if TYPE_CHECKING:
    from dynadfq.synthesis.pixels import ImageRecipe
    from dynadfq.teacher.teacher import Teacher
    from dynadfq.training.batches import StoredBatches
    from dynadfq.training.parts import BatchLoss, TrainingContext
    from dynadfq.training.recipe import StudentRecipe

CODE = "SynQ, released code"
PAPER = "SynQ, Sec. 5"
IMAGE_SIDE = 224  # pixels, of the images that the cutoff is given for


class Images(HardSampleImages):
    """The objective of SynQ's images."""

    bn_weight: float = setting(
        0.4,
        "α₁, weight of the BN statistics loss",
        source=f"{CODE}, layered mode",
        ge=0,
        le=MAX_WEIGHT,
    )
    layered_weight: float = setting(
        0.02,
        "α₂, weight of the distance to the centres' statistics in the deeper layers; 0 makes no "
        "centres",
        source=f"{CODE}, layered mode",
        ge=0,
        le=MAX_WEIGHT,
    )
    class_weight: float = setting(
        0.1, "β, weight of the hard-sample loss", source=f"{CODE}, scripts", ge=0, le=MAX_WEIGHT
    )
    difficulty_power: float = setting(
        0.5,
        "γ, power of the difficulty in the hard-sample loss",
        source=f"{CODE}, scripts",
        ge=0,
        le=100,
    )
    centre_effort: float = setting(
        1.5,
        "iterations per centre",
        unit="synthesis.iterations",
        source=f"{PAPER}: 1500 beside 1000",
        gt=0,
        le=100,
    )
    centre_learning_rate: float = setting(
        0.05, "constant rate of Adam on the centres' pixels", source=PAPER, gt=0, le=MAX_RATE
    )

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe of BN statistics, the centres' statistics and the hard-sample loss."""
        from dynadfq.losses.objective import Objective, Term, bn_statistics_term
        from dynadfq.synthesis.calibration_centres import CentredRecipe, Centres
        from dynadfq.synthesis.pixels import ImageRecipe

        terms = [bn_statistics_term(self.bn_weight), self.hard_samples()]
        labels = self.labels(context)
        crops = self.crops()
        if not self.layered_weight:
            return ImageRecipe(labels, Objective(terms), augment=crops)
        centres = Centres(self.centre_effort, self.centre_learning_rate)
        terms.append(Term("centres", self.layered_weight, centres.distance))
        return CentredRecipe(labels, Objective(terms), augment=crops, centres=centres)


class Student(HardSampleStudent):
    """The loss of SynQ's student on each image and on a harder version of it."""

    label_weight: float = setting(
        0.5, "λ_CE, weight of an easy image's cross-entropy", source=CODE, ge=0, le=MAX_WEIGHT
    )
    hardest_label: float = setting(
        0.7,
        "τ, difficulty 1 - p above which an image's label is ignored",
        source=f"{PAPER}, CIFAR-10; CIFAR-100 and ImageNet: 0.5",
        ge=0,
        le=1,
    )
    map_weight: float = setting(
        50.0, "λ_CAM, weight of the activation maps' distance", source=CODE, ge=0, le=MAX_WEIGHT
    )
    perturbed_attention: bool = setting(
        False,
        "feature alignment on the harder image too",
        source=f"{CODE}, CIFAR; true for ImageNet",
    )
    cutoff: float = setting(
        80.0,
        "D₀, frequency at which the low-pass filter's gain is 0.61",
        unit="cycles per image",
        source=CODE,
        ge=0.1,
        le=1e9,
    )
    scale_cutoff: bool = setting(
        True,
        f"the cutoff is that of images of {IMAGE_SIDE} pixels and shrinks with their side; false: "
        "as it is",
        source=f"dynadfq: on 32 pixels, 80 would filter next to nothing; false: {CODE}",
    )

    def recipe(self) -> StudentRecipe:
        """Return a recipe of filtered images and an aligned, perturbed loss."""
        from dynadfq.training.recipe import StudentRecipe

        return StudentRecipe(self.loss, self.batches, require=self.require)

    def features(self, teacher: Teacher) -> dict[str, Sequence[str]]:
        """Return the modules at whose outputs features are compared."""
        from dynadfq.losses.attention import BRANCHES, LAST_MAP
        from dynadfq.training.features import last_convolution, residual_branches

        compared: dict[str, Sequence[str]] = {}
        if self.attention_weight:
            compared[BRANCHES] = residual_branches(teacher)
        if self.map_weight:
            compared[LAST_MAP] = [last_convolution(teacher)]
        return compared

    def require(self, teacher: Teacher) -> None:
        """Raise a ValueError where the network has no feature maps."""
        self.features(teacher)

    def batches(self, context: TrainingContext) -> StoredBatches:
        """Return the stored images, low-pass filtered."""
        from dynadfq.ops.low_pass import low_pass
        from dynadfq.training.batches import StoredBatches

        side = IMAGE_SIDE if self.scale_cutoff else None
        return StoredBatches(context, partial(low_pass, cutoff=self.cutoff, side=side))

    def loss(self, context: TrainingContext) -> BatchLoss:
        """Return distillation, easy labels, feature and map alignment.

        Distillation and labels, on request also features, are computed on harder images too. These
        are made without the activation maps' distance, and the labels are those of images that
        were easy before.
        """
        from dynadfq.losses.attention import attention_term, map_term
        from dynadfq.losses.hard_samples import easy_label_term, easy_labels
        from dynadfq.losses.objective import label_term
        from dynadfq.training.loss import PerturbedLoss, StudentLoss

        features = self.features(context.teacher)
        attention, maps = attention_term(self.attention_weight), map_term(self.map_weight)
        labels = easy_label_term(self.label_weight, self.hardest_label)
        terms = [self.distillation(), labels, attention, maps]
        loss = StudentLoss(context, terms, features, teacher_gradients=self.map_weight > 0)
        if not self.perturbation:
            return loss
        terms = [self.distillation(), label_term(self.label_weight)]
        harder = StudentLoss(context, terms)
        if self.perturbed_attention:
            harder = StudentLoss(context, [*terms, attention], features)
        easy = partial(easy_labels, hardest=self.hardest_label)
        return PerturbedLoss(loss, self.perturbation, harder, apart=[maps], labels=easy)


class SynQ(Method):
    """SynQ: `images` changes the synthetic images, `student` the fine-tuning."""

    title: ClassVar[str] = "SynQ"
    presets: ClassVar[Presets] = {
        "cifar100": {"student": {"hardest_label": 0.5}},
        "imagenet": {
            "images": {"crop_scale": 0.4},
            "student": {"hardest_label": 0.5, "perturbed_attention": True},
        },
    }

    images: Images = Images()
    student: Student = Student()
