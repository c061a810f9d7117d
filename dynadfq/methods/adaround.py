"""AdaRound: roundings are learned layer by layer on synthetic images (Nagel et al., ICML 2020,
arXiv 2004.10568).

The student is not fine-tuned. AdaRound was published with real images; the ones here match the
batch's BN statistics and a one-hot label, the baseline of DynaDFQ's ablation. Where the
reconstruction departs from the paper (BatchNorm stays unfolded, activations are quantized
meanwhile) ``dynadfq.ptq.adaround`` says why.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from dynadfq.methods.base import BaselineImages, Method, Presets, StudentRecipe
from dynadfq.runtime.config import Config, setting


class Student(Config):
    """How AdaRound learns a layer's roundings."""

    iterations: int = setting(
        10_000, "steps a layer", unit="steps", source="AdaRound, Sec. 5", ge=1
    )
    num_images: int = setting(
        1024,
        "synthetic images that are used at most; a layer's inputs and outputs on all of them are held in memory",
        unit="images",
        source="AdaRound, Sec. 5",
        ge=1,
    )
    batch_size: int = setting(32, "images a step", unit="images", source="AdaRound, Sec. 5", ge=1)
    learning_rate: float = setting(
        1e-3, "of Adam on the roundings", source="AIMET, released code", gt=0
    )
    regularization: float = setting(
        0.01,
        "λ, weight of the term that pushes roundings to 0 or 1",
        source="AdaRound, Eq. 21; value: AIMET",
        ge=0,
    )
    warm_start: float = setting(
        0.2,
        "share of the steps before that term sets in",
        unit="fraction",
        source="AIMET, released code",
        ge=0,
        le=0.9,
    )
    annealing: Literal["cosine", "linear"] = setting(
        "cosine",
        "how the term's exponent β falls from 20 to 2",
        source="cosine: AIMET; linear: BRECQ, QDrop",
    )

    def recipe(self) -> StudentRecipe:
        """Rounding after calibration, no fine-tuning."""
        from functools import partial

        from dynadfq.ptq.adaround import AdaRound as Settings
        from dynadfq.ptq.adaround import adaround

        settings = Settings(**self.model_dump())
        return StudentRecipe(preparations=(partial(adaround, settings=settings),))


class AdaRound(Method):
    """AdaRound's hyperparameters: `images` changes the synthetic images, `student` only the
    rounding.
    """

    presets: ClassVar[Presets] = {
        "small": {"student": {"iterations": 500, "learning_rate": 0.01}},
    }

    images: BaselineImages = BaselineImages()
    student: Student = Student()
