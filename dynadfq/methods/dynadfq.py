"""DynaDFQ: similar classes share an image's soft label, and each image chooses its bit-widths.

"Difficulty, Diversity, and Plausibility: Dynamic Data-Free Quantization", WACV 2025; equations and
sections are numbered as in the ICLR 2024 submission. Where the paper is silent, docs/params.md
names the choice and its source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dynadfq.methods.base import Method, MethodContext
from dynadfq.methods.images import BaselineImages
from dynadfq.methods.student import LabelledStudent
from dynadfq.runtime.config import LINEAGE, MAX_CLASSES, MAX_WEIGHT, PAPER, setting

if TYPE_CHECKING:
    from dynadfq.synthesis.labels import SimilarClassLabels
    from dynadfq.training.parts import BatchStream, TrainingContext
    from dynadfq.training.recipe import StudentRecipe


class Images(BaselineImages):
    """DynaDFQ's labels, and the objective of its images (Eqs. 5 to 7)."""

    similar_classes: int = setting(
        2,
        "K, classes that share a soft label: the image's own and its most similar ones",
        unit="classes",
        source=f"{PAPER}, Eq. 6; value in Sec. 4.1",
        ge=1,
        le=MAX_CLASSES,
    )
    diverse_ratio: float = setting(
        0.5,
        "r, share of each batch that gets a soft label over similar classes; the rest are one-hot",
        unit="fraction",
        source=f"{PAPER}, Sec. 3.2; value in Sec. 4.1",
        ge=0,
        le=1,
    )
    concentration: float = setting(
        1.0,
        "α of the Dirichlet distribution of label probabilities: 1 is uniform, more is closer to "
        "equal shares",
        source=f"{PAPER}, Eq. 6 (α = 1)",
        ge=0.01,
        le=1e4,
    )

    def labels(self, context: MethodContext) -> SimilarClassLabels:
        """Return a sampler of labels over similar classes (Eq. 6)."""
        from dynadfq.synthesis.labels import SimilarClassLabels

        return SimilarClassLabels(
            context.similarity, self.similar_classes, self.diverse_ratio, self.concentration
        )


class Student(LabelledStudent):
    """The loss of DynaDFQ's student, and mixup of easy images (Eqs. 11 to 13)."""

    distillation_weight: float = setting(
        20.0,
        "weight of T² · KL(teacher ‖ student), averaged over the batch; Eq. 11 read literally: 1, "
        "at T = 1",
        source=LINEAGE,
        ge=0,
        le=MAX_WEIGHT,
    )
    mixup_share: float = setting(
        0.25,
        "p, share of each batch, the easiest by cross-entropy, that is mixed in pairs; 0 is off",
        unit="fraction",
        source=f"{PAPER}, Eqs. 12 and 13; value in Sec. 4.1",
        ge=0,
        le=1,
    )
    mixup_start: float = setting(
        0.5,
        "when mixup begins",
        unit="fraction of the steps",
        source=f"{PAPER}, Sec. 4.1",
        ge=0,
        le=1,
    )

    def recipe(self) -> StudentRecipe:
        """Return a recipe of CE + KL (Eq. 11) on images of which the easy ones are mixed."""
        from dynadfq.training.recipe import StudentRecipe

        return StudentRecipe(self.loss, self.batches)

    def batches(self, context: TrainingContext) -> BatchStream:
        """Return the stored images, from some step on with easy images mixed (Eqs. 12, 13)."""
        from dynadfq.training.batches import StoredBatches
        from dynadfq.training.mixup import EasyMixup

        stored = StoredBatches(context)
        if not self.mixup_share:
            return stored
        return EasyMixup(stored, self.loss(context), context, self.mixup_share, self.mixup_start)


class DynaDFQ(Method):
    """DynaDFQ: `images` changes the synthetic images, `student` the fine-tuning."""

    title: ClassVar[str] = "DynaDFQ"

    images: Images = Images()
    student: Student = Student()
