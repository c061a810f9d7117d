"""Early stopping of a whole training: preparation, warm-up, and the record of the kept epoch."""

import pytest
import torch
from finetuning import LONG, RECIPE, SOON, changed, state

from dynadfq.methods import dynadfq as method
from dynadfq.quant.build import load_student
from dynadfq.quant.config import QuantizationConfig
from dynadfq.runtime.resume import Scratch
from dynadfq.training.config import EarlyStoppingConfig, SelectorTrainingConfig
from dynadfq.training.early_stopping import AGREEMENT, COST, hold_back
from dynadfq.training.recipe import StudentRecipe
from dynadfq.training.train import train_student

PENALTY = SelectorTrainingConfig()


@pytest.fixture
def train(teacher):
    def run(student, images, schedule, recipe=RECIPE, selector=PENALTY, precision="float32"):
        return train_student(
            student,
            teacher,
            images,
            recipe,
            QuantizationConfig(),
            schedule,
            selector,
            0,
            precision,
            Scratch(None),
            "dynadfq",
            True,
        )

    return run


@pytest.mark.parametrize("any_width", [False, True])
def test_held_back_images_have_no_part_in_preparation(
    make_student, synthetic, train, rising, any_width
):
    """The student of the last epoch is one that never had these images."""
    selector = SelectorTrainingConfig(any_width=any_width, warm_up_images=24, warm_up_steps=3)
    rising(*range(8))
    student, without = make_student(), make_student()
    train(student, synthetic, LONG, selector=selector)
    learned, _ = hold_back(synthetic, 8, 0)
    train(without, learned, changed(LONG, early_stopping=EarlyStoppingConfig()), selector=selector)
    assert state(student) == state(without)
    assert student.provenance.pop("early_stopping") == {
        "held_back_images": 8,
        "epochs": 8,
        "kept_epoch": 8,
        "agreement": 7.0,
    }
    assert student.provenance == without.provenance


def test_the_kept_epoch_is_recorded(make_student, make_net, synthetic, train, rising, tmp_path):
    rising(40.0, 60.0, 50.0, 30.0)
    student = make_student()
    train(student, synthetic, changed(LONG, early_stopping=SOON))
    how = {"held_back_images": 8, "epochs": 4, "kept_epoch": 2, "agreement": 60.0}
    assert student.provenance["early_stopping"] == how
    assert (student.provenance["steps"], student.provenance["images"]) == (4, 16)
    student.save(tmp_path)
    assert load_student(tmp_path, make_net()).provenance == student.provenance
    card = (tmp_path / "card.md").read_text()
    assert "epoch 2 of 4 is kept; it agrees with the float network on 60.00 % of 8 syn" in card
    assert "by which it was chosen (optimistic)" in card


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        (StudentRecipe(), {}),
        (method.Student(label_weight=0.0, distillation_weight=0.0).recipe(), {}),
        (RECIPE, {"epochs": 0}),
        (RECIPE, {"steps": 0}),
    ],
    ids=["no loss", "no weight", "no epochs", "no steps"],
)
def test_a_student_that_is_not_trained_is_prepared_on_all_images(
    make_student, synthetic, train, recipe, changes
):
    student, off = make_student(), make_student()
    schedule = changed(LONG, calibration_images=24, **changes)
    history = train(student, synthetic, schedule, recipe=recipe)
    assert history.empty and student.provenance["images"] == 24
    train(off, synthetic, changed(schedule, early_stopping=EarlyStoppingConfig()), recipe=recipe)
    assert state(student) == state(off) and student.provenance == off.provenance


def test_a_training_in_bfloat16_is_measured_in_float32(
    make_student, teacher, synthetic, train, monkeypatch
):
    student = make_student()
    original, seen = type(student).run, []

    def run(self, images, allocation=None):
        logits, bits = original(self, images, allocation)
        if not self.training:
            seen.append((logits, torch.is_autocast_enabled("cpu")))
        return logits, bits

    monkeypatch.setattr(type(student), "run", run)
    schedule = changed(LONG, epochs=1)
    history = train(student, synthetic, schedule, precision="bfloat16")
    images = hold_back(synthetic, 8, 0)[1].take(torch.arange(8)).images
    with torch.no_grad():
        logits, bits = original(student, images)
        same = logits.argmax(dim=1) == teacher(images).argmax(dim=1)
    measured, autocast = seen[-1]  # the others are of its preparation
    assert torch.equal(measured, logits) and not autocast
    assert history[AGREEMENT].tolist() == [100 * float(same.double().mean())]
    assert history[COST].tolist() == pytest.approx([float(student.bit_flops_percent(bits).mean())])
