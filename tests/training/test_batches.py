"""What the student is shown: stored images with the teacher's answers, computed once where an image
stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from dynadfq.methods.base import StudentRecipe
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.quant.model import Student
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.batches import StoredBatches, TrainingBatch
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.finetune import finetune_student

PLAIN = FinetuneConfig(
    epochs=3,
    steps_per_epoch=5,
    batch_size=7,
    crop_scale=1.0,
    horizontal_flip=False,
    learning_rate=1e-3,
)
Build = Callable[..., Student]


def softened(images: Tensor) -> Tensor:
    return 0.5 * images


def all_lessons(
    teacher: Teacher, images: SyntheticSet, schedule: FinetuneConfig, recipe: StudentRecipe
) -> tuple[list[TrainingBatch], int]:
    """Every batch of every epoch, and how many images the teacher saw."""
    seen: list[int] = []
    batches, rng = (
        StoredBatches(images, teacher, recipe, schedule),
        torch.Generator().manual_seed(0),
    )
    with teacher.module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]))):
        batches = [batch for _ in range(schedule.epochs) for batch in batches.epoch(rng)]
    return batches, sum(seen)


@pytest.mark.parametrize("size", [1, 5, 8, 24, 30])
@pytest.mark.parametrize(
    "recipe", [StudentRecipe(), StudentRecipe(filter=softened)], ids=["plain", "filtered"]
)
def test_answers_that_were_kept_are_those_of_the_images_shown(
    teacher: Teacher, synthetic: SyntheticSet, size: int, recipe: StudentRecipe
) -> None:
    schedule = PLAIN.model_copy(update={"batch_size": size, "steps_per_epoch": 10})
    batches, seen = all_lessons(teacher, synthetic, schedule, recipe)
    assert (
        len(batches) == 30 and seen == -(-24 // size) * size
    )  # each image once, the last batch filled up
    with torch.no_grad():
        for batch in batches:
            assert torch.equal(batch.teacher_logits, teacher(batch.images))


@pytest.mark.parametrize("change", [{"crop_scale": 0.5}, {"horizontal_flip": True}], ids=str)
def test_augmented_images_are_answered_as_they_are_shown(
    teacher: Teacher, synthetic: SyntheticSet, change: dict[str, object]
) -> None:
    batches, seen = all_lessons(
        teacher, synthetic, PLAIN.model_copy(update=change), StudentRecipe()
    )  # type: ignore[arg-type]
    assert seen == 3 * 5 * 7
    with torch.no_grad():
        for batch in batches:
            assert torch.equal(batch.teacher_logits, teacher(batch.images))
    stored = {image.numpy().tobytes() for image in synthetic.take(torch.arange(24)).images}
    shown = {image.contiguous().numpy().tobytes() for batch in batches for image in batch.images}
    assert not shown <= stored


def test_a_run_that_does_not_see_the_images_twice_keeps_no_answers(
    teacher: Teacher, synthetic: SyntheticSet
) -> None:
    short = PLAIN.model_copy(update={"epochs": 1, "steps_per_epoch": 2})
    assert all_lessons(teacher, synthetic, short, StudentRecipe())[1] == 14


def test_kept_answers_do_not_change_what_is_learned(
    teacher: Teacher, synthetic: SyntheticSet, make_student: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    students, recipe = [make_student(), make_student()], DynaDFQ().student.recipe()

    def learn(student: Student) -> pd.DataFrame:
        return finetune_student(
            student, teacher, synthetic, recipe, PLAIN, SelectorTrainingConfig(), 0, Scratch(None)
        )

    kept = learn(students[0])
    monkeypatch.setattr(StoredBatches, "_answers_last", False)
    pd.testing.assert_frame_equal(learn(students[1]), kept, check_exact=True)
    states = [student.network.state_dict() for student in students]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_killed_run_with_kept_answers_goes_on_to_the_same_bytes(
    teacher: Teacher,
    synthetic: SyntheticSet,
    make_student: Build,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    recipe, steps, original = DynaDFQ().student.recipe(), iter(range(100)), Progress.step

    def learn(student: Student, scratch: Path | None) -> pd.DataFrame:
        return finetune_student(
            student,
            teacher,
            synthetic,
            recipe,
            PLAIN,
            SelectorTrainingConfig(),
            0,
            Scratch(scratch),
        )

    def step(self: Progress, **losses: float) -> None:
        if next(steps) == 7:
            raise KeyboardInterrupt
        original(self, **losses)

    history = learn(make_student(), None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "step", step)
        learn(make_student(), tmp_path)
    pd.testing.assert_frame_equal(learn(make_student(), tmp_path), history, check_exact=True)
