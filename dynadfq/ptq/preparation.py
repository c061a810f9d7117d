"""Changes of a calibrated student before fine-tuning: ranges, rounding of weights, corrections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dynadfq.ptq.adaround import adaround
from dynadfq.ptq.config import AdaRoundConfig
from dynadfq.ptq.squant import squant_rounding
from dynadfq.quant.config import Rounding
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

# Changes a student in place: (student, teacher, images, seed).
Preparation = Callable[[Student, Teacher, SyntheticSet, int], None]

# The preparations that round a student's weights, by the setting `rounding`.
ROUNDINGS: dict[Rounding, tuple[Preparation, ...]] = {
    "nearest": (),  # done by the student itself at every forward pass
    "squant": (squant_rounding,),
    "adaround": (partial(adaround, settings=AdaRoundConfig()),),
}


def in_order(*preparations: Preparation) -> Preparation:
    """Return several preparations as one."""

    def prepare(student: Student, teacher: Teacher, images: SyntheticSet, seed: int) -> None:
        for preparation in preparations:
            preparation(student, teacher, images, seed)

    return prepare
