"""DFQ: equalized weights, absorbed and corrected biases, ranges from BN statistics.

Nagel et al., ICCV 2019, arXiv 1906.04721. Made for 8 bits with one weight grid a tensor
(`quantization.weight_granularity: tensor`). The student is not fine-tuned, and by default no image
is looked at; `bias_correction: empirical` and `ranges: images` use images in place of BN
statistics, as DSG (arXiv 2103.01049, supplement, table 3) does with ZeroQ's and its own.

Departures: biases are absorbed exactly, only where the next layer sees no zero padding (`absorb:
all` is the paper's); analytic correction counts padded zeros as zeros, and follows means through
residual additions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from dynadfq.methods.base import ImagesConfig, Method, MethodContext
from dynadfq.methods.student import StudentConfig
from dynadfq.runtime.config import MAX_COUNT, setting

if TYPE_CHECKING:
    from dynadfq.ptq.preparation import Preparation
    from dynadfq.synthesis.pixels import ImageRecipe
    from dynadfq.training.recipe import StudentRecipe, Transform

PAPER = "DFQ"


class Images(ImagesConfig):
    """The images for empirical bias correction and observed ranges."""

    kind: Literal["noise", "bn_statistics"] = setting(
        "noise",
        "pixels from N(0, 1), or optimized from there towards the BN statistics, as ZeroQ's",
        source=f"{PAPER} needs no images; bn_statistics: DSG, supplement, table 3",
    )

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe of images of no class; noise needs no BN statistics."""
        from dynadfq.losses.objective import Objective, bn_statistics_term
        from dynadfq.ops.batch_norm import layers_with_statistics
        from dynadfq.synthesis.pixels import ImageRecipe

        labels = self.labels(context)
        optimized = self.kind == "bn_statistics"
        terms = []
        if optimized or layers_with_statistics(context.teacher.module)[0]:
            terms.append(bn_statistics_term(kind="per_image_std"))
        return ImageRecipe(labels, Objective(terms), optimized=optimized)


class Student(StudentConfig):
    """DFQ's steps, each of which can be left out; BatchNorm is always folded."""

    relu6_as_relu: bool = setting(
        True,
        "replace ReLU6 by ReLU before equalization, which ReLU6 prevents",
        source=f"{PAPER}, Sec. 5.1.1",
    )
    equalize: bool = setting(
        True,
        "equalize the channel ranges of consecutive layers (cross-layer equalization)",
        source=f"{PAPER}, Sec. 4.1",
    )
    absorb: Literal["off", "unpadded", "all"] = setting(
        "unpadded",
        "where high biases are absorbed into the next layer: nowhere; where it has no zero "
        "padding; or everywhere, which changes the function at image borders",
        source=f"{PAPER}, Sec. 4.1.3 (all)",
    )
    bias_correction: Literal["off", "analytic", "empirical"] = setting(
        "analytic",
        "how the shift of each layer's mean output due to weight quantization is corrected: by "
        "BN statistics, or as measured on synthetic images",
        source=f"{PAPER}, Sec. 4.2; empirical: its appendix D",
    )
    correction_images: int = setting(
        256,
        "images on which these shifts are measured (bias_correction: empirical)",
        unit="images",
        ge=1,
        le=MAX_COUNT,
    )
    ranges: Literal["bn_sigma", "images"] = setting(
        "bn_sigma",
        "activation ranges from BN statistics, or observed on synthetic images "
        "(quantization.ranges)",
        source=f"{PAPER}, Sec. 5; images: DSG, supplement, table 3",
    )
    sigmas: float = setting(
        6.0,
        "n, standard deviations around its mean that a channel's range covers (ranges: bn_sigma)",
        source=f"{PAPER}, Sec. 5 (n = 6)",
        ge=0.1,
        le=100,
    )

    def recipe(self) -> StudentRecipe:
        """Return a recipe that folds, equalizes, absorbs, sets ranges and corrects biases."""
        from dynadfq.ptq.bias_correction import analytic_correction, empirical_correction
        from dynadfq.ptq.ranges import bn_sigma_ranges
        from dynadfq.teacher.transforms import absorb_biases, equalize_layers, fold_batch_norms
        from dynadfq.training.recipe import StudentRecipe

        transforms: list[Transform] = [partial(fold_batch_norms, relu6_as_relu=self.relu6_as_relu)]
        if self.equalize:
            transforms.append(equalize_layers)
        if self.absorb != "off":
            transforms.append(partial(absorb_biases, padded=self.absorb == "all"))
        corrections: dict[str, list[Preparation]] = {
            "off": [],
            "analytic": [analytic_correction],
            "empirical": [partial(empirical_correction, count=self.correction_images)],
        }
        from_statistics = partial(bn_sigma_ranges, sigmas=self.sigmas)
        return StudentRecipe(
            ranges=from_statistics if self.ranges == "bn_sigma" else None,
            transforms=transforms,
            preparations=corrections[self.bias_correction],
        )


class DFQ(Method):
    """DFQ: `images` changes the images of measurements, `student` everything else."""

    title: ClassVar[str] = "DFQ"
    optimizes_images: ClassVar[bool] = False
    trains_student: ClassVar[bool] = False
    without_batch_norm: ClassVar[Mapping[str, str]] = {
        "student.ranges": "images",
        "student.bias_correction": "empirical",
    }

    images: Images = Images()
    student: Student = Student()
