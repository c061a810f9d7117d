"""The fine-tuning loop: the same for every method, resumable, and the seed's alone."""

import pandas as pd
import pytest
import torch
from finetuning import SCHEDULE, changed, finetune, state
from interrupts import counted_steps, killed_after

from dynadfq.losses.objective import Term
from dynadfq.methods import adadfq, gdfq, hast, synq
from dynadfq.methods import dynadfq as method
from dynadfq.quant.model import Student
from dynadfq.runtime.progress import NonFiniteLoss
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.training.config import SelectorTrainingConfig
from dynadfq.training.finetune import Finetuning
from dynadfq.training.loss import StudentLoss
from dynadfq.training.recipe import StudentRecipe

SETTINGS = method.Student()
RECIPE = SETTINGS.recipe()
PLAIN = method.Student(mixup_share=0.0).recipe()
AS_STORED = changed(SCHEDULE, crop_scale=1.0, horizontal_flip=False)
BN_STATE = ("running_mean", "running_var", "num_batches_tracked")
# Every part of a recipe, with the schedule that it is used on.
RECIPES = {
    "mixup": (RECIPE, SCHEDULE),
    "stored logits": (RECIPE, changed(AS_STORED, epochs=5)),
    "perturbed": (hast.Student().recipe(), AS_STORED),
    "maps": (synq.Student().recipe(), AS_STORED),
    "gdfq": (gdfq.Student().recipe(), SCHEDULE),
    "adadfq": (adadfq.Student().recipe(), SCHEDULE),
}


@pytest.fixture
def images_of(teacher, synthetic, tmp_path):
    """The set that a recipe trains on: a generator's own, or the shared one."""

    def images(name):
        if name not in ("gdfq", "adadfq"):
            return synthetic
        module = {"gdfq": gdfq, "adadfq": adadfq}[name]
        settings = module.Images(generator_batch_size=8, latent_features=10)
        source = settings.generator(teacher).source(teacher, PixelOptimizerConfig(iterations=2))
        return synthesize_set(source, 24, 8, 0, tmp_path / name, Scratch(None))

    return images


def images_seen(student, teacher, *how):
    """The batches that the teacher runs on during a fine-tuning."""
    seen = []
    with teacher.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone())):
        finetune(student, teacher, *how)
    return seen


