"""Short fine-tunings of the tiny network, killed and resumed where a test asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from dynadfq.quant.model import Student
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.early_stopping import hold_back
from dynadfq.training.finetune import finetune_student
from dynadfq.training.parts import TrainingContext
from dynadfq.training.recipe import StudentRecipe

SCHEDULE = FinetuneConfig(
    epochs=4, steps_per_epoch=2, batch_size=8, learning_rate=1e-3, decay_every=2
)
CONSTRAINT = SelectorTrainingConfig(budget="constraint", bit_weight=3.0)


def changed(config: Any, **changes: Any) -> Any:
    """A copy of settings with some of them changed."""
    return config.model_copy(update=changes)


def finetune(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    recipe: StudentRecipe,
    schedule: FinetuneConfig = SCHEDULE,
    selector: SelectorTrainingConfig = CONSTRAINT,
    seed: int = 0,
    scratch: Path | None = None,
) -> pd.DataFrame:
    """Fine-tune with a bit budget that is met from both sides, unless another one is given."""
    learned, held_back = hold_back(images, schedule.early_stopping.images, seed)
    return finetune_student(
        student, teacher, learned, recipe, schedule, selector, seed, Scratch(scratch), held_back
    )


def context(
    student: Student, teacher: Teacher, images: SyntheticSet, schedule: FinetuneConfig = SCHEDULE
) -> TrainingContext:
    """The context that losses and batches of a recipe are built from, without a bit budget."""
    return TrainingContext(student, teacher, images, schedule)


def state(student: Student) -> dict[str, bytes]:
    """The bytes of a student's parameters and buffers."""
    return {name: tensor.numpy().tobytes() for name, tensor in student.network.state_dict().items()}
