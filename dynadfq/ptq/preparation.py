"""What may be done to a calibrated student before it learns: rounding, ranges, corrections."""

from __future__ import annotations

from collections.abc import Callable

from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

Preparation = Callable[
    [Student, Teacher, SyntheticSet, int], None
]  # (student, teacher, images, seed), in place


def in_order(*preparations: Preparation) -> Preparation:
    """Several preparations as one."""

    def prepare(student: Student, teacher: Teacher, images: SyntheticSet, seed: int) -> None:
        for preparation in preparations:
            preparation(student, teacher, images, seed)

    return prepare
