"""From a teacher to a student that is ready to learn: transform, quantize, calibrate, round, teach
the selector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from dynadfq.ops.precision import compute_precision
from dynadfq.ptq.calibration import (
    CALIBRATION_BATCH,
    Average,
    RangeOfBatch,
    calibrate,
    mean_of_bounds,
    median_of_extremes,
)
from dynadfq.quant.build import build_student
from dynadfq.quant.insert import Scheme
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.recipe import Preparation, StudentRecipe
from dynadfq.training.selector_warm_up import SelectorWarmUp, warm_up_selector

NO_WARM_UP = SelectorWarmUp(images=0)


@dataclass(frozen=True)
class Calibration:
    """How activation ranges are set from synthetic images, where the method has no rule of its
    own.
    """

    rule: RangeOfBatch = median_of_extremes
    images: int = 1024
    average: Average = mean_of_bounds


@dataclass(frozen=True)
class PreparationConfig:
    """What a student is given before it learns, whatever its method."""

    calibration: Calibration = Calibration()
    rounding: Sequence[Preparation] = ()
    selector_warm_up: SelectorWarmUp = NO_WARM_UP


def transformed(teacher: Teacher, recipe: StudentRecipe) -> Teacher:
    """The float network as the method quantizes it."""
    return reduce(lambda network, transform: transform(network), recipe.transforms, teacher)


def new_student(teacher: Teacher, recipe: StudentRecipe, scheme: Scheme, seed: int) -> Student:
    """A student of the network that the method quantizes; nothing has been measured yet."""
    return build_student(transformed(teacher, recipe), scheme, seed)


def prepare_student(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    recipe: StudentRecipe,
    given: PreparationConfig,
    seed: int,
) -> None:
    """Set ranges, round weights, do what the method adds, and give the selector its warm-up; in
    place.

    Ranges and preparations compare the student with the network that was quantized, the selector
    with the teacher.
    """
    network = transformed(teacher, recipe)
    with compute_precision("float32", teacher.device):
        calibrate_ranges(student, network, images, recipe, given.calibration, seed)
        for preparation in (*given.rounding, *recipe.preparations):
            preparation(student, network, images, seed)
        warm_up_selector(student, teacher, images, given.selector_warm_up, seed)


def calibrate_ranges(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    recipe: StudentRecipe,
    calibration: Calibration,
    seed: int,
) -> None:
    """Set the range of every site by the method's rule or by the observer."""
    if recipe.ranges is not None:
        recipe.ranges(student, teacher, images, seed)
    else:
        batches = (batch.images for batch in images.batches(CALIBRATION_BATCH, calibration.images))
        calibrate(student, batches, calibration.rule, calibration.average)
