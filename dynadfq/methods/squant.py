"""SQuant: weights are rounded so that errors cancel, without data.

Guo et al., ICLR 2022, arXiv 2202.07471. The student is not fine-tuned. The paper says that
activation ranges come from BN statistics (`bn_sigma`); the released code takes them from uniform
noise that it sends through the quantized network (`noise_sigma`), and so do the published figures.
Images are that noise, so that a teacher without BatchNorm will do; the network reads U(0, 1) as it
is, since normalized noise, with its greater spread, makes ranges too wide. The released code
quantizes the classifier's input to 8 bits whatever the width; here it is like any other site, and
float where sites are ReLU outputs (``quantization.placement``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from dynadfq.methods.base import ImagesConfig, Method, MethodContext
from dynadfq.methods.student import StudentConfig
from dynadfq.runtime.config import setting

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dynadfq.ptq.preparation import Preparation
    from dynadfq.synthesis.pixels import ImageRecipe
    from dynadfq.training.recipe import StudentRecipe


def uniform(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Return (B, C, H, W) images from U(0, 1)."""
    import torch

    return torch.rand(shape, generator=rng)


class Images(ImagesConfig):
    """The noise that SQuant's activation ranges are measured on; 256 images of it are used."""

    noise: Literal["uniform", "gaussian"] = setting(
        "uniform",
        "what the network reads, without normalization: U(0, 1) or N(0, 1)",
        source="uniform: SQuant, released code",
    )

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe of noise with random labels, which are not used."""
        from dynadfq.losses.objective import Objective
        from dynadfq.synthesis.pixels import ImageRecipe, gaussian

        labels = self.labels(context)
        initial = gaussian if self.noise == "gaussian" else uniform
        return ImageRecipe(labels, Objective(()), initial, optimized=False)


class Student(StudentConfig):
    """The source of SQuant's activation ranges."""

    range_rule: Literal["noise_sigma", "bn_sigma"] = setting(
        "noise_sigma",
        "rule of the activation ranges: standard deviations of activations of noise, 12 of them "
        "at 4 bits, 14 at 6 and 25 at 8, or those that BN statistics give",
        source="noise_sigma: SQuant, released code; bn_sigma: its paper, after DFQ",
    )
    bn_sigmas: float = setting(
        6.0,
        "n, standard deviations around the mean that a channel's range covers (range_rule: "
        "bn_sigma)",
        source="DFQ (n = 6)",
        ge=0.1,
        le=100,
    )

    def recipe(self) -> StudentRecipe:
        """Return a recipe of SQuant's rounding, then ranges behind rounded layers."""
        from dynadfq.ptq.preparation import in_order
        from dynadfq.ptq.ranges import bn_sigma_ranges, noise_sigma_ranges
        from dynadfq.ptq.squant import squant_rounding
        from dynadfq.training.recipe import StudentRecipe

        rule: Preparation = noise_sigma_ranges
        if self.range_rule == "bn_sigma":
            rule = partial(bn_sigma_ranges, sigmas=self.bn_sigmas)
        return StudentRecipe(ranges=in_order(squant_rounding, rule))


class SQuant(Method):
    """SQuant: `images` changes the noise, `student` the activation ranges."""

    title: ClassVar[str] = "SQuant"
    optimizes_images: ClassVar[bool] = False
    trains_student: ClassVar[bool] = False
    without_batch_norm: ClassVar[Mapping[str, str]] = {}

    images: Images = Images()
    student: Student = Student()
