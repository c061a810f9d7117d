"""Changes of a calibrated student before fine-tuning: ranges, rounding of weights, corrections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dynadfq.ptq.adaround import adaround
from dynadfq.ptq.block_reconstruction import block_reconstruction
from dynadfq.ptq.config import AdaRoundConfig
from dynadfq.ptq.squant import squant_rounding
from dynadfq.quant.config import QuantizationConfig
from dynadfq.quant.model import Student
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

# Changes a student in place: (student, teacher, images, seed, scratch). A long one keeps its state
# in `scratch`, and goes on from there.
Preparation = Callable[[Student, Teacher, SyntheticSet, int, Scratch], None]


def rounding(quantization: QuantizationConfig) -> tuple[Preparation, ...]:
    """Return the preparations that the setting ``rounding`` names."""
    if quantization.rounding == "squant":
        return (squant_rounding,)
    if quantization.rounding == "adaround":
        return (partial(adaround, settings=AdaRoundConfig()),)
    if quantization.rounding == "block":
        return (partial(block_reconstruction, settings=quantization.reconstruction),)
    return ()  # nearest, done by the student itself at every forward pass


def in_order(*preparations: Preparation) -> Preparation:
    """Return several short preparations as one."""

    def prepare(
        student: Student, teacher: Teacher, images: SyntheticSet, seed: int, scratch: Scratch
    ) -> None:
        for preparation in preparations:
            preparation(student, teacher, images, seed, scratch)

    return prepare