@pytest.mark.parametrize("widths", [(3, 4, 5), (4,)], ids=["dynamic", "fixed"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_killed_run_resumes_to_the_same_bytes(
    make_student, teacher, images_of, monkeypatch, tmp_path, name, widths
):
    recipe, schedule = RECIPES[name]
    images = images_of(name)
    whole = make_student(*widths)
    history = finetune(whole, teacher, images, recipe, schedule)
    for epochs in (1, 2):
        after = epochs * schedule.steps_per_epoch + 1
        scratch = tmp_path / f"scratch-{epochs}"
        with killed_after(monkeypatch, after):
            finetune(make_student(*widths), teacher, images, recipe, schedule, scratch=scratch)
        resumed = make_student(*widths)
        with counted_steps(monkeypatch) as done:
            again = finetune(resumed, teacher, images, recipe, schedule, scratch=scratch)
        pd.testing.assert_frame_equal(again, history, check_exact=True)
        assert state(resumed) == state(whole)
        assert len(done) == (schedule.epochs - epochs) * schedule.steps_per_epoch


@pytest.mark.parametrize("name", ["mixup", "gdfq", "adadfq"])
def test_the_seed_decides(make_student, teacher, images_of, name):
    recipe, schedule = RECIPES[name]
    images = images_of(name)
    states = []
    for seed in (0, 0, 1):
        student = make_student()
        finetune(student, teacher, images, recipe, schedule, seed=seed)
        states.append(state(student))
    assert states[0] == states[1] != states[2]


@pytest.mark.parametrize("name", ["mixup", "gdfq", "adadfq"])
def test_every_part_but_bn_statistics_changes(make_student, teacher, images_of, name):
    recipe, schedule = RECIPES[name]
    student = make_student()
    before = state(student)
    schedule = changed(schedule, range_learning_rate=0.1)
    history = finetune(student, teacher, images_of(name), recipe, schedule)
    measured = history.dropna(axis="columns").to_numpy(dtype=float)
    assert torch.isfinite(torch.tensor(measured)).all()
    after = state(student)
    unchanged = {name for name in before if before[name] == after[name]}
    statistics = {name for name in before if name.split(".")[-1] in BN_STATE}
    assert statistics <= unchanged
    assert not {name for name in unchanged - statistics if not name.endswith(".low")}
    assert not student.training


def test_fixed_and_dynamic_students_see_the_same_images(make_student, teacher, synthetic):
    dynamic = images_seen(make_student(), teacher, synthetic, PLAIN)
    fixed = images_seen(make_student(4), teacher, synthetic, PLAIN)
    assert len(dynamic) == len(fixed) == 8
    assert all(torch.equal(a, b) for a, b in zip(dynamic, fixed, strict=True))
    distinct = {image.numpy().tobytes() for batch in dynamic for image in batch}
    assert len(distinct) > 50  # augmented anew each time


def test_without_augmentation_an_epoch_is_a_pass_over_the_images(make_student, teacher, synthetic):
    stored = sorted(image.numpy().tobytes() for image in synthetic.take(torch.arange(24)).images)
    for batch_size in (8, 9):  # the last batch of 9 is filled up
        schedule = changed(AS_STORED, epochs=1, steps_per_epoch=None, batch_size=batch_size)
        seen = images_seen(make_student(4), teacher, synthetic, PLAIN, schedule)
        assert [len(batch) for batch in seen] == [batch_size] * 3
        shown = [image.numpy().tobytes() for image in torch.cat(seen)[:24].contiguous()]
        assert sorted(shown) == stored


@pytest.mark.parametrize("name", ["mixup", "gdfq"])
def test_steps_in_place_of_epochs_end_the_same_training_earlier(
    make_student, teacher, images_of, monkeypatch, tmp_path, name
):
    recipe, schedule = RECIPES[name]
    images = images_of(name)
    states = []
    for change in ({"epochs": 2}, {"steps": 4}, {"steps": 3}):
        student = make_student()
        history = finetune(student, teacher, images, recipe, changed(schedule, **change))
        states.append(state(student))
    assert states[0] == states[1] != states[2]
    assert history["step"].tolist() == [2, 3]
    three = changed(schedule, steps=3)
    with killed_after(monkeypatch, 2):
        finetune(make_student(), teacher, images, recipe, three, scratch=tmp_path / "scratch")
    resumed = make_student()
    finetune(resumed, teacher, images, recipe, three, scratch=tmp_path / "scratch")
    assert state(resumed) == states[2]


@pytest.mark.parametrize(
    ("length", "plain", "mixed"),
    [
        ({"epochs": 4}, 4, 4),
        ({"epochs": 1}, 1, 1),
        ({"epochs": 3}, 3, 3),  # from the middle of the second one on
        ({"steps": 7}, 4, 3),
        ({"epochs": 1, "steps_per_epoch": 5}, 3, 2),
    ],
)
def test_mixup_starts_after_half_of_the_steps_and_the_teacher_sees_the_mixed_images(
    make_student, teacher, synthetic, length, plain, mixed
):
    seen = images_seen(make_student(), teacher, synthetic, RECIPE, changed(SCHEDULE, **length))
    assert [len(batch) for batch in seen] == [8] * plain + [8, 2] * mixed


def test_the_history_has_a_row_per_epoch(make_student, teacher, synthetic):
    history = finetune(make_student(), teacher, synthetic, RECIPE)
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["step"].tolist() == [2, 4, 6, 8]
    assert history["learning_rate"].tolist() == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    terms = ["label", "distillation", "budget"]
    costs = ["bit_flops_percent", "bit_flops_percent_std", "mean_bits", "multiplier"]
    unmixed = [f"{term}_unmixed" for term in terms]
    measured = {"epoch", "step", "learning_rate", "loss", "gradient_norm"}
    expected = {*measured, *terms, *unmixed, *costs}
    assert expected <= set(history.columns)
    assert history["label_unmixed"].isna().tolist() == [True, True, False, False]
    weighted = history["label"] + 20 * history["distillation"]
    assert (history["loss"] - weighted).abs().max() < 0.2 * weighted.max()
    fixed = finetune(make_student(4), teacher, synthetic, RECIPE)
    assert "budget" not in fixed
    assert (fixed["mean_bits"] == 4).all()
    assert (fixed["bit_flops_percent_std"] == 0).all()


def test_learned_ranges_hold_zero_after_every_step(make_student, teacher, synthetic, monkeypatch):
    lows = []
    original = Student.keep_zero_in_range

    def watch(student):
        lows.append(max(float(site.low.detach()) for site in student.sites))
        original(student)
        assert all(site.low <= 0 <= site.high for site in student.sites)

    monkeypatch.setattr(Student, "keep_zero_in_range", watch)
    schedule = changed(SCHEDULE, range_learning_rate=0.05)
    finetune(make_student(), teacher, synthetic, RECIPE, schedule)
    assert len(lows) == 8
    assert max(lows) > 0


def test_a_heavy_penalty_lowers_the_cost(make_student, teacher, synthetic):
    costs = []
    for weight in (0.0, 2000.0):
        selector = SelectorTrainingConfig(bit_weight=weight, learning_rate=0.05)
        history = finetune(make_student(), teacher, synthetic, RECIPE, selector=selector)
        costs.append(history["bit_flops_percent"].iloc[-1])
    assert costs[1] < costs[0]


def test_terms_without_weight_train_nothing(make_student, teacher, synthetic):
    recipe = method.Student(label_weight=0.0, distillation_weight=0.0).recipe()
    student = make_student()
    before = state(student)
    for idle in (recipe, StudentRecipe()):
        assert finetune(student, teacher, synthetic, idle).empty
    assert state(student) == before


def test_nan_names_the_term_and_keeps_the_last_good_epoch(
    make_student, teacher, synthetic, tmp_path
):
    def recipe_with(value):
        def loss(context):
            return StudentLoss(context, [*SETTINGS.terms(), Term("poison", 1.0, value)])

        return StudentRecipe(loss)

    calls = iter(range(1000))

    def poison(step):
        return step.logits.square().mean() * (torch.nan if next(calls) == 5 else 1.0)

    student = make_student()
    with pytest.raises(NonFiniteLoss, match="step 5: poison = nan"):
        finetune(student, teacher, synthetic, recipe_with(poison), scratch=tmp_path / "scratch")
    assert all(torch.isfinite(tensor).all() for tensor in student.network.state_dict().values())
    saved = Scratch(tmp_path / "scratch").load()
    assert len(saved["history"]) == 2
    good = make_student()
    recipe = recipe_with(lambda step: step.logits.square().mean())
    finetune(good, teacher, synthetic, recipe, changed(SCHEDULE, epochs=2))
    for name, tensor in good.network.state_dict().items():
        assert torch.equal(saved["network"][name], tensor)


@pytest.mark.parametrize("widths", [(3, 4, 5), (4,)])
def test_after_an_exception_the_student_is_in_its_exact_form(
    make_student, teacher, synthetic, monkeypatch, widths
):
    student = make_student(*widths)

    def interrupted(self, batch, number):
        assert self.student.training
        raise KeyboardInterrupt

    monkeypatch.setattr(Finetuning, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finetune(student, teacher, synthetic, StudentRecipe(SETTINGS.loss))
    assert not any(part.training for part in student.modules())
