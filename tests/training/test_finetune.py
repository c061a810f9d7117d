from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from dynadfq.losses.objective import StudentStep, Term
from dynadfq.methods.base import StudentRecipe
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.quant.model import Student
from dynadfq.runtime.progress import NonFiniteLoss, Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.finetune import finetune_student

SCHEDULE = FinetuneConfig(
    epochs=4, steps_per_epoch=2, batch_size=8, learning_rate=1e-3, decay_every=2
)
RECIPE = DynaDFQ().student.recipe()

Finetune = Callable[..., pd.DataFrame]


@pytest.fixture
def finetune(teacher: Teacher, synthetic: SyntheticSet) -> Finetune:
    def run(
        student: Student,
        recipe: StudentRecipe = RECIPE,
        schedule: FinetuneConfig = SCHEDULE,
        budget: SelectorTrainingConfig | None = None,
        seed: int = 0,
        scratch: Path | None = None,
    ) -> pd.DataFrame:
        budget = budget or SelectorTrainingConfig(budget="constraint", bit_weight=3.0)
        return finetune_student(
            student, teacher, synthetic, recipe, schedule, budget, seed, Scratch(scratch)
        )

    return run


def state(student: Student) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in student.network.state_dict().items()}


def seen_by(teacher: Teacher, run: Callable[[], object]) -> list[Tensor]:
    seen: list[Tensor] = []
    with teacher.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone())):
        run()
    return seen


