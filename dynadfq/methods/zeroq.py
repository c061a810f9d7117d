"""ZeroQ: images that match the BN statistics, no labels (Cai et al., CVPR 2020, arXiv 2001.00281).

Fine-tuned by distillation alone, which is what the literature's tables call ZeroQ; the released
code only calibrates. The literature's "ZeroQ+IL", which IntraQ and DynaDFQ build on, is
``images.class_weight: 1`` with
``student.label_weight: 1``: a cross-entropy to a random class shapes the images, and their labels
teach the student. The released code starts from ``images.initial: uniform``; later work, and this
default, from Gaussian noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from dynadfq.methods.base import Method, MethodContext
from dynadfq.methods.images import UnlabelledImages
from dynadfq.methods.student import UnlabelledStudent
from dynadfq.runtime.config import setting

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dynadfq.synthesis.pixels import ImageRecipe


def faint(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Return pixels from U(-0.0235, 0.0235), in the scale of normalized images.

    ZeroQ's distill_data.py divides U(-127.5, 127.5) by its variance, 5418.75, where a comment
    speaks of unit variance.
    """
    import torch

    return (2 * torch.rand(shape, generator=rng) - 1) * (127.5 / 5418.75)


class Images(UnlabelledImages):
    """The objective of ZeroQ's images."""

    initial: Literal["gaussian", "uniform"] = setting(
        "gaussian",
        "starting pixels: N(0, 1), or U(-0.0235, 0.0235)",
        source="gaussian: IntraQ, DSG, DynaDFQ; uniform: ZeroQ, released code",
    )
    bn_statistics: Literal["per_image_std", "batch_var"] = setting(
        "per_image_std",
        "BN statistics loss: each image's mean and std (sum over channels), or the batch's mean "
        "and variance (average)",
        source="per_image_std: ZeroQ's code; batch_var: IntraQ, HAST, GDFQ",
    )

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe of BN statistics and the optional terms."""
        from dynadfq.losses.objective import Objective, bn_statistics_term
        from dynadfq.synthesis.pixels import ImageRecipe, gaussian

        terms = [bn_statistics_term(kind=self.bn_statistics), *self.optional_terms()]
        initial = gaussian if self.initial == "gaussian" else faint
        return ImageRecipe(self.labels(context), Objective(terms), initial)


class ZeroQ(Method):
    """ZeroQ: `images` changes the synthetic images, `student` the fine-tuning."""

    title: ClassVar[str] = "ZeroQ"

    images: Images = Images()
    student: UnlabelledStudent = UnlabelledStudent()
