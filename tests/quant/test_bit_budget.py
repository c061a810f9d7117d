from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from image_batches import ImageBatches
from torch import Tensor, nn

from dynadfq.quant.bit_budget import CostCurve, before_selector
from dynadfq.quant.build import load_student
from dynadfq.quant.model import Student
from dynadfq.quant.selector import BitSelector
from dynadfq.synthesis.dataset import Batch

MULTIPLIERS = [-1e4, -300.0, -30.0, -3.0, -0.3, 0.0, 0.2, 1.0, 5.0, 40.0, 400.0, 1e4]


@pytest.fixture
def student(make_student: Callable[..., Student]) -> Student:
    return make_student()


@pytest.fixture
def curve(student: Student, images: Tensor) -> CostCurve:
    return student.cost_curve(ImageBatches(images))


class Stop(Exception):
    pass


class Stopping(ImageBatches):
    """A set that stops before its second batch."""

    def batches(self, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        yield next(super().batches(batch_size, limit))
        raise Stop


def bits_at(student: Student, multiplier: float, images: Tensor) -> Tensor:
    student.multiplier = multiplier
    return student.run(images)[1]


def test_multiplier_zero_is_the_student_as_trained_bit_for_bit(
    student: Student, images: Tensor
) -> None:
    logits, bits = student.run(images)
    most_probable = []
    assert student.selector is not None
    with student.selector.register_forward_pre_hook(
        lambda _, inputs: most_probable.append(inputs[0])
    ):
        student.run(images)
    p = student.selector.probabilities(most_probable[0])
    student.multiplier = 2.5
    assert not torch.equal(student.run(images)[1], bits)
    student.multiplier = 0.0
    again, same = student.run(images)
    assert torch.equal(again, logits) and torch.equal(same, bits)
    assert torch.equal(bits, student.selector.widths[p.argmax(dim=2)])


def test_each_image_costs_no_more_at_a_higher_multiplier(student: Student, images: Tensor) -> None:
    costs = torch.stack(
        [
            student.bit_flops_percent(bits_at(student, multiplier, images))
            for multiplier in MULTIPLIERS
        ]
    )
    assert (costs.diff(dim=0) <= 0).all()
    assert len(costs.mean(dim=1).unique()) >= 6


def test_extreme_multipliers_choose_the_narrowest_and_the_widest_candidate(
    student: Student, images: Tensor
) -> None:
    costs = student.cost.per_site[1:] > 0  # a width that no layer reads is not paid for
    assert (bits_at(student, 1e4, images)[:, 1:][:, costs] == 3).all()
    assert (bits_at(student, -1e4, images)[:, 1:][:, costs] == 5).all()
    assert (student.run(images)[1][:, 0] == 5).all()
    trained = bits_at(student, 0.0, images)
    assert torch.equal(bits_at(student, 1e4, images)[:, 1:][:, ~costs], trained[:, 1:][:, ~costs])


def test_a_choice_is_argmax_of_log_p_less_multiplier_times_cost(
    student: Student, images: Tensor
) -> None:
    selector = student.selector
    assert selector is not None
    percent = [
        [
            student.cost.percent(torch.tensor([0.0] * s + [float(w)] + [0.0] * (3 - s)))
            for w in (3, 4, 5)
        ]
        for s in (1, 2, 3)
    ]
    free = float(student.cost.percent(torch.zeros(4)))
    costs = torch.tensor([[float(c) - free for c in row] for row in percent], dtype=torch.float64)
    torch.testing.assert_close(selector.costs, costs)
    x = torch.rand(9, 12, 4, 4, generator=torch.Generator().manual_seed(3))
    log_p = selector.image_logits(x).log_softmax(dim=2)
    by_hand = selector.widths[(log_p.double() - 7.0 * costs).argmax(dim=2)]
    student.multiplier = 7.0
    assert torch.equal(selector(x).bits[:, 1:], by_hand)


def test_an_images_bits_do_not_depend_on_its_batch(student: Student, images: Tensor) -> None:
    student.multiplier = 1.7
    whole = student.run(images)
    parts = [student.run(part) for part in images.split(7)]
    assert torch.equal(whole[0], torch.cat([logits for logits, _ in parts]))
    assert torch.equal(whole[1], torch.cat([bits for _, bits in parts]))


def test_the_cost_curve_predicts_what_images_cost(
    student: Student, curve: CostCurve, images: Tensor
) -> None:
    for multiplier in (-3.0, 0.0, 0.7, 40.0):
        assert torch.equal(
            curve.cost(multiplier), student.bit_flops_percent(bits_at(student, multiplier, images))
        )
    lowest, highest = (student.cost.at([5, b, b, b]).percent for b in (3, 5))
    assert curve.lowest == pytest.approx(lowest) and curve.highest == pytest.approx(highest)


def test_it_runs_as_far_as_the_selector(student: Student, images: Tensor) -> None:
    before = before_selector(student.network)
    assert not any(isinstance(module, BitSelector) for module in before.modules())
    assert before.get_submodule("conv2") is student.network.get_submodule("conv2")
    assert not hasattr(before, "conv3")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.5, 0.8, 1.0])