@pytest.mark.parametrize("widths", [(3, 4, 5), (4,)])
@pytest.mark.parametrize("after", [3, 5])
def test_a_killed_run_goes_on_to_the_same_bytes(
    make_student: Callable[..., Student],
    finetune: Finetune,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    widths: tuple[int, ...],
    after: int,
) -> None:
    whole = make_student(*widths)
    history = finetune(whole)
    steps, original = iter(range(100)), Progress.step

    def step(self: Progress, **losses: float) -> None:
        if next(steps) == after:
            raise KeyboardInterrupt
        original(self, **losses)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "step", step)
        finetune(make_student(*widths), scratch=tmp_path / "scratch")
    assert next(steps) == after + 1

    resumed = make_student(*widths)
    with monkeypatch.context() as patch:
        done: list[int] = []
        patch.setattr(
            Progress, "step", lambda self, **losses: (done.append(1), original(self, **losses))[1]
        )
        pd.testing.assert_frame_equal(
            finetune(resumed, scratch=tmp_path / "scratch"), history, check_exact=True
        )
    assert len(done) == 8 - 2 * (after // 2)
    assert state(resumed) == state(whole)


def test_three_steps_are_finite_and_change_every_part(
    make_student: Callable[..., Student], finetune: Finetune
) -> None:
    student = make_student()
    before = {name: tensor.clone() for name, tensor in student.network.state_dict().items()}
    history = finetune(
        student, schedule=SCHEDULE.model_copy(update={"epochs": 1, "steps_per_epoch": 3})
    )
    assert torch.isfinite(torch.tensor(history.drop(columns=[]).to_numpy(dtype=float))).all()
    after = student.network.state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    statistics = {
        name
        for name in before
        if name.split(".")[-1] in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert statistics <= still
    assert {name for name in still - statistics if not name.endswith(".low")} == set()
    assert not student.training


def test_the_seed_decides(make_student: Callable[..., Student], finetune: Finetune) -> None:
    students = [make_student() for _ in range(3)]
    for student, seed in zip(students, (0, 0, 1), strict=True):
        finetune(student, seed=seed)
    assert state(students[0]) == state(students[1]) != state(students[2])


def test_fixed_and_dynamic_students_see_the_same_images(
    make_student: Callable[..., Student], finetune: Finetune, teacher: Teacher
) -> None:
    plain = replace(RECIPE, mixup_share=0.0)
    students = make_student(3, 4, 5), make_student(4)
    runs = [
        seen_by(teacher, lambda student=student: finetune(student, recipe=plain))
        for student in students
    ]
    assert len(runs[0]) == len(runs[1]) == 8
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert (
        len({image.numpy().tobytes() for batch in runs[0] for image in batch}) > 50
    )  # augmented anew each time


def test_without_augmentation_an_epoch_is_a_pass_over_the_images(
    make_student: Callable[..., Student],
    finetune: Finetune,
    teacher: Teacher,
    synthetic: SyntheticSet,
) -> None:
    schedule = SCHEDULE.model_copy(
        update={"epochs": 1, "steps_per_epoch": 3, "crop_scale": 1.0, "horizontal_flip": False}
    )
    student = make_student(4)
    seen = seen_by(teacher, lambda: finetune(student, replace(RECIPE, mixup_share=0.0), schedule))
    everything = synthetic.take(torch.arange(24)).images
    assert {image.numpy().tobytes() for image in torch.cat(seen).contiguous()} == {
        image.numpy().tobytes() for image in everything
    }


def test_mixup_starts_on_time_and_the_teacher_sees_what_was_mixed(
    make_student: Callable[..., Student], finetune: Finetune, teacher: Teacher
) -> None:
    student = make_student()
    seen = seen_by(teacher, lambda: finetune(student))
    sizes = [len(batch) for batch in seen]
    assert sizes == [8] * 4 + [8, 2] * 4  # from half of the epochs on, a quarter of each batch


def test_history_has_a_row_an_epoch(
    make_student: Callable[..., Student], finetune: Finetune
) -> None:
    history = finetune(make_student())
    assert history["epoch"].tolist() == [1, 2, 3, 4] and history["step"].tolist() == [2, 4, 6, 8]
    assert history["learning_rate"].tolist() == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    terms = ["label", "distillation", "budget"]
    costs = ["bit_flops_percent", "bit_flops_percent_std", "mean_bits", "multiplier"]
    expected = {
        "epoch",
        "step",
        "learning_rate",
        "loss",
        *terms,
        *(f"{term}_unmixed" for term in terms),
        *costs,
    }
    assert expected <= set(history.columns)
    assert (
        history.loc[:1, "label_unmixed"].isna().all()
        and history.loc[2:, "label_unmixed"].notna().all()
    )
    weighted = history["label"] + 20 * history["distillation"]
    assert (history["loss"] - weighted).abs().max() < 0.2 * weighted.max()
    fixed = finetune(make_student(4))
    assert (
        "budget" not in fixed
        and (fixed["mean_bits"] == 4).all()
        and (fixed["bit_flops_percent_std"] == 0).all()
    )


def test_learned_ranges_hold_zero_after_every_step(
    make_student: Callable[..., Student], finetune: Finetune, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, moved = make_student(), []
    original = Student.keep_zero_in_range

    def watch(self: Student) -> None:
        moved.append(max(float(site.low.detach()) for site in self.sites))
        original(self)
        assert all(site.low <= 0 <= site.high for site in self.sites)

    monkeypatch.setattr(Student, "keep_zero_in_range", watch)
    finetune(student, schedule=SCHEDULE.model_copy(update={"range_learning_rate": 0.05}))
    assert len(moved) == 8 and max(moved) > 0


def test_a_heavy_penalty_lowers_the_cost(
    make_student: Callable[..., Student], finetune: Finetune
) -> None:
    costs = []
    for weight in (0.0, 2000.0):
        student = make_student()
        history = finetune(
            student,
            budget=SelectorTrainingConfig(learning_rate=0.05, bit_weight=weight),
        )
        costs.append(history["bit_flops_percent"].iloc[-1])
    assert costs[1] < costs[0]


def test_nan_stops_names_the_term_and_keeps_the_last_good_epoch(
    make_student: Callable[..., Student], finetune: Finetune, tmp_path: Path
) -> None:
    calls = iter(range(1000))

    def poison(step: StudentStep) -> Tensor:
        return step.logits.square().mean() * (torch.nan if next(calls) == 5 else 1.0)

    recipe = StudentRecipe([*RECIPE.terms, Term("poison", 1.0, poison)])
    student, good = make_student(), make_student()
    with pytest.raises(NonFiniteLoss, match="step 5: poison = nan"):
        finetune(student, recipe, scratch=tmp_path / "scratch")
    assert all(torch.isfinite(tensor).all() for tensor in student.network.state_dict().values())
    saved = Scratch(tmp_path / "scratch").load()
    assert saved is not None and len(saved["history"]) == 2
    finetune(
        good,
        StudentRecipe(
            [*RECIPE.terms, Term("poison", 1.0, lambda step: step.logits.square().mean())]
        ),
        SCHEDULE.model_copy(update={"epochs": 2}),
    )
    assert all(
        torch.equal(saved["network"][name], tensor)
        for name, tensor in good.network.state_dict().items()
    )
