"""AdaRound: roundings are learned layer by layer on synthetic images.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020,
arXiv 2004.10568. The student is not fine-tuned. AdaRound was published with real images; the ones
here match the batch's BN statistics and a one-hot label, the baseline of DynaDFQ's ablation. Where
the reconstruction departs from the paper (BatchNorm stays unfolded, activations are quantized
meanwhile) ``dynadfq.ptq.adaround`` says why.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from dynadfq.methods.base import Method, Presets
from dynadfq.methods.images import BaselineImages
from dynadfq.methods.student import StudentConfig
from dynadfq.ptq.config import AdaRoundConfig

if TYPE_CHECKING:
    from dynadfq.training.recipe import StudentRecipe


class Student(AdaRoundConfig, StudentConfig):
    """Settings of AdaRound's learned rounding."""

    def recipe(self) -> StudentRecipe:
        """Return a recipe that rounds after calibration, without fine-tuning."""
        from dynadfq.ptq.adaround import adaround
        from dynadfq.training.recipe import StudentRecipe

        return StudentRecipe(preparations=(partial(adaround, settings=self),))


class AdaRound(Method):
    """AdaRound: `images` changes the synthetic images, `student` the rounding."""

    title: ClassVar[str] = "AdaRound"
    trains_student: ClassVar[bool] = False
    presets: ClassVar[Presets] = {"small": {"student": {"iterations": 500, "learning_rate": 0.01}}}

    images: BaselineImages = BaselineImages()
    student: Student = Student()