def test_a_budget_is_reached_from_below(
    student: Student, curve: CostCurve, images: Tensor, share: float
) -> None:
    budget = curve.lowest + share * (curve.highest - curve.lowest)
    setting = student.set_budget(budget, ImageBatches(images), batch_size=50)
    assert (
        student.multiplier == setting.multiplier
        and setting.asked == budget
        and setting.images == 256
    )
    measured = float(student.bit_flops_percent(student.run(images)[1]).mean())
    assert measured == pytest.approx(setting.bit_flops_percent, abs=1e-9)
    step = (curve.highest - curve.lowest) / 256  # one image from one end to the other
    assert budget - step <= measured <= budget + 1e-8


def test_the_trained_cost_is_multiplier_zero(student: Student, images: Tensor) -> None:
    student.multiplier = -2.0
    assert (
        student.set_budget(
            student.cost_curve(ImageBatches(images)).mean_cost(0.0), ImageBatches(images)
        ).multiplier
        == 0.0
    )


def test_a_budget_out_of_range_names_the_range(
    student: Student, curve: CostCurve, images: Tensor
) -> None:
    for budget in (curve.lowest - 0.01, curve.highest + 0.01, float("nan")):
        with pytest.raises(
            ValueError, match=r"bit_flops_percent: .* is outside .* … .* percent"
        ) as error:
            student.set_budget(budget, ImageBatches(images))
        named = [
            float(word) for word in str(error.value).split() if word.replace(".", "").isdigit()
        ]
        for bound in named[-2:]:
            student.set_budget(bound, ImageBatches(images))


def test_without_a_choice_that_costs_anything_the_one_cost_is_named(curve: CostCurve) -> None:
    constant = CostCurve(
        curve.selector, curve.logits, lambda bits: torch.full((len(bits),), 9.40567)
    )
    with pytest.raises(ValueError, match=r"7 cannot be reached: every image costs 9.4057 percent"):
        constant.setting(7.0)


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 8, 4), (1, 8, 8), (8, 8)])
def test_images_of_another_shape_are_refused(
    student: Student, curve: CostCurve, shape: tuple[int, ...]
) -> None:
    student.train().multiplier = 0.5
    sentence = "but the network reads float32 of shape (B, 3, 8, 8)"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        student.set_budget((curve.lowest + curve.highest) / 2, ImageBatches(torch.zeros(4, *shape)))
    assert student.training and student.multiplier == 0.5


def test_a_student_of_fixed_width_has_no_bit_budget(
    make_student: Callable[..., Student], images: Tensor
) -> None:
    fixed = make_student(4)
    assert fixed.multiplier == 0.0
    with pytest.raises(ValueError, match=r"multiplier: this student has a fixed width, 4 bits"):
        fixed.multiplier = 1.0
    with pytest.raises(
        ValueError, match=r"bit_flops_percent: this student has a fixed width, 4 bits"
    ):
        fixed.set_budget(2.0, ImageBatches(images))


@pytest.mark.parametrize("multiplier", [float("nan"), float("inf")])
def test_the_multiplier_must_be_finite(student: Student, multiplier: float) -> None:
    with pytest.raises(ValueError, match=r"multiplier: .* is not a finite number"):
        student.multiplier = multiplier


def test_setting_a_budget_changes_nothing_else(
    student: Student, curve: CostCurve, images: Tensor
) -> None:
    student.train()
    state = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    student.set_budget((curve.lowest + curve.highest) / 2, ImageBatches(images))
    assert student.training and student.selector is not None and student.selector.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in student.state_dict().items())
    assert "multiplier=" in repr(student.selector)


def test_the_multiplier_also_holds_in_training(student: Student, images: Tensor) -> None:
    student.selector.dropout.p = 0.0  # type: ignore[union-attr]
    student.train()
    bits = bits_at(student, 1e4, images)
    assert (bits.round()[:, 1:3] == 3).all()


@pytest.mark.parametrize("training", [True, False])
def test_a_stop_leaves_the_student_in_its_form(
    student: Student, images: Tensor, training: bool
) -> None:
    modes = [module.training for module in student.train(training).modules()]
    student.cost_curve(ImageBatches(images))
    assert [module.training for module in student.modules()] == modes
    with pytest.raises(Stop):
        student.cost_curve(Stopping(images))
    assert [module.training for module in student.modules()] == modes


def test_the_multiplier_is_saved_with_the_student(
    student: Student, make_net: Callable[[], nn.Module], images: Tensor, tmp_path: Path
) -> None:
    student.save(tmp_path / "trained")
    assert json.loads((tmp_path / "trained/student.json").read_text())["multiplier"] == 0.0
    multiplier = student.set_budget(
        student.cost_curve(ImageBatches(images)).lowest + 0.1, ImageBatches(images)
    ).multiplier
    student.save(tmp_path / "cheap")
    again = load_student(tmp_path / "cheap", module=make_net())
    assert again.multiplier == multiplier != 0.0
    assert torch.equal(again.run(images)[1], student.run(images)[1])
    weights = [
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("trained", "cheap")
    ]
    assert weights[0] == weights[1]
