"""DynaDFQ: similar classes share an image's soft label, and each image chooses its bit-widths.

"Difficulty, Diversity, and Plausibility: Dynamic Data-Free Quantization", WACV 2025; equations and sections are
numbered as in the ICLR 2024 submission. Where the paper is silent, docs/params.md names the choice and its source.
"""

from __future__ import annotations

from typing import Literal

from dynadfq.losses import BN_STATISTICS, Objective, Term, distillation_term, image_class_term, label_term
from dynadfq.methods.base import ImageRecipe, Known, StudentRecipe
from dynadfq.schema import LINEAGE, PAPER, Section, setting
from dynadfq.synthesis.labels import SimilarClassLabels


class Images(Section):
    """What DynaDFQ's images are of, and what is optimised (Eqs. 5 to 7)."""

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
    class_weight: float = setting(
        0.1,
        "β, weight of the cross-entropy to the soft label beside the BN statistics loss",
        source=f"{PAPER}, Eq. 7; value in Sec. 4.1",
        ge=0,
    )
    bn_statistics: Literal["per_image_std", "batch_var"] = setting(
        "batch_var",
        "BN statistics loss: each image's mean and std (sum over channels), or the batch's mean and variance (average)",
        source="batch_var: IntraQ, HAST, GDFQ; per_image_std: ZeroQ's code, which Eq. 7 builds on",
    )

    def recipe(self, known: Known) -> ImageRecipe:
        """Labels over similar classes (Eq. 6), objective L_bns + β · CE (Eq. 7)."""
        labels = SimilarClassLabels(known.similarity, self.similar_classes, self.diverse_ratio, self.concentration)
        terms = [Term("bn_statistics", 1.0, BN_STATISTICS[self.bn_statistics]), image_class_term(self.class_weight)]
        return ImageRecipe(labels, Objective(terms))


class Student(Section):
    """What DynaDFQ's student learns from an image (Eqs. 11 to 13)."""

    label_weight: float = setting(1.0, "weight of the cross-entropy to the soft label", source=f"{PAPER}, Eq. 11", ge=0)
    distillation_weight: float = setting(
        20.0,
        "weight of T² · KL(teacher ‖ student), averaged over the batch; Eq. 11 read literally: 1, at T = 1",
        source=LINEAGE,
        ge=0,
    )
    temperature: float = setting(
        20.0, "T, divides the logits of teacher and student in the KL term", source=LINEAGE, gt=0
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
        0.5, "when mixup begins", unit="fraction of the epochs", source=f"{PAPER}, Sec. 4.1", ge=0, le=1
    )

    def recipe(self) -> StudentRecipe:
        """CE + KL (Eq. 11; the bit-FLOPs term belongs to the selector), and mixup of easy images (Eqs. 12 and 13)."""
        terms = [label_term(self.label_weight), distillation_term(self.distillation_weight, self.temperature)]
        return StudentRecipe(terms, self.mixup_share, self.mixup_start)


class DynaDFQ(Section):
    """DynaDFQ's hyperparameters: `images` changes the synthetic images, `student` only the fine-tuning."""

    images: Images = Images()
    student: Student = Student()
