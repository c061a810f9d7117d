"""Short fine-tunings of the tiny network, killed and resumed where a test asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from dynadfq.methods import dynadfq as method
from dynadfq.quant.model import Student
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import EarlyStoppingConfig, FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.early_stopping import hold_back
from dynadfq.training.finetune import finetune_student
from dynadfq.training.parts import TrainingContext
from dynadfq.training.recipe import StudentRecipe

SCHEDULE = FinetuneConfig(
    epochs=4, steps_per_epoch=2, batch_size=8, learning_rate=1e-3, decay_every=2
)
CONSTRAINT = SelectorTrainingConfig(budget="constraint", bit_weight=3.0)
RECIPE = method.Student().recipe()


def changed(config: Any, **changes: Any) -> Any:
    """A copy of settings with some of them changed."""
    return config.model_copy(update=changes)


# Early stopping with patience to the end, and without.
NEVER = EarlyStoppingConfig(images=8, patience=100)
SOON = EarlyStoppingConfig(images=8, patience=2)
LONG = changed(SCHEDULE, epochs=8, learning_rate=0.02, early_stopping=NEVER)


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
