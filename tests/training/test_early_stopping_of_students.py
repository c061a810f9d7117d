"""Early stopping of a whole training: preparation, warm-up, and the record of the kept epoch."""

import pytest
from finetuning import SCHEDULE, changed, state

from dynadfq.methods import dynadfq as method
from dynadfq.quant.build import load_student
from dynadfq.quant.config import QuantizationConfig
from dynadfq.runtime.resume import Scratch
from dynadfq.training.config import EarlyStoppingConfig, SelectorTrainingConfig
from dynadfq.training.early_stopping import hold_back
from dynadfq.training.recipe import StudentRecipe
from dynadfq.training.train import train_student

RECIPE = method.Student().recipe()
NEVER = EarlyStoppingConfig(images=8, patience=100)
SOON = EarlyStoppingConfig(images=8, patience=2)
LONG = changed(SCHEDULE, epochs=8, learning_rate=0.02, early_stopping=NEVER)
PENALTY = SelectorTrainingConfig()


@pytest.fixture
def train(teacher):
    def run(student, images, schedule, recipe=RECIPE, selector=PENALTY):
        return train_student(
            student,
            teacher,
            images,
            recipe,
            QuantizationConfig(),
            schedule,
            selector,
            0,
            "float32",
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


def test_a_method_that_trains_nothing_uses_all_images(make_student, synthetic, train):
    student = make_student()
    history = train(student, synthetic, LONG, recipe=StudentRecipe())
    assert history.empty and student.provenance["images"] == 24
    assert "early_stopping" not in student.provenance
