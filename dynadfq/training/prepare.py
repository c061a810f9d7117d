"""From a teacher to a student that is ready to learn: transform, quantize, calibrate, round, teach
the selector.
"""

from __future__ import annotations

from functools import reduce

from dynadfq.ops.precision import compute_precision
from dynadfq.ptq.calibration import AVERAGES, CALIBRATION_BATCH, calibrate, observer
from dynadfq.ptq.preparation import ROUNDINGS
from dynadfq.quant.build import build_student
from dynadfq.quant.config import QuantizationConfig, RangeConfig, Scheme
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.recipe import StudentRecipe
from dynadfq.training.selector_warm_up import warm_up_selector

QUANTIZATION = QuantizationConfig()
FINETUNE = FinetuneConfig()
SELECTOR = SelectorTrainingConfig()


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
    seed: int,
    quantization: QuantizationConfig = QUANTIZATION,
    finetune: FinetuneConfig = FINETUNE,
    selector: SelectorTrainingConfig = SELECTOR,
) -> None:
    """Set ranges, round weights, do what the method adds, and give the selector its warm-up; in
    place.

    Ranges and preparations compare the student with the network that was quantized, the selector
    with the teacher.
    """
    network = transformed(teacher, recipe)
    with compute_precision("float32", teacher.device):
        calibrate_ranges(
            student, network, images, recipe, quantization.ranges, finetune.calibration_images, seed
        )
        for preparation in (*ROUNDINGS[quantization.rounding], *recipe.preparations):
            preparation(student, network, images, seed)
        warm_up_selector(student, teacher, images, selector, seed)


def calibrate_ranges(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    recipe: StudentRecipe,
    ranges: RangeConfig,
    count: int,
    seed: int,
) -> None:
    """Set the range of every site by the method's rule, or by the observer on ``count``
    images.
    """
    if recipe.ranges is not None:
        recipe.ranges(student, teacher, images, seed)
    else:
        batches = (batch.images for batch in images.batches(CALIBRATION_BATCH, count))
        rule = observer(ranges.observer, student.scheme.target_bits, ranges.quantile)
        calibrate(student, batches, rule, AVERAGES[ranges.average])
