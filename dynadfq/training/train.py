"""The whole training of a student: preparation, fine-tuning, and the record of both."""

from __future__ import annotations

import pandas as pd

from dynadfq.ops.config import Precision
from dynadfq.ops.precision import compute_precision
from dynadfq.quant.config import QuantizationConfig
from dynadfq.quant.model import Student
from dynadfq.quant.model_card import provenance
from dynadfq.runtime import distributed
from dynadfq.runtime.memory import kept_memory
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.fit import require_fitting
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.early_stopping import KEPT, hold_back, record
from dynadfq.training.finetune import finetune_student
from dynadfq.training.parts import TrainingContext
from dynadfq.training.prepare import prepare_student
from dynadfq.training.recipe import StudentRecipe
from dynadfq.training.selector_warm_up import warm_up_selector


@kept_memory()
def train_student(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    recipe: StudentRecipe,
    quantization: QuantizationConfig,
    schedule: FinetuneConfig,
    selector: SelectorTrainingConfig,
    seed: int,
    precision: Precision,
    scratch: Scratch,
    method: str,
    data_free: bool | None,
) -> pd.DataFrame:
    """Prepare and fine-tune a student in place, and record how in ``student.provenance``.

    The first rank prepares; all fine-tune, and begin with what it prepared. A selector whose widths
    were drawn (``any_width``) is trained afterwards, by the first rank, and nothing else with it.

    Images that early stopping holds back have no part in preparation, training and warm-up. Where
    nothing is trained, none are held back.

    Args:
        student: what ``new_student`` returned.
        teacher: the float network that it was made from.
        images: what it learns from.
        recipe: the method's.
        quantization: ranges, and rounding of weights.
        schedule: steps and rates.
        selector: training of the bit selector, and the bit budget.
        seed: of every random choice.
        precision: of matrix products in the steps.
        scratch: state of unfinished work.
        method: name of the method, for the record.
        data_free: whether its images are made without a data set; None if that is not known.

    Returns:
        The history, one row per epoch.

    Raises:
        InvalidArgument: the images are no set, or of another network.
    """
    require_fitting(images, teacher.input_shape, teacher.num_classes)
    trains = recipe.loss_to_train(TrainingContext(student, teacher, images, schedule)) is not None
    images, held_back = hold_back(images, schedule.early_stopping.images if trains else 0, seed)
    if distributed.rank() == 0 and not scratch.exists():
        prepare_student(
            student, teacher, images, recipe, seed, quantization, schedule, selector, scratch
        )
    with compute_precision(precision, teacher.device):
        history = finetune_student(
            student, teacher, images, recipe, schedule, selector, seed, scratch, held_back
        )
    if selector.any_width and distributed.rank() == 0:
        with compute_precision("float32", teacher.device):
            warm_up_selector(student, teacher, images, selector, seed)
    stopped = None if held_back is None else record(history, len(held_back))
    last = history[history[KEPT]] if stopped else history
    steps = int(last["step"].iloc[-1]) if len(last) else 0
    student.provenance = provenance(
        method, data_free, len(images), steps, quantization.rounding, stopped
    )
    return history
