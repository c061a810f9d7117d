"""DynaDFQ: similar classes share an image's soft label, and each image chooses its bit-widths.

"Difficulty, Diversity, and Plausibility: Dynamic Data-Free Quantization", WACV 2025; equations and
sections are numbered as in the ICLR 2024 submission. Where the paper is silent, docs/params.md
names the choice and its source.
"""

from __future__ import annotations

from dataclasses import replace

from dynadfq.methods.base import (
    BaselineImages,
    DistilledStudent,
    Method,
    MethodContext,
    StudentRecipe,
)
from dynadfq.runtime.config import LINEAGE, PAPER, setting
from dynadfq.synthesis.labels import SimilarClassLabels


class Images(BaselineImages):
    """What DynaDFQ's images are of, and what is optimized (Eqs. 5 to 7)."""

    similar_classes: int = setting(
        2,
        "K, classes that share a soft label: the image's own and its most similar ones",
        unit="classes",
        source=f"{PAPER}, Eq. 6; value in Sec. 4.1",
        ge=1,
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
        "α of the Dirichlet distribution of label probabilities: 1 is uniform, more is closer to equal shares",
        source=f"{PAPER}, Eq. 6 (α = 1)",
        gt=0,
    )

    def labels(self, context: MethodContext) -> SimilarClassLabels:
        """Labels over similar classes (Eq. 6)."""
        return SimilarClassLabels(
            context.similarity, self.similar_classes, self.diverse_ratio, self.concentration
        )


class Student(DistilledStudent):
    """What DynaDFQ's student learns from an image (Eqs. 11 to 13)."""

    distillation_weight: float = setting(
        20.0,
        "weight of T² · KL(teacher ‖ student), averaged over the batch; Eq. 11 read literally: 1, at T = 1",
        source=LINEAGE,
        ge=0,
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
        unit="fraction of the epochs",
        source=f"{PAPER}, Sec. 4.1",
        ge=0,
        le=1,
    )

    def recipe(self) -> StudentRecipe:
        """CE + KL (Eq. 11; the bit-FLOPs term belongs to the selector), and mixup of easy images
        (Eqs. 12 and 13).
        """
        return replace(super().recipe(), mixup_share=self.mixup_share, mixup_start=self.mixup_start)


class DynaDFQ(Method):
    """DynaDFQ's hyperparameters: `images` changes the synthetic images, `student` only the
    fine-tuning.
    """

    images: Images = Images()
    student: Student = Student()
